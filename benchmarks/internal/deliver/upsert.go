package deliver

import (
	"context"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirline/weirline/connector/postgres"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// upsertBatch is how many rows a statement has, of the job and of the bare client.
const upsertBatch = 1000

// Upserts is the sink that replaces rows as they come.
func (t *Table) Upserts() sink.Sink[Row] {
	return postgres.Sink[Row]{
		URL: t.URL, Table: rows, Columns: columns, Keys: columns[:1], Row: func(r Row) ([]any, error) { return r.columns(), nil },
		Batching: async.Sink[Row]{MaxBatch: upsertBatch},
	}
}

// UpsertJob writes by a job, without transactions. Its clock starts when the first row is made.
func (t *Table) UpsertJob(ctx context.Context, cfg engine.Config, to sink.Sink[Row]) (Outcome, error) {
	return t.job(ctx, cfg, func(made engine.Stream[Row]) { engine.To(made, "table", to) })
}

// BareUpsert is what the client library takes for the same rows: a connection for each task, one statement after another.
func (t *Table) BareUpsert(ctx context.Context, cfg engine.Config) (time.Duration, error) {
	return t.bare(ctx, cfg, t.bareUpsertTask)
}

func (t *Table) bareUpsertTask(ctx context.Context, conn *pgx.Conn, cfg engine.Config, task int) error {
	const upsert = "insert into " + rows + " (id, k, v) select * from unnest($1::bigint[], $2::text[], $3::float8[]) " +
		"on conflict (id) do update set k = excluded.k, v = excluded.v"
	var ids []int64
	var ks []string
	var vs []float64
	step := int64(cfg.Parallelism)
	for next := int64(task); next < t.Records; {
		ids, ks, vs = ids[:0], ks[:0], vs[:0]
		for ; next < t.Records && len(ids) < upsertBatch; next += step {
			r := makeRow(next, t.Keys)
			ids, ks, vs = append(ids, r.ID), append(ks, "key-"+strconv.FormatInt(r.Key, 10)), append(vs, float64(r.Value)/1024)
		}
		if _, err := conn.Exec(ctx, upsert, ids, ks, vs); err != nil {
			return err
		}
	}
	return nil
}
