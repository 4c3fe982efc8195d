package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/files"
	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/connector/kafka"
	"github.com/weirline/weirline/connector/mysql"
	"github.com/weirline/weirline/connector/objects"
	"github.com/weirline/weirline/connector/postgres"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn/txntest"
)

const txnRecords = 4_000

// txnApp writes numbers into a table, a topic or files, exactly once, and dies where it is told.
func txnApp() App {
	var (
		die, gate string
		without   bool
		rate      float64
		attempts  int
		to        destination
	)
	return App{
		Name: "books",
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&die, "die", "", "`step` at which the process dies")
			to.declare(fs)
			fs.StringVar(&gate, "gate", "", "`file` that must be there before anything is committed")
			fs.BoolVar(&without, "without", false, "leave the sink out")
			fs.Float64Var(&rate, "rate", 200_000, "numbers a second")
			fs.IntVar(&attempts, "attempts", 0, "`number` of restarts")
		},
		Build: func(_ context.Context, e *Env) (*engine.Pipeline, error) {
			child, cfg := txntest.NewChild(txntest.Step(die)), e.Config
			cfg.Store, cfg.Restart.Attempts = child.Store(cfg.Dir), attempts
			p := engine.New(cfg)
			numbers := engine.From(p, "numbers", gen.Source[int64]{
				Make: func(n int64) int64 { return n }, Count: txnRecords, PerSecond: rate, Splits: 2,
			})
			if !without {
				engine.ToTx(numbers, "out", slain{txntest.Wrap(child, to.sink()), child, gate})
			}
			return p, nil
		},
	}
}

// destination is what the numbers are written to.
type destination struct {
	url, dsn, table, broker, topic, out, s3 string
	ledger                                  bool
	timeout, down                           time.Duration
}

func (d *destination) declare(fs *flag.FlagSet) {
	fs.StringVar(&d.url, "url", "", "`address` of a PostgreSQL server")
	fs.BoolVar(&d.ledger, "ledger", false, "there by a ledger")
	fs.StringVar(&d.dsn, "dsn", "", "`address` of a MariaDB server")
	fs.StringVar(&d.table, "table", "", "`name` of the table")
	fs.StringVar(&d.broker, "broker", "", "`address` of a Kafka broker")
	fs.StringVar(&d.topic, "topic", "", "`name` of the topic")
	fs.DurationVar(&d.down, "down", 0, "`time` that the job may be down meanwhile")
	fs.DurationVar(&d.timeout, "tx-timeout", 0, "`time` after which Kafka rolls a transaction back")
	fs.StringVar(&d.s3, "s3", "", "`address` of an object store, where -table is a prefix")
	fs.StringVar(&d.out, "out", "", "`directory` for files, if there is no server")
}

func (d *destination) sink() sink.TwoPhase[int64] {
	row := func(n int64) ([]any, error) { return []any{n}, nil }
	switch {
	case d.url != "" && d.ledger:
		return postgres.TxSink[int64]{URL: d.url, Table: d.table, Columns: []string{"n"}, Row: row, Mode: postgres.Ledger}
	case d.url != "":
		return postgres.TxSink[int64]{URL: d.url, Table: d.table, Columns: []string{"n"}, Row: row}
	case d.dsn != "":
		return mysql.TxSink[int64]{DSN: d.dsn, Table: d.table, Columns: []string{"n"}, Row: row}
	case d.broker != "":
		return kafka.TxSink[int64]{Brokers: []string{d.broker}, Topic: d.topic, Timeout: d.timeout, MaxDowntime: d.down, Encode: func(n int64) (kafka.Record, error) {
			return kafka.Record{Value: strconv.AppendInt(nil, n, 10)}, nil
		}}
	case d.s3 != "":
		return objects.TxSink[int64]{
			Bucket: testsvc.S3Bucket, Prefix: d.table, Endpoint: "http://" + d.s3, AccessKey: testsvc.S3AccessKey, SecretKey: testsvc.S3SecretKey,
		}
	}
	return files.TxSink[int64]{Dir: d.out}
}

// beforeCommit is the step after a pointer that names transactions.
const beforeCommit = "before the commit"

// slain is a sink whose committer may die before it has done anything.
type slain struct {
	sink.TwoPhase[int64]
	c    *txntest.Child
	gate string
}

// Unwrap shows the sink inside, which has a preflight.
func (s slain) Unwrap() any { return s.TwoPhase }

func (s slain) Committer(ctx context.Context, t sink.Task) (sink.Committer, error) {
	c, err := s.TwoPhase.Committer(ctx, t)
	return slainCommitter{c, s}, err
}

type slainCommitter struct {
	sink.Committer
	s slain
}

func (c slainCommitter) Unwrap() any { return c.Committer }

