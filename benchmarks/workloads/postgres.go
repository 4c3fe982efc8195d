package main

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
	"github.com/weirline/weirline/source"
)

// row is a record of w6.
type row struct {
	ID    int64
	Key   int64
	Value int64
}

func (r row) columns() []any {
	return []any{r.ID, "key-" + strconv.FormatInt(r.Key, 10), float64(r.Value) / 1024}
}

func makeRow(seq int64, keys uint32) row {
	e := load.Make(seq, keys)
	return row{seq, e.Key, e.Value}
}

func fillRows(keys uint32) func(from, step int64, n int, out *source.Batch[row]) {
	return func(from, step int64, n int, out *source.Batch[row]) {
		for i := range int64(n) {
			out.Values = append(out.Values, makeRow(from+i*step, keys))
		}
	}
}

// table writes rows into a table, exactly once by prepared transactions, between two runs of the bare client, of which the
// faster one counts.
func table(ctx context.Context, o options) (result, error) {
	conn, err := pgx.Connect(ctx, o.postgres)
	if err != nil {
		return result{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	before, err := bareTable(ctx, conn, o)
	if err != nil {
		return result{}, err
	}
	r, err := ourTable(ctx, conn, o)
	if err != nil {
		return result{}, err
	}
	after, err := bareTable(ctx, conn, o)
	r.beside(min(before, after))
	return r, err
}

func ourTable(ctx context.Context, conn *pgx.Conn, o options) (result, error) {
	if err := emptied(ctx, conn); err != nil {
		return result{}, err
	}
	w := load.NewWatch(o.records)
	p := engine.New(config(o))
	rows := engine.From(p, "rows", gen.Source[row]{Fill: load.Timing(w, fillRows(o.keys)), Count: o.records})
	engine.ToTx(rows, "table", postgres.TxSink[row]{
		URL: o.postgres, Table: "w6", Columns: []string{"id", "k", "v"},
		Row: func(r row) ([]any, error) { return r.columns(), nil },
	})
	if err := p.Run(ctx); err != nil {
		return result{}, err
	}
	r := measured(o, w, time.Now(), p.Status())
	r.OutCount = o.records
	var err error
	r.OK, err = rightRows(ctx, conn, o)
	return r, err
}

// bareTable is what the bare client takes for it.
func bareTable(ctx context.Context, conn *pgx.Conn, o options) (time.Duration, error) {
	if err := emptied(ctx, conn); err != nil {
		return 0, err
	}
	took, err := bareCopies(ctx, o)
	if err != nil {
		return 0, fmt.Errorf("bare client: %w", err)
	}
	ok, err := rightRows(ctx, conn, o)
	if err == nil && !ok {
		err = errors.New("the bare client's rows are wrong")
	}
	return took, err
}

func emptied(ctx context.Context, conn *pgx.Conn) error {
	for _, sql := range []string{
		"drop table if exists w6", "create table w6 (id bigint primary key, k text not null, v double precision not null)", "checkpoint",
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// rightRows compares the table with what it should have.
func rightRows(ctx context.Context, conn *pgx.Conn, o options) (bool, error) {
	var ids, keys, values int64
	for seq := range o.records {
		r := makeRow(seq, o.keys)
		ids, keys, values = ids+r.ID, keys+r.Key, values+r.Value
	}
	var got [5]int64
	err := conn.QueryRow(ctx, "select count(*), sum(id)::bigint, sum(substr(k, 5)::bigint)::bigint, sum(v * 1024)::bigint, "+
		"(select count(*) from pg_prepared_xacts where database = current_database()) from w6").Scan(&got[0], &got[1], &got[2], &got[3], &got[4])
	return got == [5]int64{o.records, ids, keys, values, 0}, err
}

// bareBatch is how many rows the bare client copies at once: as many as a batch of the job has.
const bareBatch = 1024

// bareCopies is what the client library takes for the same rows: a connection for each task, COPY in batches, a prepared
// transaction each second.
func bareCopies(ctx context.Context, o options) (time.Duration, error) {
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for task := range int64(o.parallelism) {
		g.Go(func() error {
			conn, err := pgx.Connect(ctx, o.postgres)
			if err != nil {
				return err
			}
			defer conn.Close(context.WithoutCancel(ctx))
			return bareTask(ctx, conn, o, task)
		})
	}
	err := g.Wait()
	return time.Since(began), err
}

func bareTask(ctx context.Context, conn *pgx.Conn, o options, task int64) error {
	step := int64(o.parallelism)
	for next, n := task, 0; next < o.records; n++ {
		if _, err := conn.Exec(ctx, "begin"); err != nil {
			return err
		}
		for end := time.Now().Add(o.checkpoint); next < o.records && time.Now().Before(end); {
			from := pgx.CopyFromSlice(int(min(bareBatch, (o.records-next+step-1)/step)), func(i int) ([]any, error) {
				return makeRow(next+int64(i)*step, o.keys).columns(), nil
			})
			if _, err := conn.CopyFrom(ctx, pgx.Identifier{"w6"}, []string{"id", "k", "v"}, from); err != nil {
				return err
			}
			next += bareBatch * step
		}
		gid := fmt.Sprintf("bare-%d-%d", task, n)
		if _, err := conn.Exec(ctx, "prepare transaction '"+gid+"'"); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, "commit prepared '"+gid+"'"); err != nil {
			return err
		}
	}
	return nil
}
