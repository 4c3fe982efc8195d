package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
	"github.com/weirline/weirline/txn/txntest"
)

// Of the rows with one key the last one stays, also within an epoch; NULL is no key.
func TestLedgerKeys(t *testing.T) {
	pg := testsvc.Postgres(t)
	s := TxSink[[]any]{
		URL: pg.URL, Table: table(t, pg, "a int8, b text, v int8, unique (a, b)"), Columns: []string{"v", "a", "b"}, Keys: []string{"a", "b"}, Mode: Ledger,
		Row: func(r []any) ([]any, error) { return r, nil },
	}
	w, c := open(t, s)
	var rs [][]any
	for i := range 100 {
		rs = append(rs, []any{i, i % 3, "x"}, []any{i, 7, nil}[:3:3])
	}
	h1 := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, rs...)
	h2 := txntest.Prepare(t, w, txntest.Slot(t, 2), 2, []any{1000, 1, "x"}, []any{1001, 1, "y"})
	if err := c.Commit(t.Context(), []sink.Handle{h1, h2}); err != nil {
		t.Fatal(err)
	}
	got, err := pg.Query(t.Context(), "select string_agg(concat_ws(' ', a, b, v), ', ' order by a, b) filter (where b is not null), count(*) filter (where b is null) from "+s.Table)
	if err != nil || got[0] != "0 x 99, 1 x 1000, 1 y 1001, 2 x 98\t100" {
		t.Errorf("got %q, %v", got, err)
	}
	s.Columns, s.Keys = []string{"a", "b"}, []string{"a", "b"} // nothing to replace
	s.Row = func(r []any) ([]any, error) { return r[1:], nil }
	w, c = open(t, s)
	if err := c.Commit(t.Context(), []sink.Handle{txntest.Prepare(t, w, txntest.Slot(t, 3), 3, []any{0, 1, "x"}, []any{0, 1, "x"}, []any{0, 5, "x"})}); err != nil {
		t.Fatal(err)
	}
	if got, err := pg.Query(t.Context(), "select count(*) from "+s.Table); err != nil || got[0] != "105" {
		t.Errorf("rows: %q, %v", got, err)
	}
}

// A writer that began before a recovery writes no more, not even in slots that it never used.
func TestRecoveryFencesWriters(t *testing.T) {
	pg := testsvc.Postgres(t)
	s := inLedger(pg, table(t, pg, ""))
	old, c := open(t, s)
	txntest.Prepare(t, old, txntest.Slot(t, 1), 1, point{1, "old"})
	if err := c.Recover(t.Context(), nil, []sink.Slot{txntest.Slot(t, 1), txntest.Slot(t, 2)}); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		fails(t, fault.SinkFailed, "was recovered since this writer began", old.Begin(t.Context(), txntest.Slot(t, i+1)))
	}
	w, _ := open(t, s)
	if err := c.Commit(t.Context(), []sink.Handle{txntest.Prepare(t, w, txntest.Slot(t, 1), 2, point{1, "new"})}); err != nil {
		t.Fatal(err)
	}
	wantRows(t, pg, s.Table, point{1, "new"})
}

func TestSlotsOfOtherCopiesAreRefused(t *testing.T) {
	pg := testsvc.Postgres(t)
	s := inLedger(pg, table(t, pg, ""))
	w, c := open(t, s)
	other, _ := open(t, s)
	if err := other.Begin(t.Context(), txntest.Slot(t, 1)); err != nil {
		t.Fatal(err)
	}
	fails(t, fault.SinkFailed, "is in use by another session", w.Begin(t.Context(), txntest.Slot(t, 1)))
	h := txntest.Prepare(t, w, txntest.Slot(t, 2), 1, point{1, "a"})
	fails(t, fault.SinkFailed, "staged rows that wait", w.Begin(t.Context(), h.Slot))
	if err := c.Commit(t.Context(), []sink.Handle{h}); err != nil {
		t.Fatal(err)
	}
	txntest.Prepare(t, w, h.Slot, 2, point{2, "b"})
	if err := c.Recover(t.Context(), nil, []sink.Slot{h.Slot, txntest.Slot(t, 1)}); err != nil {
		t.Fatal(err)
	}
	wantRows(t, pg, s.Table, point{1, "a"})
}

