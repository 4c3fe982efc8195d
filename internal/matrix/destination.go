package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/connector/files"
	"github.com/weirline/weirline/connector/kafka"
	"github.com/weirline/weirline/connector/mysql"
	"github.com/weirline/weirline/connector/objects"
	"github.com/weirline/weirline/connector/postgres"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/parts"
	"github.com/weirline/weirline/txn"
)

// destination is a column of the table.
type destination struct {
	name string

	// prepare makes the place the results go to, named by args[argOut], and sets argAddr: the server, or the directory.
	prepare func(ctx context.Context, s *services, args map[string]string) error

	// sink is what a child writes to.
	sink func(args map[string]string) sink.TwoPhase[row]

	// read returns the results a reader sees, as text, and left names what of the job is prepared, open or hidden.
	read func(ctx context.Context, s *services, args map[string]string) ([]string, error)
	left func(ctx context.Context, s *services, args map[string]string) ([]string, error)

	// server is the one to kill. Unset: there is none, or it is the broker of the input.
	server func(ctx context.Context, s *services) (server, error)

	// rollBack does what an administrator can do to a prepared transaction. expire waits until the server has rolled back all
	// of a job that is dead. Unset: it never does.
	rollBack func(ctx context.Context, s *services, args map[string]string, h sink.Handle) error
	expire   func(ctx context.Context, s *services, args map[string]string) error

	lossless bool // the sink can't accept a loss
	reader   bool // a reader of the topic looks on while processes die
	version  int  // of transactions, of the brokers; 0 = their newest
}

var destinations = []destination{toFiles, toPostgres, toLedger, toMariaDB, toKafka, toOldKafka, toS3, toRedis}

func find(name string) (destination, error) {
	i := slices.IndexFunc(destinations, func(d destination) bool { return d.name == name })
	if i < 0 {
		return destination{}, fmt.Errorf("no destination %q", name)
	}
	return destinations[i], nil
}

var columns = []string{"k", "n", "total"}

// policy is what the sink is to do about a loss.
func policy(args map[string]string) txn.Loss {
	if args[argLossy] != "" {
		return txn.AcceptLoss
	}
	return txn.FailOnLoss
}

var toFiles = destination{
	name: "files",
	prepare: func(_ context.Context, s *services, args map[string]string) error {
		args[argAddr] = filepath.Join(s.dir, args[argJob])
		return os.MkdirAll(args[argAddr], 0o755)
	},
	// Keys of a bucket come from several tasks, and few records fill a file.
	sink: func(args map[string]string) sink.TwoPhase[row] {
		return files.TxSink[row]{
			Dir: args[argAddr], Prefix: args[argOut] + "-", Rolling: parts.Rolling{Size: 200}, MaxOpen: 3, CompactBelow: 100,
			Bucket: func(dst []byte, r row) []byte { return fmt.Appendf(dst, "keys=%d/%d", r.Key%2, r.Key%4) },
		}
	},
	read: func(_ context.Context, _ *services, args map[string]string) (lines []string, _ error) {
		names, err := filepath.Glob(filepath.Join(args[argAddr], "keys=*", "*", args[argOut]+"-*"))
		for _, name := range names {
			b, rerr := os.ReadFile(name)
			err = errors.Join(err, rerr)
			lines = slices.AppendSeq(lines, strings.Lines(string(b)))
		}
		return lines, err
	},
	left: func(_ context.Context, _ *services, args map[string]string) ([]string, error) {
		left, err := filepath.Glob(filepath.Join(args[argAddr], ".*"))
		return slices.DeleteFunc(left, func(name string) bool { return strings.HasSuffix(name, ".joined") }), err // what was joined is known there
	},
	rollBack: func(_ context.Context, _ *services, args map[string]string, h sink.Handle) error {
		return os.RemoveAll(filepath.Join(args[argAddr], "."+txn.NameOf(h.Slot.Name, h.Token)+".prepared"))
	},
	lossless: true,
}