func (c slainCommitter) Commit(ctx context.Context, hs []sink.Handle) error {
	c.s.c.At(beforeCommit)
	if _, err := os.Stat(c.s.gate); c.s.gate != "" && err != nil {
		return err // it is asked again
	}
	return c.Committer.Commit(ctx, hs)
}

// books is a job with its state and its destination.
type books struct {
	t     *testing.T
	args  []string
	clear func() string // says what is wrong in the destination; with the job at its end
	lines func() int    // that can be seen there
}

// run runs a command of the binary to its end.
func (b books) run(code int, args ...string) (stdout, stderr string) {
	b.t.Helper()
	return start(b.t, []string{childVar + "=books"}, append(args, b.args...)...).end(code)
}

// dies runs the job until it is killed at a step.
func (b books) dies(at txntest.Step) {
	b.t.Helper()
	c := start(b.t, []string{childVar + "=books"}, append(b.args, "-die", string(at), "-rate", "5000")...)
	for range c.lines { // until it is dead
	}
	if err := c.cmd.Wait(); !txntest.Killed(err) {
		b.t.Fatalf("%s: it wasn't killed: %v\n%s", at, err, c.said())
	}
}

// ends runs the job to its end, where each number must be once.
func (b books) ends(args ...string) (stderr string) {
	b.t.Helper()
	_, stderr = b.run(exitDone, args...)
	if bad := b.clear(); bad != "" {
		b.t.Errorf("at the end: %s\n%s", bad, stderr)
	}
	return stderr
}

// destinations each make a job of their own.
func destinations() map[string]func(t *testing.T) books {
	return map[string]func(t *testing.T) books{
		"postgres": func(t *testing.T) books {
			return postgresBooks(t, testsvc.Postgres(t), "select count(*) from pg_prepared_xacts")
		},
		"ledger": func(t *testing.T) books {
			return postgresBooks(t, testsvc.Postgres(t), "select count(*) from weirline.ledger where applied is null", "-ledger")
		},
		"mysql": func(t *testing.T) books { return mariaBooks(t, testsvc.MariaDB(t)) },
		"objects": func(t *testing.T) books {
			srv, prefix := testsvc.S3(t), tableOf(t)
			b := newBooks(t, "-s3", srv.Addr, "-table", prefix)
			b.clear = func() string {
				all, err := srv.Objects(context.Background(), prefix+"/")
				left, lerr := srv.Uploads(context.Background(), prefix+"/")
				lines, seen := 0, map[string]bool{}
				for _, text := range all {
					for l := range strings.Lines(text) {
						lines++
						seen[l] = true
					}
				}
				if err != nil || lerr != nil || lines != txnRecords || len(seen) != txnRecords || len(left) > 0 {
					return fmt.Sprintf("%d lines, %d different, %v, want %d; uploads: %q, %v", lines, len(seen), err, txnRecords, left, lerr)
				}
				return ""
			}
			return b
		},
		"files": func(t *testing.T) books {
			out := t.TempDir()
			b := newBooks(t, "-out", out)
			b.lines = func() int { return len(linesIn(t, out)) }
			b.clear = func() string {
				seen := map[string]bool{}
				lines := linesIn(t, out)
				for _, l := range lines {
					seen[l] = true
				}
				hidden, err := filepath.Glob(filepath.Join(out, ".*"))
				if err != nil || len(lines) != txnRecords || len(seen) != txnRecords || len(hidden) > 0 {
					return fmt.Sprintf("%d lines, %d different, want %d; hidden: %q, %v", len(lines), len(seen), txnRecords, hidden, err)
				}
				return ""
			}
			return b
		},
	}
}

// postgresBooks writes into a table, where waiting asks for the number of transactions that aren't finished.
func postgresBooks(t *testing.T, pg *testsvc.PostgresServer, waiting string, args ...string) books {
	t.Helper()
	table := tableOf(t)
	if err := pg.Exec(t.Context(), "drop table if exists "+table+"; create table "+table+" (n int8 not null)"); err != nil {
		t.Fatal(err)
	}
	ask := func(q string) string {
		got, err := pg.Query(context.Background(), q)
		if err != nil || len(got) != 1 {
			t.Fatal(q, got, err)
		}
		return got[0]
	}
	b := newBooks(t, append(args, "-url", pg.URL, "-table", table)...)
	b.lines = func() (n int) {
		fmt.Sscan(ask("select count(*) from "+table), &n) //nolint:errcheck // 0 then
		return n
	}
	b.clear = func() string {
		got := ask("select count(*) - count(distinct n), count(*), (" + waiting + ") from " + table)
		if want := fmt.Sprintf("0\t%d\t0", txnRecords); got != want {
			return fmt.Sprintf("repetitions, rows, waiting: %q, want %q", got, want)
		}
		return ""
	}
	return b
}