// A reader of the staging table, as a backup is, holds nothing up.
func TestBackupsReadStagingTables(t *testing.T) {
	pg := testsvc.NewPostgres(t, testsvc.PostgresOptions{Args: []string{"-c", "wal_level=logical"}})
	if err := pg.Exec(t.Context(), "create publication everything for all tables"); err != nil {
		t.Fatal(err)
	}
	s := inLedger(pg, table(t, pg, ""))
	s.LockTimeout = -1
	w, c := open(t, s)
	h := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, numbered(3)...)
	backup, err := pgx.Connect(t.Context(), pg.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer backup.Close(t.Context())
	stage := pgx.Identifier{defaultSchema, s.settings().plan(h.Slot.Name).Stage}.Sanitize()
	if _, err := backup.PgConn().Exec(t.Context(), "begin; lock table "+stage+" in access share mode").ReadAll(); err != nil {
		t.Fatal(err)
	}
	soon, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := c.Commit(soon, []sink.Handle{h}); err != nil {
		t.Fatal(err)
	}
	h = txntest.Prepare(t, w, h.Slot, 2, point{4, "d"})
	if err := c.Recover(soon, nil, []sink.Slot{h.Slot}); err != nil {
		t.Fatal(err)
	}
	wantRows(t, pg, s.Table, numbered(3)...)
	if left, err := unapplied(pg, h.Slot); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

// Two who commit the same transactions at once, as a tool beside a job might, move them once.
func TestCommitsMeet(t *testing.T) {
	pg := testsvc.Postgres(t)
	s := inLedger(pg, table(t, pg, "id int8, name text"))
	w, _ := open(t, s)
	var hs []sink.Handle
	var want []point
	for i := range 20 {
		want = append(want, point{i, "a"})
		hs = append(hs, txntest.Prepare(t, w, txntest.Slot(t, i), 1, want[i]))
	}
	done := make(chan error)
	for range 3 {
		c := finisher(t, s, task())
		go func() { done <- c.Commit(t.Context(), hs) }()
	}
	if err := errors.Join(<-done, <-done, <-done); err != nil {
		t.Fatal(err)
	}
	wantRows(t, pg, s.Table, want...)
}

// A server that dies while a writer is made says nothing of the settings: the job goes on when it is back.
func TestConnectionLostWhileOpening(t *testing.T) {
	pg := testsvc.Postgres(t)
	s := inLedger(pg, table(t, pg, ""))
	o := s.settings()
	stage := pgx.Identifier{defaultSchema, "lost"}.Sanitize()
	for name, call := range map[string]func(x *tx) error{
		"describe":    func(x *tx) error { _, err := x.s.describe(t.Context(), o); return err },
		"enlist":      func(x *tx) error { return x.enlist(t.Context()) },
		"stage":       func(x *tx) error { return x.s.stageTable(t.Context(), o, stage) },
		"check":       func(x *tx) error { return x.s.checkLedger(t.Context(), o) },
		"the books":   func(x *tx) error { return x.s.keepBooks(t.Context(), o) },
		"the rejects": func(x *tx) error { o := o; o.rejects = []string{"lost"}; return x.s.keepRejects(t.Context(), o) },
	} {
		x, err := openTx(t.Context(), o, task())
		if err != nil {
			t.Fatal(err)
		}
		if err := pg.Exec(t.Context(), fmt.Sprintf("select pg_terminate_backend(%d, 10000)", x.s.conn.PgConn().PID())); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the server says why it ends, then nothing is there any more
			if err := call(x); err == nil || sink.IsPermanent(err) || fault.CodeOf(err) == fault.Preflight.ID {
				t.Errorf("%s: %v, want an error that restarts the task", name, err)
			}
		}
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A database without the ledger, or without the token, is no evidence of a loss if it is another one.
func TestLedgerOfAnotherDatabase(t *testing.T) {
	pg := testsvc.Postgres(t)
	s := inLedger(pg, table(t, pg, ""))
	w, c := open(t, s)
	h := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, point{1, "a"})
	other := newName("other")
	if err := pg.Exec(t.Context(), "create database "+other); err != nil {
		t.Fatal(err)
	}
	away := s
	away.URL = pg.For(other)
	for range 2 { // without a ledger, then with one
		err := finisher(t, away, task()).Commit(t.Context(), []sink.Handle{h})
		fails(t, fault.UnknownCommit, "of another server", err)
		if !sink.IsPermanent(err) {
			t.Errorf("%v isn't permanent", err)
		}
		if err := finisher(t, away, task()).Recover(t.Context(), nil, []sink.Slot{h.Slot}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Commit(t.Context(), []sink.Handle{h}); err != nil {
		t.Error(err)
	}
	wantRows(t, pg, s.Table, point{1, "a"})
}

// A connection that is lost on the way leaves rows of which the writer can't know whether they are staged; recovery clears them
// either way.
func TestConnectionLostWhileStaging(t *testing.T) {
	pg := testsvc.Postgres(t)
	s := inLedger(pg, table(t, pg, ""))
	for i, finished := range []bool{false, true} {
		w, c := open(t, s)
		x := w.(*txWriter[point])
		if err := errors.Join(w.Begin(t.Context(), txntest.Slot(t, i)), w.Write(t.Context(), []point{{i, "a"}})); err != nil {
			t.Fatal(err)
		}
		if finished { // the server got as far as this and its answer is lost
			if err := x.prepareStaged(t.Context(), &native{}, 1); err != nil {
				t.Fatal(err)
			}
			if _, err := x.s.exec(t.Context(), "begin"); err != nil {
				t.Fatal(err)
			}
		}
		if err := pg.Exec(t.Context(), fmt.Sprintf("select pg_terminate_backend(%d)", x.s.conn.PgConn().PID())); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Prepare(t.Context(), 1); err == nil || sink.IsPermanent(err) || fault.CodeOf(err) != fault.SinkFailed.ID {
			t.Errorf("Prepare without a connection: %v, want %s and another attempt", err, fault.SinkFailed.ID)
		}
		if err := c.Recover(t.Context(), nil, []sink.Slot{txntest.Slot(t, i)}); err != nil {
			t.Fatal(err)
		}
		if left, err := unapplied(pg, txntest.Slot(t, i)); err != nil || len(left) > 0 {
			t.Errorf("left: %q, %v", left, err)
		}
	}
	wantRows(t, pg, s.Table)
}

// A statement that fails in the transaction turns its COMMIT into a rollback, without an error.
func TestFailedTransactionIsNotStaged(t *testing.T) {
	pg := testsvc.Postgres(t)
	w, _ := open(t, inLedger(pg, table(t, pg, "")))
	x := w.(*txWriter[point])
	if err := w.Begin(t.Context(), txntest.Slot(t, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := x.s.exec(t.Context(), "select 1/0"); stateOf(err) != "22012" {
		t.Fatal(err)
	}
	if h, err := w.Prepare(t.Context(), 1); err == nil {
		t.Errorf("a failed transaction was staged: %+v", h)
	}
	if _, err := x.s.exec(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}
	if h, err := w.Prepare(t.Context(), 1); err == nil {
		t.Errorf("no transaction at all was staged: %+v", h)
	}
}

// Staging tables follow the table; rows that wait don't mind.
func TestTableChanges(t *testing.T) {
	pg := testsvc.Postgres(t)
	s := inLedger(pg, table(t, pg, "id int4, name text"))
	w, c := open(t, s)
	h1 := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, point{1, "a"})
	h2 := txntest.Prepare(t, w, txntest.Slot(t, 2), 1, point{2, "b"})
	if err := c.Commit(t.Context(), []sink.Handle{h1}); err != nil {
		t.Fatal(err)
	}
	if err := pg.Exec(t.Context(), fmt.Sprintf("alter table %[1]s alter id type int8; alter table %[1]s add check (id <> 5); alter table %[1]s add more text", s.Table)); err != nil {
		t.Fatal(err)
	}
	wider := TxSink[point]{URL: s.URL, Table: s.Table, Columns: []string{"more", "id", "name"}, Mode: Ledger, Row: func(p point) ([]any, error) {
		return []any{"m", p.ID, p.Name}, nil
	}}
	w, c = open(t, wider)
	if err := w.Begin(t.Context(), txntest.Slot(t, 1)); err != nil {
		t.Fatal(err)
	}
	if bad, _ := rejects(t, w, []point{{5, "e"}, {1 << 40, "c"}}); len(bad) != 1 || bad[0] != 0 {
		t.Errorf("rejected %v, want the first", bad)
	}
	h3, err := w.Prepare(t.Context(), 2)
	if err := errors.Join(err, c.Commit(t.Context(), []sink.Handle{h2, h3})); err != nil {
		t.Fatal(err)
	}
	wantRows(t, pg, s.Table, point{1, "a"}, point{2, "b"}, point{1 << 40, "c"})
}

// What one mode has left is finished and cleared by the other.
func TestModeChanges(t *testing.T) {
	pg := testsvc.Postgres(t)
	table := table(t, pg, "")
	modes := []TxSink[point]{points(pg, table), inLedger(pg, table)}
	var want []point
	for i, s := range modes {
		w, _ := open(t, s)
		kept, lost := point{10*i + 1, "kept"}, point{10*i + 2, "lost"}
		h := txntest.Prepare(t, w, txntest.Slot(t, 10*i+1), 1, kept)
		gone := txntest.Prepare(t, w, txntest.Slot(t, 10*i+2), 1, lost)
		if err := finisher(t, modes[1-i], task()).Recover(t.Context(), []sink.Handle{h}, []sink.Slot{h.Slot, gone.Slot}); err != nil {
			t.Fatal(err)
		}
		want = append(want, kept)
		left, err := leftovers(pg, gone.Slot)
		more, merr := unapplied(pg, gone.Slot)
		if err := errors.Join(err, merr); err != nil || len(left)+len(more) > 0 {
			t.Errorf("left: %q, %q, %v", left, more, err)
		}
	}
	wantRows(t, pg, table, want...)
}

// What is prepared and what is staged is listed together, and finished by hand alike; once only.
func TestBothModesAreListed(t *testing.T) {
	pg := testsvc.Postgres(t)
	table := table(t, pg, "")
	modes := []TxSink[point]{inLedger(pg, table), points(pg, table), inLedger(pg, table)}
	var names []string
	for i, s := range modes {
		w, _ := open(t, s)
		h := txntest.Prepare(t, w, txntest.Slot(t, i), 1, point{i, "a"})
		names = append(names, txn.NameOf(h.Slot.Name, h.Token))
	}
	l, ok := sink.As[txn.Lister](finisher(t, modes[1], task()))
	if !ok {
		t.Fatal("the committer isn't a txn.Lister")
	}
	found, err := l.List(t.Context(), strings.TrimSuffix(txntest.Slot(t, 0).Name, "-out-0"))
	if err != nil || len(found) != 3 {
		t.Fatalf("listed %+v, %v", found, err)
	}
	for i, p := range found {
		if p.Name != names[i] || i > 0 && p.Age > found[i-1].Age {
			t.Errorf("listed %+v, want %q, the oldest first", found, names)
		}
		if err := l.Finish(t.Context(), p, i < 2); err != nil {
			t.Error(err)
		}
		for _, commit := range []bool{true, false} {
			fails(t, fault.CommitFailed, "does not exist", l.Finish(t.Context(), p, commit))
		}
	}
	wantRows(t, pg, table, point{0, "a"}, point{1, "a"})
}

// A session may be another client's next: what the ledger sets lasts as long as its transaction. A commit waits for the disk.
func TestSettingsLastATransaction(t *testing.T) {
	pg := testsvc.Postgres(t)
	role := newName("hasty")
	if err := pg.Exec(t.Context(), fmt.Sprintf("create role %[1]s superuser login; alter role %[1]s set synchronous_commit = off", role)); err != nil {
		t.Fatal(err)
	}
	s := inLedger(pg, table(t, pg, ""))
	s.URL = strings.Replace(s.URL, "test@", role+"@", 1)
	w, _ := open(t, s)
	show := func() string {
		got, err := w.(*txWriter[point]).s.column(t.Context(), "select current_setting('synchronous_commit') || ' ' || current_setting('lock_timeout')")
		if err != nil {
			t.Fatal(err)
		}
		return got[0]
	}
	before := show()
	if err := w.Begin(t.Context(), txntest.Slot(t, 1)); err != nil {
		t.Fatal(err)
	}
	if got := show(); got != "on 30s" {
		t.Errorf("in the transaction: %q", got)
	}
	if _, err := w.Prepare(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if after := show(); before != "off 0" || after != before {
		t.Errorf("settings are %q before and %q after", before, after)
	}
}

// The ledger forgets what a slot did long ago, and only when the slot goes on.
func TestLedgerForgets(t *testing.T) {
	pg := testsvc.Postgres(t)
	s := inLedger(pg, table(t, pg, ""))
	w, c := open(t, s)
	var hs []sink.Handle
	for i := range 3 {
		hs = append(hs, txntest.Prepare(t, w, txntest.Slot(t, 1), uint64(i), point{i, "a"}))
		if err := c.Commit(t.Context(), hs[i:]); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			old := fmt.Sprintf("update weirline.ledger set applied = applied - interval '%d seconds' where token = '%s'", int(keepTokens/time.Second)+9, hs[0].Token)
			if err := errors.Join(pg.Exec(t.Context(), old), c.Commit(t.Context(), hs[:1])); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.Commit(t.Context(), hs[1:]); err != nil {
		t.Error(err)
	}
	fails(t, fault.LostCommit, "neither staged nor applied", c.Commit(t.Context(), hs[:1]))
	wantRows(t, pg, s.Table, point{0, "a"}, point{1, "a"}, point{2, "a"})
}

// Who tidies up the ledger by hand may leave staged rows, which then belong to no transaction.
func TestLedgerWasTidiedUp(t *testing.T) {
	pg := testsvc.Postgres(t)
	s := inLedger(pg, table(t, pg, ""))
	w, _ := open(t, s)
	h := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, numbered(3)...)
	if err := pg.Exec(t.Context(), fmt.Sprintf("delete from weirline.ledger where token = '%s'", h.Token)); err != nil {
		t.Fatal(err)
	}
	w, c := open(t, s)
	if err := c.Commit(t.Context(), []sink.Handle{txntest.Prepare(t, w, h.Slot, 2, point{9, "i"})}); err != nil {
		t.Fatal(err)
	}
	wantRows(t, pg, s.Table, point{9, "i"})
}

// Rows that somebody has taken out of a staging table, or put there, stop the job.
func TestStagingTableWasChanged(t *testing.T) {
	pg := testsvc.Postgres(t)
	s := inLedger(pg, table(t, pg, ""))
	w, c := open(t, s)
	h := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, numbered(5)...)
	stage := pgx.Identifier{defaultSchema, s.settings().plan(h.Slot.Name).Stage}.Sanitize()
	if err := pg.Exec(t.Context(), "delete from "+stage+" where id = 3"); err != nil {
		t.Fatal(err)
	}
	err := c.Commit(t.Context(), []sink.Handle{h})
	fails(t, fault.CommitFailed, "has 4 rows, and 5 were staged", err)
	if err := pg.Exec(t.Context(), "drop table "+stage); err != nil {
		t.Fatal(err)
	}
	err = c.Commit(t.Context(), []sink.Handle{h})
	fails(t, fault.CommitFailed, "count the rows", err)
	if !sink.IsPermanent(err) {
		t.Errorf("%v isn't permanent", err)
	}
	if err := c.Recover(t.Context(), nil, []sink.Slot{h.Slot}); err != nil {
		t.Fatal(err)
	}
	w, c = open(t, s)
	if err := c.Commit(t.Context(), []sink.Handle{txntest.Prepare(t, w, h.Slot, 1, point{1, "a"})}); err != nil {
		t.Error(err)
	}
	wantRows(t, pg, s.Table, point{1, "a"})
}

func TestLedgerRights(t *testing.T) {
	pg := testsvc.NewPostgres(t, testsvc.PostgresOptions{Prepared: -1})
	name := table(t, pg, "")
	if err := pg.Exec(t.Context(), "create role writer login; grant insert on "+name+" to writer"); err != nil {
		t.Fatal(err)
	}
	s := inLedger(pg, name)
	s.URL = strings.Replace(s.URL, "test@", "writer@", 1)
	_, err := s.TxWriter(t.Context(), task())
	fails(t, fault.Preflight, `create schema "weirline" authorization`, s.Preflight(t.Context()), err)
	if err := pg.Exec(t.Context(), "create schema weirline authorization writer"); err != nil {
		t.Fatal(err)
	}
	fails(t, fault.Preflight, "permission denied for table "+name, s.Preflight(t.Context()))
	if err := pg.Exec(t.Context(), "grant select on "+name+" to writer"); err != nil {
		t.Fatal(err)
	}
	if err := s.Preflight(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Rejects = "public.refused"
	fails(t, fault.Preflight, "create table if not exists", s.Preflight(t.Context()))
	w, c := open(t, TxSink[point]{URL: s.URL, Table: name, Columns: s.Columns, Row: s.Row, Mode: Ledger})
	if err := c.Recover(t.Context(), []sink.Handle{txntest.Prepare(t, w, txntest.Slot(t, 1), 1, point{1, "a"})}, []sink.Slot{txntest.Slot(t, 1)}); err != nil {
		t.Fatal(err)
	}
	wantRows(t, pg, name, point{1, "a"})
}