var toPostgres = destination{
	name: "postgres-xa",
	prepare: func(ctx context.Context, s *services, args map[string]string) error {
		pg, err := s.postgres(ctx)
		if err != nil {
			return err
		}
		args[argAddr] = pg.URL
		return pg.Exec(ctx, "create table "+args[argOut]+" (k int8 not null, n int8 not null, total int8 not null)")
	},
	sink: func(args map[string]string) sink.TwoPhase[row] {
		return postgres.TxSink[row]{URL: args[argAddr], Table: args[argOut], Columns: columns, Row: row.values, Lost: policy(args)}
	},
	read: func(ctx context.Context, s *services, args map[string]string) ([]string, error) {
		return s.pg.Query(ctx, "select k, n, total from "+args[argOut])
	},
	left: func(ctx context.Context, s *services, args map[string]string) ([]string, error) {
		gids, err := s.pg.Query(ctx, "select gid from pg_prepared_xacts")
		return slices.DeleteFunc(gids, func(gid string) bool { return !txn.Under(gid, args[argJob]) }), err
	},
	server: func(ctx context.Context, s *services) (server, error) { return s.postgres(ctx) },
	rollBack: func(ctx context.Context, s *services, _ map[string]string, h sink.Handle) error {
		return s.pg.Exec(ctx, fmt.Sprintf("rollback prepared '%s'", txn.NameOf(h.Slot.Name, h.Token)))
	},
}

var toLedger = destination{
	name:    "postgres-ledger",
	prepare: toPostgres.prepare,
	sink: func(args map[string]string) sink.TwoPhase[row] {
		return postgres.TxSink[row]{URL: args[argAddr], Table: args[argOut], Columns: columns, Row: row.values, Lost: policy(args), Mode: postgres.Ledger}
	},
	read: toPostgres.read,
	left: func(ctx context.Context, s *services, args map[string]string) (left []string, _ error) {
		left, err := s.pg.Query(ctx, fmt.Sprintf("select slot from weirline.ledger where slot like '%s-%%' and applied is null", args[argJob]))
		stages, serr := s.pg.Query(ctx, fmt.Sprintf("select format('weirline.%%I', relname) from pg_class where relname like 'stage\\_%s-%%'", args[argJob]))
		err = errors.Join(err, serr)
		if err == nil && len(stages) == 0 {
			return nil, errors.New("the ledger has no staging table")
		}
		for _, stage := range stages {
			rows, serr := s.pg.Query(ctx, "select 'rows in "+stage+"' from "+stage+" limit 1")
			left, err = append(left, rows...), errors.Join(err, serr)
		}
		return left, err
	},
	server: toPostgres.server,
	rollBack: func(ctx context.Context, s *services, _ map[string]string, h sink.Handle) error {
		return s.pg.Exec(ctx, fmt.Sprintf("delete from weirline.ledger where token = '%s'", h.Token))
	},
}

var toMariaDB = destination{
	name: "mariadb-xa",
	prepare: func(ctx context.Context, s *services, args map[string]string) error {
		m, err := s.mariadb(ctx)
		if err != nil {
			return err
		}
		args[argAddr] = m.DSN
		return m.Exec(ctx, "create table "+args[argOut]+" (k bigint not null, n bigint not null, total bigint not null)")
	},
	sink: func(args map[string]string) sink.TwoPhase[row] {
		return mysql.TxSink[row]{DSN: args[argAddr], Table: args[argOut], Columns: columns, Row: row.values, Lost: policy(args)}
	},
	read: func(ctx context.Context, s *services, args map[string]string) ([]string, error) {
		return s.maria.Query(ctx, "select k, n, total from "+args[argOut])
	},
	left: func(ctx context.Context, s *services, args map[string]string) ([]string, error) {
		rows, err := s.maria.Query(ctx, "xa recover") // format, two lengths, name
		return slices.DeleteFunc(rows, func(r string) bool {
			return !txn.Under(r[strings.LastIndexByte(r, '\t')+1:], args[argJob])
		}), err
	},
	server: func(ctx context.Context, s *services) (server, error) { return s.mariadb(ctx) },
	rollBack: func(ctx context.Context, s *services, _ map[string]string, h sink.Handle) error {
		rows, err := s.maria.Query(ctx, "xa recover")
		for _, r := range rows {
			x := strings.Split(r, "\t")
			if cut, cerr := strconv.Atoi(x[1]); cerr == nil && x[3] == txn.NameOf(h.Slot.Name, h.Token) {
				return s.maria.Exec(ctx, fmt.Sprintf("xa rollback '%s','%s',%s", x[3][:cut], x[3][cut:], x[0]))
			}
		}
		return errors.Join(err, fmt.Errorf("%s isn't prepared", h.Token))
	},
}

