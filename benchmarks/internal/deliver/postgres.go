package deliver

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/weirline/weirline/benchmarks/internal/load"
	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/connector/postgres"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/source"
)

// Row is a record of a table.
type Row struct {
	ID    int64
	Key   int64
	Value int64
}

func (r Row) columns() []any {
	return []any{r.ID, "key-" + strconv.FormatInt(r.Key, 10), float64(r.Value) / 1024}
}

func makeRow(seq int64, keys uint32) Row {
	e := load.Make(seq, keys)
	return Row{seq, e.Key, e.Value}
}

func fillRows(keys uint32) func(from, step int64, n int, out *source.Batch[Row]) {
	return func(from, step int64, n int, out *source.Batch[Row]) {
		for i := range int64(n) {
			out.Values = append(out.Values, makeRow(from+i*step, keys))
		}
	}
}

// rows is the name of the table that is written; what was there is dropped.
const rows = "delivered"

var columns = []string{"id", "k", "v"}

// Table writes rows into a table with a primary key, by jobs and by the bare client.
type Table struct {
	URL     string
	Records int64
	Keys    uint32
	Rate    float64 // rows that a job makes in a second; unset: as many as it can write
}

// Sink is the sink to write with.
func (t *Table) Sink(mode postgres.Mode) sink.TwoPhase[Row] {
	return postgres.TxSink[Row]{
		URL: t.URL, Table: rows, Columns: columns, Mode: mode, Row: func(r Row) ([]any, error) { return r.columns(), nil },
	}
}

// Job writes by a job. Its clock starts when the first row is made.
func (t *Table) Job(ctx context.Context, cfg engine.Config, to sink.TwoPhase[Row]) (Outcome, error) {
	return t.job(ctx, cfg, func(made engine.Stream[Row]) { engine.ToTx(made, "table", to) })
}

func (t *Table) job(ctx context.Context, cfg engine.Config, into func(made engine.Stream[Row])) (Outcome, error) {
	conn, err := t.emptied(ctx)
	if err != nil {
		return Outcome{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	w := load.NewWatch(t.Records)
	p := engine.New(cfg)
	into(engine.From(p, "rows", gen.Source[Row]{Fill: load.Timing(w, fillRows(t.Keys)), Count: t.Records, PerSecond: t.Rate}))
	if err := p.Run(ctx); err != nil {
		return Outcome{}, err
	}
	o := Outcome{Watch: w, End: time.Now(), Status: p.Status()}
	return o, t.right(ctx, conn)
}

// Bare is what the client library takes for the same rows: a connection for each task, COPY in batches, a prepared transaction for
// each checkpoint.
func (t *Table) Bare(ctx context.Context, cfg engine.Config) (time.Duration, error) {
	return t.bare(ctx, cfg, t.bareTask)
}

func (t *Table) bare(
	ctx context.Context, cfg engine.Config, write func(ctx context.Context, conn *pgx.Conn, cfg engine.Config, task int) error,
) (time.Duration, error) {
	conn, err := t.emptied(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	began := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	for task := range cfg.Parallelism {
		g.Go(func() error {
			conn, err := pgx.Connect(gctx, t.URL)
			if err != nil {
				return err
			}
			defer conn.Close(context.WithoutCancel(gctx))
			return write(gctx, conn, cfg, task)
		})
	}
	err = g.Wait()
	took := time.Since(began)
	if err != nil {
		return 0, fmt.Errorf("bare client: %w", err)
	}
	return took, t.right(ctx, conn)
}

// emptied connects and makes the table anew. The caller closes the connection.
func (t *Table) emptied(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, t.URL)
	if err != nil {
		return nil, err
	}
	for _, sql := range []string{
		"drop table if exists " + rows, "create table " + rows + " (id bigint primary key, k text not null, v double precision not null)", "checkpoint",
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return nil, errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
		}
	}
	return conn, nil
}

// right compares the table with what it should have.
func (t *Table) right(ctx context.Context, conn *pgx.Conn) error {
	want, got, left := sums(t.Records, t.Keys), [4]int64{}, 0
	err := conn.QueryRow(ctx, "select count(*), sum(id)::bigint, sum(substr(k, 5)::bigint)::bigint, sum(v * 1024)::bigint, "+
		"(select count(*) from pg_prepared_xacts where database = current_database()) from "+rows).Scan(&got[0], &got[1], &got[2], &got[3], &left)
	if err == nil && (got != want || left > 0) {
		err = fmt.Errorf("the table has %d rows with sums of %d, and %d transactions are prepared; want %d and none", got[0], got[1:], left, want)
	}
	return err
}

// sums are the number of rows and what their columns add up to.
func sums(records int64, keys uint32) [4]int64 {
	var ids, ks, values int64
	for seq := range records {
		r := makeRow(seq, keys)
		ids, ks, values = ids+r.ID, ks+r.Key, values+r.Value
	}
	return [4]int64{records, ids, ks, values}
}

// bareBatch is how many rows the bare client copies at once: as many as a batch of the job has.
const bareBatch = 1024

// bareTask copies every so many rows of all, in transactions that last as long as an epoch.
func (t *Table) bareTask(ctx context.Context, conn *pgx.Conn, cfg engine.Config, task int) error {
	step := int64(cfg.Parallelism)
	for next, n := int64(task), 0; next < t.Records; n++ {
		if _, err := conn.Exec(ctx, "begin"); err != nil {
			return err
		}
		for began := time.Now(); next < t.Records && !due(began, cfg.CheckpointEvery); next += bareBatch * step {
			from := pgx.CopyFromSlice(int(min(bareBatch, (t.Records-next+step-1)/step)), func(i int) ([]any, error) {
				return makeRow(next+int64(i)*step, t.Keys).columns(), nil
			})
			if _, err := conn.CopyFrom(ctx, pgx.Identifier{rows}, columns, from); err != nil {
				return err
			}
		}
		gid := fmt.Sprintf("bare-%d-%d", task, n)
		for _, sql := range []string{"prepare transaction '" + gid + "'", "commit prepared '" + gid + "'"} {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return err
			}
		}
	}
	return nil
}
