package mysql

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn/txntest"
)

func TestSettings(t *testing.T) {
	good := TxSink[point]{DSN: "u@tcp(h:1)/d", Table: "t", Columns: []string{"id", "name"}, Row: point.row}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	cases := []struct {
		says   string
		change func(s *TxSink[point])
	}{
		{"Row is missing", func(s *TxSink[point]) { s.Row = nil }},
		{`Table is ""`, func(s *TxSink[point]) { s.Table = "" }},
		{"database.name", func(s *TxSink[point]) { s.Table = "a.b.c" }},
		{"Columns is []", func(s *TxSink[point]) { s.Columns = nil }},
		{"each once", func(s *TxSink[point]) { s.Columns = []string{"a", "a"} }},
		{`key "x" isn't one of Columns`, func(s *TxSink[point]) { s.Keys = []string{"x"} }},
		{"name each key once", func(s *TxSink[point]) { s.Keys = []string{"id", "id"} }},
		{"AcceptLoss", func(s *TxSink[point]) { s.Lost = 7 }},
		{"Tokens is", func(s *TxSink[point]) { s.Tokens = "a." }},
		{"DSN can't be used", func(s *TxSink[point]) { s.DSN = "u:secret@tcp(h:1" }},
		{"DSN names no database", func(s *TxSink[point]) { s.DSN = "u:secret@tcp(h:1)/" }},
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
	m := testsvc.NewMariaDB(t, testsvc.MariaDBOptions{})
	if err := m.Exec(t.Context(), "create table myisam (id bigint, name text) engine=MyISAM; create table aria (token char(32) primary key, slot text, epoch bigint, made timestamp) engine=Aria; "+
		"create table gen (id bigint, name varchar(9) generated always as ('x') stored); create table needy (id bigint, name text, more int not null); "+
		"create table keyless (id bigint, name text, key (id)); create view looks as select * from keyless; "+
		"create table two (id bigint primary key, name varchar(9) unique); create table wide (id bigint, name varchar(9), primary key (id, name)); "+
		"create table fine (n int auto_increment primary key, other int unique, id bigint unique, name varchar(9), e enum('a') not null, g bigint generated always as (id + 1) stored, unique (name, id)); "+
		"create user poor@'127.0.0.1'; create user some@'127.0.0.1'; grant insert, select, update on test.fine to some@'127.0.0.1'"); err != nil {
		t.Fatal(err)
	}
	plain := newTable(t, m, "")
	cases := []struct {
		name, says string
		change     func(s *TxSink[point])
	}{
		{"no table", "create the table", func(s *TxSink[point]) { s.Table = "nothing" }},
		{"no database of the table", "fix: ", func(s *TxSink[point]) { s.Table = "nowhere.nothing" }},
		{"no column", "Unknown column 'nam'", func(s *TxSink[point]) { s.Columns = []string{"id", "nam"} }},
		{"generated column", "leave generated columns out", func(s *TxSink[point]) { s.Table = "gen" }},
		{"column without value", "column more of table", func(s *TxSink[point]) { s.Table = "needy" }},
		{"no unique index", "make a unique index", func(s *TxSink[point]) { s.Table, s.Keys = "keyless", []string{"id"} }},
		{"unique index on more", "make a unique index", func(s *TxSink[point]) { s.Table, s.Keys = "wide", []string{"id"} }},
		{"another unique index", "drop that index", func(s *TxSink[point]) { s.Table, s.Keys = "two", []string{"id"} }},
		{"engine", "engine = InnoDB", func(s *TxSink[point]) { s.Table = "myisam" }},
		{"view", "isn't a table", func(s *TxSink[point]) { s.Table = "looks" }},
		{"tokens' engine", "engine = InnoDB", func(s *TxSink[point]) { s.Tokens = "aria" }},
		{"no token table", "look at token table", func(s *TxSink[point]) { s.Tokens = "keyless" }},
		{"no right to see tokens", "grant the user", func(s *TxSink[point]) { s.DSN = m.For("some", "test"); s.Table = "fine" }},
		{"no database", "create the database", func(s *TxSink[point]) { s.DSN = m.For("root", "absent") }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := points(m, plain)
			c.change(&s)
			fails(t, fault.Preflight, c.says, s.Preflight(t.Context()))
		})
	}
	for _, table := range []string{plain, "test." + plain, "fine"} {
		s := points(m, table)
		s.Keys = []string{"id"}
		if err := s.Preflight(t.Context()); err != nil {
			t.Errorf("table %s: %v", table, err)
		}
	}
	s := points(m, plain)
	for _, user := range []string{"nobody", "poor"} { // one without a password, one without a right
		s.DSN = m.For(user, "test")
		fails(t, fault.AuthFailed, "check user and password", s.Preflight(t.Context()))
	}
	s.DSN = "test@tcp(127.0.0.1:1)/test"
	fails(t, fault.Unreachable, "127.0.0.1:1", s.Preflight(t.Context()))
}

