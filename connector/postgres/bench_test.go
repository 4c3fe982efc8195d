package postgres_test

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/weirline/weirline/connector/postgres"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
)

const (
	benchBatch   = 1000 // rows
	benchBatches = 50   // of a transaction
)

type benchRow struct {
	ID   int64
	Name string
}

func benchRows() []benchRow {
	rs := make([]benchRow, benchBatch)
	for i := range rs {
		rs[i] = benchRow{int64(i), fmt.Sprint("customer number ", i)}
	}
	return rs
}

func benchTable(b *testing.B) *testsvc.PostgresServer {
	b.Helper()
	pg := testsvc.Postgres(b)
	if err := pg.Exec(b.Context(), "drop table if exists bench; create table bench (id int8, name text)"); err != nil {
		b.Fatal(err)
	}
	return pg
}

func report(b *testing.B) {
	b.ReportMetric(float64(b.N)*benchBatch*benchBatches/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkAppend writes one transaction an iteration and commits it.
func BenchmarkAppend(b *testing.B) {
	pg := benchTable(b)
	s := postgres.TxSink[benchRow]{
		URL: pg.URL, Table: "bench", Columns: []string{"id", "name"},
		Row: func(r benchRow) ([]any, error) { return []any{r.ID, r.Name}, nil },
	}
	task := sink.Task{Operator: "out", Log: slog.New(slog.DiscardHandler)}
	w, err := s.TxWriter(b.Context(), task)
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	c, err := s.Committer(b.Context(), task)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	batch := benchRows()
	for b.Loop() {
		if err := w.Begin(b.Context(), sink.Slot{Name: "bench-out-1"}); err != nil {
			b.Fatal(err)
		}
		for range benchBatches {
			if err := w.Write(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
		}
		h, err := w.Prepare(b.Context(), 1)
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Commit(b.Context(), []sink.Handle{h}); err != nil {
			b.Fatal(err)
		}
	}
	report(b)
}

// BenchmarkBareCopy is the limit: the client's own COPY of the same batches, prepared and committed alike, without savepoints.
func BenchmarkBareCopy(b *testing.B) {
	pg := benchTable(b)
	conn, err := pgx.Connect(b.Context(), pg.URL)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(b.Context())
	batch := benchRows()
	exec := func(sql string) {
		if _, err := conn.PgConn().Exec(b.Context(), sql).ReadAll(); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		exec("begin")
		for range benchBatches {
			from := pgx.CopyFromSlice(len(batch), func(i int) ([]any, error) { return []any{batch[i].ID, batch[i].Name}, nil })
			if _, err := conn.CopyFrom(b.Context(), pgx.Identifier{"bench"}, []string{"id", "name"}, from); err != nil {
				b.Fatal(err)
			}
		}
		exec("prepare transaction 'bench'")
		exec("commit prepared 'bench'")
	}
	report(b)
}
