package mysql_test

import (
	"database/sql"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/weirline/weirline/connector/mysql"
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

func benchTable(b *testing.B) *testsvc.MariaDBServer {
	b.Helper()
	m := testsvc.MariaDB(b)
	if err := m.Exec(b.Context(), "drop table if exists bench; create table bench (id bigint, name text)"); err != nil {
		b.Fatal(err)
	}
	return m
}

func report(b *testing.B) {
	b.ReportMetric(float64(b.N)*benchBatch*benchBatches/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkAppend writes one transaction an iteration and commits it.
func BenchmarkAppend(b *testing.B) {
	m := benchTable(b)
	s := mysql.TxSink[benchRow]{
		DSN: m.DSN, Table: "bench", Columns: []string{"id", "name"},
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

// bare writes the same batches by the client's own means, in an XA transaction on one connection.
func bare(b *testing.B, dsn string, insert func(c *sql.Conn, sql string) (func(args []any) error, error)) {
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	c, err := db.Conn(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	batch := benchRows()
	write, err := insert(c, "insert into bench (id, name) values (?, ?)"+strings.Repeat(", (?, ?)", benchBatch-1))
	if err != nil {
		b.Fatal(err)
	}
	args := make([]any, 0, 2*benchBatch)
	for b.Loop() {
		for _, step := range []string{"xa start 'bench'", "", "xa end 'bench'", "xa prepare 'bench'", "xa commit 'bench'"} {
			if step != "" {
				if _, err := c.ExecContext(b.Context(), step); err != nil {
					b.Fatal(err)
				}
				continue
			}
			for range benchBatches {
				args = args[:0]
				for _, r := range batch {
					args = append(args, r.ID, r.Name)
				}
				if err := write(args); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	report(b)
}

// BenchmarkBareText is the limit: INSERT with the values put into its text by the client.
func BenchmarkBareText(b *testing.B) {
	bare(b, benchTable(b).DSN+"?interpolateParams=true", func(c *sql.Conn, sql string) (func([]any) error, error) {
		return func(args []any) error {
			_, err := c.ExecContext(b.Context(), sql, args...)
			return err
		}, nil
	})
}

// BenchmarkBarePrepared is the other way to do it: a prepared INSERT of a whole batch.
func BenchmarkBarePrepared(b *testing.B) {
	bare(b, benchTable(b).DSN, func(c *sql.Conn, sql string) (func([]any) error, error) {
		stmt, err := c.PrepareContext(b.Context(), sql)
		return func(args []any) error {
			_, err := stmt.ExecContext(b.Context(), args...)
			return err
		}, err
	})
}
