package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

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

// sinkRun makes a function that writes one transaction and commits it.
func sinkRun(b *testing.B, s postgres.TxSink[benchRow]) func() {
	b.Helper()
	s.Table, s.Columns = "bench", []string{"id", "name"}
	s.Row = func(r benchRow) ([]any, error) { return []any{r.ID, r.Name}, nil }
	task := sink.Task{Operator: "out", Log: slog.New(slog.DiscardHandler)}
	w, werr := s.TxWriter(b.Context(), task)
	c, cerr := s.Committer(b.Context(), task)
	if err := errors.Join(werr, cerr); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := errors.Join(w.Close(), c.Close()); err != nil {
			b.Error(err)
		}
	})
	batch := benchRows()
	return func() {
		err := w.Begin(b.Context(), sink.Slot{Name: "bench-out-1"})
		for range benchBatches {
			err = errors.Join(err, w.Write(b.Context(), batch))
		}
		h, perr := w.Prepare(b.Context(), 1)
		if err := errors.Join(err, perr, c.Commit(b.Context(), []sink.Handle{h})); err != nil {
			b.Fatal(err)
		}
	}
}

// bareRun makes a function that does what is the limit: the client's own COPY of the same batches, prepared and committed alike,
// without savepoints.
func bareRun(b *testing.B, pg *testsvc.PostgresServer) func() {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), pg.URL)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close(context.Background()) })
	batch := benchRows()
	exec := func(sql string) {
		if _, err := conn.PgConn().Exec(b.Context(), sql).ReadAll(); err != nil {
			b.Fatal(err)
		}
	}
	return func() {
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
}

// beside runs the case and its limit in turn, and reports the time of one by the time of the other.
func beside(b *testing.B, run, limit func()) {
	b.Helper()
	run() // what is made once, and read into caches
	limit()
	var ratios []float64
	for b.Loop() {
		began := time.Now()
		run()
		took := time.Since(began)
		b.StopTimer()
		began = time.Now()
		limit()
		ratios = append(ratios, float64(took)/float64(time.Since(began)))
		b.StartTimer()
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "xlimit")
	report(b)
}

// BenchmarkAppend writes one transaction an iteration and commits it.
func BenchmarkAppend(b *testing.B) {
	pg := benchTable(b)
	beside(b, sinkRun(b, postgres.TxSink[benchRow]{URL: pg.URL}), bareRun(b, pg))
}

// BenchmarkLedger does it by the ledger: rows are staged, and then moved.
func BenchmarkLedger(b *testing.B) {
	pg := benchTable(b)
	beside(b, sinkRun(b, postgres.TxSink[benchRow]{URL: pg.URL, Mode: postgres.Ledger}), bareRun(b, pg))
}
