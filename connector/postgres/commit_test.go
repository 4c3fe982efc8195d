package postgres

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
	"github.com/weirline/weirline/txn/txntest"
)

// A writer whose connection broke restarts its task.
func TestWriterAfterTheServerRestarted(t *testing.T) {
	pg := testsvc.NewPostgres(t, testsvc.PostgresOptions{})
	w, _ := open(t, points(pg, table(t, pg, "")))
	pg.Kill()
	if err := pg.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.Begin(t.Context(), txntest.Slot(t, 3)); err == nil || sink.IsPermanent(err) {
		t.Errorf("writer whose connection broke: %v, want an error that restarts the task", err)
	}
}

// A connection that is lost on the way leaves a transaction of which the writer can't know whether it was prepared; recovery
// clears it either way.
func TestConnectionLostAtPrepare(t *testing.T) {
	pg := testsvc.Postgres(t)
	table := table(t, pg, "")
	s := points(pg, table)
	for i, sql := range []string{"", "prepare transaction '%s'"} {
		w, c := open(t, s)
		x := w.(*txWriter[point])
		if err := errors.Join(w.Begin(t.Context(), txntest.Slot(t, i)), w.Write(t.Context(), []point{{i, "a"}})); err != nil {
			t.Fatal(err)
		}
		if sql != "" { // the server got as far as this and its answer is lost
			if _, err := x.s.exec(t.Context(), fmt.Sprintf(sql, txn.NameOf(x.slot.Name, x.token))); err != nil {
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
		if left, err := leftovers(pg, txntest.Slot(t, i)); err != nil || len(left) > 0 {
			t.Errorf("left: %q, %v", left, err)
		}
	}
	wantRows(t, pg, table)
}

// The server answers PREPARE in a transaction that has failed by rolling it back, without an error.
func TestFailedTransactionIsNotPrepared(t *testing.T) {
	pg := testsvc.Postgres(t)
	w, _ := open(t, points(pg, table(t, pg, "")))
	x := w.(*txWriter[point])
	if err := w.Begin(t.Context(), txntest.Slot(t, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := x.s.exec(t.Context(), "select 1/0"); stateOf(err) != "22012" {
		t.Fatal(err)
	}
	if h, err := w.Prepare(t.Context(), 1); err == nil {
		t.Errorf("a failed transaction was prepared: %+v", h)
	}
	if _, err := x.s.exec(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}
	if h, err := w.Prepare(t.Context(), 1); err == nil {
		t.Errorf("no transaction at all was prepared: %+v", h)
	}
}

// A transaction's id means nothing to another server: that one's commit log may well say committed.
func TestHandleOfAnotherServer(t *testing.T) {
	pg := testsvc.Postgres(t)
	s := points(pg, table(t, pg, ""))
	w, c := open(t, s)
	h := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, point{1, "a"})
	other := newName("other")
	if err := pg.Exec(t.Context(), "create database "+other); err != nil {
		t.Fatal(err)
	}
	away := s
	away.URL = pg.For(other)
	elsewhere := finisher(t, away, task())
	// The same server knows that the transaction is in another database.
	if err := elsewhere.Commit(t.Context(), []sink.Handle{h}); !sink.IsPermanent(err) || !strings.Contains(err.Error(), "another database") {
		t.Errorf("commit in another database: %v", err)
	}
	if err := elsewhere.Recover(t.Context(), nil, []sink.Slot{h.Slot}); err != nil {
		t.Error(err)
	}
	away.URL = testsvc.NewPostgres(t, testsvc.PostgresOptions{}).URL
	err := finisher(t, away, task()).Commit(t.Context(), []sink.Handle{h})
	if !sink.IsPermanent(err) || fault.CodeOf(err) != fault.UnknownCommit.ID {
		t.Errorf("commit on another server: %v, want a permanent %s", err, fault.UnknownCommit.ID)
	}
	if left, err := leftovers(pg, h.Slot); err != nil || len(left) != 1 {
		t.Errorf("recovery in another database left %q, %v; it should leave it alone", left, err)
	}
	if err := c.Recover(t.Context(), nil, []sink.Slot{h.Slot}); err != nil {
		t.Fatal(err)
	}
	if left, err := leftovers(pg, h.Slot); err != nil || len(left) != 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

// Recovery touches what begins with one of its slots' names and nothing that only looks like it.
func TestRecoverLeavesStrangersAlone(t *testing.T) {
	pg := testsvc.Postgres(t)
	s := txntest.Slot(t, 1)
	mine := txn.NameOf(s.Name, txn.NewToken())
	strangers := []string{
		s.Name, s.Name + "-", s.Name + "-abc", txn.NameOf(s.Name+"0", txn.NewToken()), txn.NameOf(s.Name+"-1", txn.NewToken()),
		txn.NameOf(s.Name[:len(s.Name)-1], txn.NewToken()), s.Name + "_" + txn.NewToken(), txn.NameOf(s.Name, txn.NewToken()[1:]),
	}
	for _, gid := range append(strangers, mine) {
		if err := pg.Exec(t.Context(), fmt.Sprintf("begin; select pg_current_xact_id(); prepare transaction '%s'", gid)); err != nil {
			t.Fatal(err)
		}
	}
	if err := finisher(t, points(pg, "t"), task()).Recover(t.Context(), nil, []sink.Slot{s}); err != nil {
		t.Fatal(err)
	}
	found, err := pg.Query(t.Context(), "select gid from pg_prepared_xacts")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, gid := range found {
		have[gid] = true
	}
	if have[mine] {
		t.Errorf("%s is still there", mine)
	}
	for _, gid := range strangers {
		if !have[gid] {
			t.Errorf("%s is gone", gid)
			continue
		}
		if err := pg.Exec(t.Context(), fmt.Sprintf("rollback prepared '%s'", gid)); err != nil {
			t.Error(err)
		}
	}
}

func TestOnlyItsOwnIsFinishedByHand(t *testing.T) {
	l, ok := sink.As[txn.Lister](finisher(t, points(testsvc.Postgres(t), "t"), task()))
	if !ok {
		t.Fatal("the committer isn't a txn.Lister")
	}
	if err := l.Finish(t.Context(), txn.Pending{Name: "x'; drop table y; --"}, true); err == nil {
		t.Error("a foreign name was taken")
	}
}

func TestHandleOfAnotherForm(t *testing.T) {
	c := finisher(t, points(testsvc.Postgres(t), "t"), task())
	for data, code := range map[string]fault.Code{
		"":              fault.CommitFailed,
		`{"version":2}`: fault.NewerFormat,
		`{"version":1}`: fault.CommitFailed,
		`{"version":1,"native":{"gid":"` + txn.NameOf("s", txn.NewToken()) + `","xid":"1'"}}`: fault.CommitFailed,
		`{"version":1,"native":{"gid":"'; drop table x","xid":"1"}}`:                          fault.CommitFailed,
		`{"version":1,"native":{"gid":"'; drop table x","ledger":{"schema":"weirline"}}}`:     fault.CommitFailed,
	} {
		err := c.Commit(t.Context(), []sink.Handle{{Native: []byte(data)}})
		if !sink.IsPermanent(err) || fault.CodeOf(err) != code.ID {
			t.Errorf("%q: got %v, want a permanent %s", data, err, code.ID)
		}
	}
}

// TestEvidence has each thing that may be said of a transaction that isn't prepared any more.
func TestEvidence(t *testing.T) {
	here := identity{System: "7", Timeline: "00000001", OID: "5", Database: "shop"}
	cases := []struct {
		name   string
		now    identity
		status string
		future bool
		want   txn.Outcome
	}{
		{"committed", here, "committed", false, txn.Done},
		{"rolled back", here, "aborted", false, txn.Lost},
		{"not given out yet, on a server restored from a backup", here, "", true, txn.Lost},
		{"too old", here, "", false, txn.Unknown},
		{"being finished", here, "in progress", false, txn.Again},
		{"another server", identity{"8", "00000001", "5", "shop"}, "committed", false, txn.Unknown},
		{"another database", identity{"7", "00000001", "6", "shop"}, "committed", false, txn.Unknown},
		{"after a failover", identity{"7", "00000002", "5", "shop"}, "committed", false, txn.Unknown},
		{"rolled back after a failover", identity{"7", "00000002", "5", "shop"}, "aborted", false, txn.Lost},
	}
	for _, c := range cases {
		o, err := judge(native{GID: "g", XID: "1", identity: here}, c.now, c.status, c.future)
		if o != c.want || (err == nil) != (o == txn.Done) {
			t.Errorf("%s: got %v, %v; want %v", c.name, o, err, c.want)
		}
	}
}

// TestStates has every row of the decision table, and some that aren't in it.
func TestStates(t *testing.T) {
	type want struct {
		write  verdict
		commit txn.Outcome
	}
	both, bad, ours, end := want{retry, again}, want{reject, again}, want{never, again}, want{never, stop}
	cases := map[string]want{
		"08": both, "0A": end, "21": bad, "22": bad, "23": bad, "25": both, "28": end, "3D": end,
		"3F": end, "40": both, "42": ours, "44": bad, "53": both, "54": bad, "55": both,
		"57": both, "58": both, "P0": bad, "XX": both,
		"22P03": both, "25006": both, "42501": end, "42703": ours, "42704": {never, absent}, "42710": both, "42804": ours,
		"42P01": ours, "42P10": ours, "428C9": ours, "53100": both, "53200": both, "53300": both,
		"55000": ours, "55006": both, "55P03": both, "57P04": end,
		// Those of a class, and those of none.
		"08006": both, "23505": bad, "22001": bad, "P0001": bad, "40001": both, "57P01": both, "42601": ours,
		"": both, "HV000": both, "XX001": both,
	}
	for state := range rules {
		if _, ok := cases[state]; !ok {
			t.Errorf("state %s isn't tested", state)
		}
	}
	for state, w := range cases {
		if r := ruleOf(state); r.write != w.write || r.commit != w.commit {
			t.Errorf("state %q: got write %d, commit %d, want %d, %d", state, r.write, r.commit, w.write, w.commit)
		}
		err := fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: state, Message: "no", Detail: "Because."})
		for _, c := range []struct {
			got   error
			final bool
			code  fault.Code
		}{{failed(err, "write"), w.write == never, fault.SinkFailed}, {uncommitted(err, "commit"), w.commit == stop, fault.CommitFailed}} {
			if sink.IsPermanent(c.got) != c.final || fault.CodeOf(c.got) != c.code.ID || !strings.Contains(c.got.Error(), "Because.") {
				t.Errorf("state %q: got %v, permanent %v", state, c.got, sink.IsPermanent(c.got))
			}
		}
	}
}
