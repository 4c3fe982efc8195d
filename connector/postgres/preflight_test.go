package postgres

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn/txntest"
)

func TestSettings(t *testing.T) {
	good := TxSink[point]{Table: "t", Columns: []string{"id", "name"}, Row: point.row}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	cases := []struct {
		says   string
		change func(s *TxSink[point])
	}{
		{"Row is missing", func(s *TxSink[point]) { s.Row = nil }},
		{`Table is ""`, func(s *TxSink[point]) { s.Table = "" }},
		{"schema.name", func(s *TxSink[point]) { s.Table = "a.b.c" }},
		{"Columns is []", func(s *TxSink[point]) { s.Columns = nil }},
		{"each once", func(s *TxSink[point]) { s.Columns = []string{"a", "a"} }},
		{`key "x" isn't one of Columns`, func(s *TxSink[point]) { s.Keys = []string{"x"} }},
		{"name each key once", func(s *TxSink[point]) { s.Keys = []string{"id", "id"} }},
		{"AcceptLoss", func(s *TxSink[point]) { s.Lost = 7 }},
		{"postgres.XA or postgres.Ledger", func(s *TxSink[point]) { s.Mode = 2 }},
		{"set Mode to postgres.Ledger", func(s *TxSink[point]) { s.Rejects = "t2" }},
		{"set Mode to postgres.Ledger", func(s *TxSink[point]) { s.Schema = "w" }},
		{`Rejects is "a.b.c"`, func(s *TxSink[point]) { s.Mode, s.Rejects = Ledger, "a.b.c" }},
		{"URL", func(s *TxSink[point]) { s.URL = "postgres://u:secret@h:port/" }},
	}
	for _, c := range cases {
		s := good
		c.change(&s)
		_, werr := s.TxWriter(t.Context(), task())
		_, cerr := s.Committer(t.Context(), task())
		fails(t, fault.BadPipeline, c.says, s.Validate(), werr, cerr, s.Preflight(t.Context()))
		if strings.Contains(fmt.Sprint(werr), "secret") {
			t.Errorf("the password is in %v", werr)
		}
	}
}

func TestPreflight(t *testing.T) {
	pg := testsvc.NewPostgres(t, testsvc.PostgresOptions{})
	if err := pg.Exec(t.Context(), `create role reader login; create unlogged table unlogged (id int8, name text); `+
		`create table generated (id int8, name text generated always as ('x') stored); create table needy (id int8, name text, more int not null); `+
		`create table keyless (id int8, name text); create index keyless_index on keyless (id); create table cashbox (id int8, name money); `+
		`create type pair as (a int, b int); create table arrays (id int8, name pair[])`); err != nil {
		t.Fatal(err)
	}
	fine := table(t, pg, "")
	cases := []struct {
		name, says string
		change     func(s *TxSink[point])
	}{
		{"no table", "create the table", func(s *TxSink[point]) { s.Table = "nothing" }},
		{"no schema", "create the table", func(s *TxSink[point]) { s.Table = "nowhere.nothing" }},
		{"no column", `column "nam" does not exist`, func(s *TxSink[point]) { s.Columns = []string{"id", "nam"} }},
		{"generated column", "leave generated columns out", func(s *TxSink[point]) { s.Table = "generated" }},
		{"column without value", "column more of table", func(s *TxSink[point]) { s.Table = "needy" }},
		{"no unique index", "make a unique index", func(s *TxSink[point]) { s.Table, s.Keys = "keyless", []string{"id"} }},
		{"unlogged", "set logged", func(s *TxSink[point]) { s.Table = "unlogged" }},
		{"index", "isn't a table", func(s *TxSink[point]) { s.Table = "keyless_index" }},
		{"unknown type", "column name of table", func(s *TxSink[point]) { s.Table = "cashbox" }},
		{"no right", "grant the user", func(s *TxSink[point]) { s.URL = strings.Replace(s.URL, "test@", "reader@", 1) }},
		{"no database", "create the database", func(s *TxSink[point]) { s.URL = pg.For("absent") }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, mode := range []Mode{XA, Ledger} {
				s := points(pg, fine)
				s.Mode = mode
				c.change(&s)
				fails(t, fault.Preflight, c.says, s.Preflight(t.Context()))
			}
		})
	}
	for _, table := range []string{fine, "public." + fine, "arrays"} {
		if err := points(pg, table).Preflight(t.Context()); err != nil {
			t.Errorf("table %s: %v", table, err)
		}
	}
	s := points(pg, fine)
	s.URL = strings.Replace(s.URL, "test@", "nobody@", 1)
	fails(t, fault.AuthFailed, "pg_hba.conf", s.Preflight(t.Context()))
	s.URL = "postgres://test@127.0.0.1:1/postgres?sslmode=disable"
	fails(t, fault.Unreachable, "127.0.0.1:1", s.Preflight(t.Context()))
}

func TestPreparedTransactionsOff(t *testing.T) {
	pg := testsvc.NewPostgres(t, testsvc.PostgresOptions{Prepared: -1})
	s := points(pg, table(t, pg, ""))
	_, err := s.TxWriter(t.Context(), task())
	fails(t, fault.Preflight, "set max_prepared_transactions", s.Preflight(t.Context()), err)
	fails(t, fault.Preflight, "or set Mode to postgres.Ledger", s.Preflight(t.Context()), err)
	if !sink.IsPermanent(err) {
		t.Errorf("%v isn't permanent", err)
	}
}

func TestTooFewPreparedTransactions(t *testing.T) {
	pg := testsvc.NewPostgres(t, testsvc.PostgresOptions{Prepared: 2})
	s := points(pg, table(t, pg, ""))
	if err := s.Preflight(t.Context()); err != nil {
		t.Fatal(err)
	}
	many := task()
	many.Parallelism = 3
	_, err := s.TxWriter(t.Context(), many)
	fails(t, fault.Preflight, "there are 3 tasks", err)
	w, c := open(t, s)
	var hs []sink.Handle
	for i := range 2 {
		hs = append(hs, txntest.Prepare(t, w, txntest.Slot(t, i), 1, point{i, "x"}))
	}
	if err := w.Begin(t.Context(), txntest.Slot(t, 2)); err != nil {
		t.Fatal(err)
	}
	_, err = w.Prepare(t.Context(), 1)
	fails(t, fault.SinkFailed, "raise max_prepared_transactions", err)
	if sink.IsPermanent(err) {
		t.Errorf("%v is permanent, and room may come", err)
	}
	if err := c.Recover(t.Context(), hs, []sink.Slot{txntest.Slot(t, 0), txntest.Slot(t, 1), txntest.Slot(t, 2)}); err != nil {
		t.Fatal(err)
	}
}