func mariaBooks(t *testing.T, m *testsvc.MariaDBServer) books {
	t.Helper()
	table := tableOf(t)
	if err := m.Exec(t.Context(), "create table "+table+" (n bigint not null)"); err != nil {
		t.Fatal(err)
	}
	b := newBooks(t, "-dsn", m.DSN, "-table", table)
	b.clear = func() string {
		got, err := m.Query(context.Background(), "select count(*) - count(distinct n), count(*) from "+table)
		left, lerr := m.Query(context.Background(), "xa recover")
		if want := fmt.Sprintf("0\t%d", txnRecords); err != nil || lerr != nil || len(got) != 1 || got[0] != want || len(left) > 0 {
			return fmt.Sprintf("repetitions, rows: %q, %v, want %q; prepared: %q, %v", got, err, want, left, lerr)
		}
		return ""
	}
	return b
}

func tableOf(t *testing.T) string {
	return "books_" + strings.ToLower(regexp.MustCompile(`\W`).ReplaceAllString(t.Name(), "_"))
}

func newBooks(t *testing.T, args ...string) books {
	return books{t: t, args: append(args, "-state", filepath.Join(t.TempDir(), "state"), "-parallelism", "1", "-checkpoint", "400ms")}
}

func linesIn(t *testing.T, dir string) (lines []string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "part-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.Fields(string(data))...)
	}
	return lines
}

var (
	tokens = regexp.MustCompile(`-[0-9a-f]{32}`)
	ages   = regexp.MustCompile(`[0-9.]+(ms|s)\b`)
	epochs = regexp.MustCompile(`(epoch|checkpoint) [0-9]+`)
	column = regexp.MustCompile(`(?m)^(\w+ +)[0-9]+ +AGE +`)
	blanks = regexp.MustCompile(` {2,}`)
)

// stable is an output without what differs from run to run.
func stable(out string) string {
	out = tokens.ReplaceAllString(out, "-TOKEN")
	out = ages.ReplaceAllString(out, "AGE")
	out = epochs.ReplaceAllString(out, "$1 N")
	out = column.ReplaceAllString(out, "${1}N  AGE  ")
	return blanks.ReplaceAllString(out, "  ")
}

// TestTxnAfterADeath kills a job at a step, looks at what it says of it, does what is right, and runs the job to its end.
func TestTxnAfterADeath(t *testing.T) {
	for name, open := range destinations() {
		for _, c := range []struct {
			step  txntest.Step
			right string // "" = nothing is left
			wrong string // is refused
		}{
			{txntest.AfterPrepare, "abort", "commit"},
			{beforeCommit, "commit", "abort"},
			{txntest.BeforeRecorded, "commit", "abort"},
			{txntest.AfterRecorded, "", ""},
		} {
			t.Run(name+"/"+strings.ReplaceAll(string(c.step), " ", "-"), func(t *testing.T) {
				b := open(t)
				b.dies(c.step)
				list, _ := b.run(exitDone, "txn", "list")
				why, _ := b.run(exitDone, "txn", "explain")
				txnGolden(t, strings.ReplaceAll(string(c.step), " ", "-"), stable(list+why))
				if c.right == "" {
					b.ends()
					return
				}
				var left []leftover
				if out, _ := b.run(exitDone, "txn", "list", "-json"); json.Unmarshal([]byte(out), &left) != nil || len(left) != 1 {
					t.Fatalf("not one transaction in JSON: %s", out)
				}
				forced := []string{childVar + "=books", "BOOKS_FORCE=true"} // which the environment can't do
				_, no := start(t, forced, append([]string{"txn", c.wrong, left[0].Name}, b.args...)...).end(exitUsage)
				if !strings.Contains(no, "WL1504") {
					t.Errorf("%s is refused by %s", c.wrong, no)
				}
				if none, _ := b.run(exitDone, "txn", c.wrong, "-all"); none != "nothing to "+c.wrong+"\n" {
					t.Errorf("%s -all says %q", c.wrong, none)
				}
				if done, _ := b.run(exitDone, "txn", c.right, "-all"); !strings.HasPrefix(done, left[0].Name+": ") {
					t.Errorf("%s -all says %q", c.right, done)
				}
				if again, _ := b.run(exitDone, "txn", "list"); !strings.HasPrefix(again, "nothing is left of job books") {
					t.Errorf("left afterwards: %s", again)
				}
				if said := b.ends(); strings.Contains(said, "committed what the restored epoch") {
					t.Errorf("the restarted job committed again:\n%s", said)
				}
			})
		}
	}
}

// txnGolden compares with the golden file of the step, the same for every destination.
func txnGolden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "txn-"+name+".txt")
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal([]byte(got), want) {
		t.Errorf("%s differs; run the test with -rewrite if that is meant. Got:\n%s", file, got)
	}
}

