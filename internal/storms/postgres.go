package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/weirline/weirline/connector/postgres"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// The storms of PostgreSQL.
var (
	cutFromTable    = tableHarm{func(_ context.Context, d *database) error { d.proxy.Cut(); return nil }, healTable}
	silentFromTable = tableHarm{func(_ context.Context, d *database) error { return d.proxy.Silence() }, healTable}
	lockedTable     = tableHarm{
		func(ctx context.Context, d *database) error {
			return d.exec(ctx, "begin; lock table arrived in exclusive mode")
		},
		func(ctx context.Context, d *database) error { return d.exec(ctx, "rollback") },
	}
	killedServer = tableHarm{
		func(_ context.Context, d *database) error { d.server.Kill(); return nil },
		func(ctx context.Context, d *database) error { return d.server.Restart(ctx) },
	}
)

var hostPort = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// tableHarm is what is done to a PostgreSQL server or the network before it.
type tableHarm struct {
	begin, end func(ctx context.Context, d *database) error
}

func healTable(ctx context.Context, d *database) error { return d.proxy.Heal(ctx) }

// database is a real PostgreSQL behind a bad network, with a row for each record.
type database struct {
	server *testsvc.PostgresServer
	proxy  *testsvc.Proxy
	conn   *pgx.Conn // around the network; nil while there is none
	harm   tableHarm
	last   tally // counted while the server lived
}

// table is a PostgreSQL to which harm is done.
func table(h tableHarm) func(t *trial) (destination, error) {
	return func(t *trial) (destination, error) {
		ctx := context.Background()
		s, err := testsvc.StartPostgres(ctx, filepath.Join(t.dir, strings.ReplaceAll(t.storm.name, "/", "-")+"-data"), testsvc.PostgresOptions{})
		if err != nil {
			return nil, err
		}
		d := &database{server: s, harm: h}
		upstream := hostPort.FindString(s.URL)
		if d.proxy, err = testsvc.StartProxy("127.0.0.1:0", upstream); err == nil {
			err = s.Exec(ctx, "create table arrived (id int8 primary key, shard int4 not null)")
		}
		if err != nil {
			d.close()
			return nil, err
		}
		return d, nil
	}
}

func (d *database) close() {
	if d.conn != nil {
		_ = d.conn.Close(context.Background())
	}
	if d.proxy != nil {
		d.proxy.Cut()
	}
	d.server.Kill()
}

func (d *database) storm(ctx context.Context) error { return d.harm.begin(ctx, d) }
func (d *database) heal(ctx context.Context) error  { return d.harm.end(ctx, d) }

// exec keeps its session.
func (d *database) exec(ctx context.Context, sql string) (err error) {
	if d.conn == nil {
		if d.conn, err = pgx.Connect(ctx, d.server.URL); err != nil {
			return err
		}
	}
	_, err = d.conn.Exec(ctx, sql)
	return err
}

// sink has one shard: the server.
func (d *database) sink(a async.Sink[record]) sink.Sink[record] {
	a.Shard = nil
	a.MaxBatch, a.MaxInFlight = 4*shards*maxBatch, 8
	a.Key = func(v record) string { return strconv.FormatInt(v.ID, 10) } // no order among them, so several batches on their way
	return postgres.Sink[record]{
		URL:   strings.ReplaceAll(d.server.URL, hostPort.FindString(d.server.URL), d.proxy.Addr),
		Table: "arrived", Columns: []string{"id", "shard"}, Keys: []string{"id"}, Batching: a,
		Row: func(v record) ([]any, error) { return []any{v.ID, v.Shard}, nil },
	}
}

// count says again what it said last while the server is down.
func (d *database) count(ctx context.Context) (t tally, err error) {
	lines, err := d.server.Query(ctx, "select shard, count(*) from arrived group by shard")
	if err != nil {
		return d.last, nil //nolint:nilerr // killed
	}
	for _, l := range lines {
		var shard int
		var n int64
		if _, err := fmt.Sscan(l, &shard, &n); err != nil || shard < 0 || shard >= shards {
			return t, errors.Join(fmt.Errorf("postgres says %q", l), err)
		}
		t.records[shard] = n
	}
	d.last = t
	return t, nil
}

// times can't tell how often a row was written.
func (d *database) times(ctx context.Context) ([]uint32, error) {
	lines, err := d.server.Query(ctx, "select id from arrived")
	if err != nil {
		return nil, err
	}
	n := make([]uint32, mostRecords)
	for _, l := range lines {
		id, err := strconv.ParseInt(l, 10, 64)
		if err != nil || id < 0 || id >= mostRecords {
			return nil, fmt.Errorf("postgres has %q", l)
		}
		n[id]++
	}
	return n, nil
}