var toKafka = destination{
	name: "kafka",
	prepare: func(ctx context.Context, s *services, args map[string]string) error {
		args[argAddr] = s.broker.Addr
		return s.broker.CreateTopic(ctx, args[argOut], 2)
	},
	sink: func(args map[string]string) sink.TwoPhase[row] {
		timeout, _ := time.ParseDuration(args[argTimeout]) // unset is no error here
		return kafka.TxSink[row]{
			Brokers: []string{args[argAddr]}, Topic: args[argOut], Timeout: timeout, MaxDowntime: -1, Lost: policy(args),
			Encode: func(r row) (kafka.Record, error) {
				return kafka.Record{Key: []byte{byte(r.Key)}, Value: []byte(r.String())}, nil
			},
		}
	},
	read: func(ctx context.Context, s *services, args map[string]string) (values []string, _ error) {
		if _, err := s.open(ctx, args[argJob]); err != nil {
			return nil, err
		}
		rs, err := s.broker.ReadAll(ctx, args[argOut])
		for _, r := range rs {
			values = append(values, string(r.Value))
		}
		return values, err
	},
	left: func(ctx context.Context, s *services, args map[string]string) ([]string, error) {
		return s.open(ctx, args[argJob])
	},
	rollBack: func(ctx context.Context, s *services, _ map[string]string, h sink.Handle) error {
		cl, err := s.broker.Client(kgo.TransactionalID(h.Slot.Name))
		if err != nil {
			return err
		}
		defer cl.Close()
		_, _, err = cl.ProducerID(ctx) // takes the id over
		return err
	},
	expire: func(ctx context.Context, s *services, args map[string]string) error {
		for {
			open, err := s.open(ctx, args[argJob])
			if err != nil || len(open) == 0 {
				return err
			}
			pause(ctx, 100*time.Millisecond)
		}
	},
	reader: true,
}

// toOldKafka is the same with a broker as before KIP-890, where a producer's epoch doesn't rise with each transaction.
var toOldKafka = func() destination {
	d := toKafka
	d.name, d.version = "kafka-tv1", 1
	return d
}()

var toS3 = destination{
	name: "s3",
	prepare: func(ctx context.Context, s *services, args map[string]string) error {
		srv, err := s.s3(ctx)
		if err != nil {
			return err
		}
		args[argAddr] = srv.Addr
		return nil
	},
	sink: func(args map[string]string) sink.TwoPhase[row] {
		return objects.TxSink[row]{
			Bucket: testsvc.S3Bucket, Prefix: args[argOut], Endpoint: "http://" + args[argAddr],
			AccessKey: testsvc.S3AccessKey, SecretKey: testsvc.S3SecretKey, Lost: policy(args),
		}
	},
	read: func(ctx context.Context, s *services, args map[string]string) (lines []string, _ error) {
		all, err := s.objects.Objects(ctx, args[argOut]+"/")
		for _, text := range all {
			lines = slices.AppendSeq(lines, strings.Lines(text))
		}
		return lines, err
	},
	left: func(ctx context.Context, s *services, args map[string]string) ([]string, error) {
		return s.objects.Uploads(ctx, args[argOut]+"/")
	},
	server: func(ctx context.Context, s *services) (server, error) { return s.s3(ctx) },
	rollBack: func(ctx context.Context, s *services, args map[string]string, h sink.Handle) error {
		return s.objects.Abort(ctx, args[argOut]+"/", txn.NameOf(h.Slot.Name, h.Token))
	},
}

// open names the transactions of a job that are neither committed nor rolled back. It waits for those that are just about to be:
// they become visible a moment after the broker's answer.
func (s *services) open(ctx context.Context, job string) ([]string, error) {
	cl, err := s.broker.Client()
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		found, err := kadm.NewClient(cl).ListTransactions(ctx, nil, nil)
		if err != nil {
			return nil, err
		}
		var open, ending []string
		for id, l := range found {
			switch {
			case !txn.Under(id, job):
			case l.State == "Ongoing":
				open = append(open, id)
			case strings.HasPrefix(l.State, "Prepare"):
				ending = append(ending, id)
			}
		}
		if len(ending) == 0 {
			return open, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("transactions %q don't come to their end: %w", ending, ctx.Err())
		}
	}
}