// A user with no more rights than docs say can do all of it.
func TestRights(t *testing.T) {
	m := testsvc.NewMariaDB(t, testsvc.MariaDBOptions{})
	table := newTable(t, m, "")
	o, err := points(m, table).settings()
	if err != nil {
		t.Fatal(err)
	}
	s := points(m, table)
	s.DSN, s.Keys = m.For("job", "test"), []string{"id"}
	grant := func(sql string) {
		t.Helper()
		if err := m.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	grant("create user job@'127.0.0.1'; grant insert on test." + table + " to job@'127.0.0.1'")
	fails(t, fault.Preflight, "grant the user of DSN select, insert and delete on it, and create it if it isn't there: create table if not exists", s.Preflight(t.Context()))
	grant(o.createTokens() + "; grant select, insert on test.weirline_tokens to job@'127.0.0.1'")
	fails(t, fault.Preflight, "DELETE command denied", s.Preflight(t.Context()))
	grant("grant delete on test.weirline_tokens to job@'127.0.0.1'")
	fails(t, fault.Preflight, "UPDATE command denied", s.Preflight(t.Context()))
	grant("grant update, select on test." + table + " to job@'127.0.0.1'")
	if err := s.Preflight(t.Context()); err != nil {
		t.Fatal(err)
	}
	w, c := open(t, s)
	h := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, point{1, "a"})
	if err := w.Begin(t.Context(), txntest.Slot(t, 2)); err != nil {
		t.Fatal(err)
	}
	n, err := readNative(h)
	if err := errors.Join(err, detach(t.Context(), m, n), c.Recover(t.Context(), []sink.Handle{h}, []sink.Slot{txntest.Slot(t, 1), txntest.Slot(t, 2)})); err != nil {
		t.Fatal(err)
	}
	wantRows(t, m, table, point{1, "a"})
	if h, err := w.Prepare(t.Context(), 2); err == nil {
		t.Errorf("a session that recovery ended prepared %+v", h)
	}
}

func TestReadOnlyServer(t *testing.T) {
	m := testsvc.NewMariaDB(t, testsvc.MariaDBOptions{Args: []string{"--read-only"}})
	fails(t, fault.Preflight, "primary", points(m, newTable(t, m, "")).Preflight(t.Context()))
}

// With a binary log XA transactions outlive a crash, too.
func TestBinaryLog(t *testing.T) {
	m := testsvc.NewMariaDB(t, testsvc.MariaDBOptions{Args: []string{"--log-bin", "--binlog-format=STATEMENT"}})
	table := newTable(t, m, "")
	s := points(m, table)
	fails(t, fault.Preflight, "binlog_format", s.Preflight(t.Context()))
	_, err := s.TxWriter(t.Context(), task())
	fails(t, fault.Preflight, "binlog_format", err)
	if err := errors.Join(m.Exec(t.Context(), "set global binlog_format = mixed"), s.Preflight(t.Context())); err != nil {
		t.Fatal(err)
	}
	w, _ := open(t, s)
	h1 := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, point{1, "a"})
	txntest.Prepare(t, w, txntest.Slot(t, 2), 1, point{2, "b"})
	m.Kill()
	if err := m.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := finisher(t, s, task()).Recover(t.Context(), []sink.Handle{h1}, []sink.Slot{txntest.Slot(t, 1), txntest.Slot(t, 2)}); err != nil {
			t.Fatal(err)
		}
	}
	wantRows(t, m, table, point{1, "a"})
}