func TestTxnOfALivingJob(t *testing.T) {
	b := destinations()["postgres"](t)
	gate := filepath.Join(t.TempDir(), "gate")
	job := start(t, []string{childVar + "=books"}, append(b.args, "-gate", gate)...)
	job.await("commit failed; it is retried")
	var left []leftover
	out, _ := b.run(exitDone, "txn", "list", "-json")
	if err := json.Unmarshal([]byte(out), &left); err != nil || len(left) == 0 {
		t.Fatal(out, err)
	}
	if left[0].Action != leave || !strings.Contains(left[0].Why, "the job is running") {
		t.Errorf("of a living job: %+v", left[0])
	}
	for _, do := range []string{"commit", "abort"} {
		if _, no := b.run(exitHeld, "txn", do, "-all"); !strings.Contains(no, "WL1101") {
			t.Errorf("%s is refused by %s", do, no)
		}
	}
	if done, _ := b.run(exitDone, "txn", "commit", left[0].Name, "-force"); !strings.Contains(done, ": committed; not recorded") || b.lines() == 0 {
		t.Errorf("by force, beside the job: %q, %d rows", done, b.lines())
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	job.end(exitDone)
	if bad := b.clear(); bad != "" {
		t.Error(bad)
	}
}

// TestTxnForced gives up a transaction that a checkpoint has: its records are gone, and the job goes on without them.
func TestTxnForced(t *testing.T) {
	b := destinations()["postgres"](t)
	b.dies(beforeCommit)
	var left []leftover
	out, _ := b.run(exitDone, "txn", "list", "-json")
	if err := json.Unmarshal([]byte(out), &left); err != nil || len(left) != 1 {
		t.Fatal(out, err)
	}
	b.run(exitDone, "txn", "abort", left[0].Name, "-force")
	if _, stderr := b.run(exitDone); strings.Contains(stderr, "WL1305") || b.lines() == 0 || b.lines() >= txnRecords {
		t.Errorf("%d rows at the end, of %d\n%s", b.lines(), txnRecords, stderr)
	}
}

// TestTxnOfADroppedOperator leaves out the sink whose transactions wait.
func TestTxnOfADroppedOperator(t *testing.T) {
	b := destinations()["postgres"](t)
	b.dies(beforeCommit)
	if _, no := b.run(exitUsage, "-without"); !strings.Contains(no, "WL1111") || !strings.Contains(no, "txn commit") {
		t.Errorf("a start without the sink: %s", no)
	}
	list, _ := b.run(exitDone, "txn", "list", "-without")
	why, _ := b.run(exitDone, "txn", "explain", "-without")
	txnGolden(t, "dropped", stable(list+why))
	fields := strings.Fields(strings.Split(list, "\n")[1])
	if _, no := b.run(exitUsage, "txn", "commit", fields[len(fields)-1], "-without"); !strings.Contains(no, "WL1111") {
		t.Errorf("a commit without the sink: %s", no)
	}
	if _, no := b.run(exitUsage, "txn", "abort", fields[len(fields)-1], "-without"); !strings.Contains(no, "WL1111") || !strings.Contains(no, "-force") {
		t.Errorf("an abort without the sink: %s", no)
	}
	b.run(exitDone, "txn", "commit", "-all")
	if b.lines() == 0 {
		t.Error("nothing was committed")
	}
	b.run(exitDone, "-without")
}

// TestTxnOfADestinationThatIsGone gives up, by name and by force, what only a sink could finish that the pipeline lacks.
func TestTxnOfADestinationThatIsGone(t *testing.T) {
	b := destinations()["postgres"](t)
	b.dies(beforeCommit)
	list, _ := b.run(exitDone, "txn", "list", "-without")
	fields := strings.Fields(strings.Split(list, "\n")[1])
	if done, _ := b.run(exitDone, "txn", "abort", fields[len(fields)-1], "-without", "-force"); !strings.Contains(done, "given up") {
		t.Errorf("by force: %s", done)
	}
	b.run(exitDone, "-without")
}

func TestTxnUsage(t *testing.T) {
	b := destinations()["files"](t)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"txn"}, "txn list|explain|commit|abort"},
		{[]string{"txn", "burn"}, "list, explain, commit, abort"},
		{[]string{"txn", "commit"}, "-all"},
		{[]string{"txn", "abort", "x", "-all"}, "-all"},
		{[]string{"txn", "list"}, "WL1113"},
		{[]string{"txn", "commit", "-all"}, "WL1113"},
	} {
		if _, no := b.run(exitUsage, c.args...); !strings.Contains(no, c.want) {
			t.Errorf("%v says %s", c.args, no)
		}
	}
	b.dies(beforeCommit)
	if _, no := b.run(exitUsage, "txn", "commit", "nobody"); !strings.Contains(no, `"nobody"`) {
		t.Errorf("an unknown name: %s", no)
	}
}
