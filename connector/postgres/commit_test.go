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
)

func TestRolledBackFromOutsideIsLoud(t *testing.T) {
	pg := testsvc.Postgres(t)
	table := table(t, pg, "")
	s := points(pg, table)
	w, c := open(t, s)
	lost := prepare(t, w, slot(t, 1), 1, point{1, "lost"})
	kept := prepare(t, w, slot(t, 2), 1, point{2, "kept"})
	n, err := readNative(lost)
	if err := errors.Join(err, pg.Exec(t.Context(), fmt.Sprintf("rollback prepared '%s'", n.GID))); err != nil {
		t.Fatal(err)
	}
	hs := []sink.Handle{lost, kept}
	for _, err := range []error{c.Commit(t.Context(), hs), c.Recover(t.Context(), hs, []sink.Slot{lost.Slot, kept.Slot})} {
		if !sink.IsPermanent(err) || fault.CodeOf(err) != fault.LostCommit.ID {
			t.Errorf("got %v, want a permanent %s", err, fault.LostCommit.ID)
		}
	}
	wantRows(t, pg, table)

	s.Lost = AcceptLoss
	own := task()
	if err := finisher(t, s, own).Recover(t.Context(), hs, []sink.Slot{lost.Slot, kept.Slot}); err != nil {
		t.Fatal(err)
	}
	wantRows(t, pg, table, point{2, "kept"})
	if n := own.Metrics.(counts)["lost_transactions"]; n != 1 {
		t.Errorf("%d transactions counted as lost, want 1", n)
	}
}

func TestServerRestartsBetweenPrepareAndCommit(t *testing.T) {
	pg := testsvc.NewPostgres(t, testsvc.PostgresOptions{})
	table := table(t, pg, "")
	w, c := open(t, points(pg, table))
	h1 := prepare(t, w, slot(t, 1), 1, point{1, "a"})
	h2 := prepare(t, w, slot(t, 2), 2, point{2, "b"})
	if err := c.Commit(t.Context(), []sink.Handle{h1}); err != nil {
		t.Fatal(err)
	}
	pg.Kill()
	if err := c.Commit(t.Context(), []sink.Handle{h2}); err == nil || sink.IsPermanent(err) {
		t.Errorf("commit while the server is away: %v, want an error that is retried", err)
	}
	if err := pg.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The first was committed before the crash and its commit wasn't recorded: the commit log is the proof.
	for range 2 {
		if err := c.Commit(t.Context(), []sink.Handle{h1, h2}); err != nil {
			t.Fatal(err)
		}
	}
	wantRows(t, pg, table, point{1, "a"}, point{2, "b"})
	if err := w.Begin(t.Context(), slot(t, 3)); err == nil || sink.IsPermanent(err) {
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
		if err := errors.Join(w.Begin(t.Context(), slot(t, i)), w.Write(t.Context(), []point{{i, "a"}})); err != nil {
			t.Fatal(err)
		}
		if sql != "" { // the server got as far as this and its answer is lost
			if _, err := x.s.exec(t.Context(), fmt.Sprintf(sql, gidOf(x.slot.Name, x.token))); err != nil {
				t.Fatal(err)
			}
		}
		if err := pg.Exec(t.Context(), fmt.Sprintf("select pg_terminate_backend(%d)", x.s.conn.PgConn().PID())); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Prepare(t.Context(), 1); err == nil || sink.IsPermanent(err) || fault.CodeOf(err) != fault.SinkFailed.ID {
			t.Errorf("Prepare without a connection: %v, want %s and another attempt", err, fault.SinkFailed.ID)
		}
		if err := c.Recover(t.Context(), nil, []sink.Slot{slot(t, i)}); err != nil {
			t.Fatal(err)
		}
		if left, err := leftovers(pg, slot(t, i)); err != nil || len(left) > 0 {
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
	if err := w.Begin(t.Context(), slot(t, 1)); err != nil {
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
	h := prepare(t, w, slot(t, 1), 1, point{1, "a"})
	other := fmt.Sprint("other", tables.Add(1))
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
	s := slot(t, 1)
	mine := gidOf(s.Name, newToken())
	strangers := []string{
		s.Name, s.Name + "-", s.Name + "-abc", gidOf(s.Name+"0", newToken()), gidOf(s.Name+"-1", newToken()),
		gidOf(s.Name[:len(s.Name)-1], newToken()), s.Name + "_" + newToken(), gidOf(s.Name, newToken()[1:]),
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

func TestSlotOf(t *testing.T) {
	token := newToken()
	cases := []struct {
		gid, slot string
		ok        bool
	}{
		{gidOf("job-out-1", token), "job-out-1", true},
		{gidOf("job-out-1-"+token, token), "job-out-1-" + token, true},
		{gidOf("job-out-1", token[1:]), "", false},
		{gidOf("job-out-1", strings.Repeat("z", tokenLen)), "", false},
		{gidOf("", token), "", false},
		{gidOf("a b", token), "a b", false},
		{"x" + token, "", false},
		{token, "", false},
		{"", "", false},
	}
	for _, c := range cases {
		if slot, ok := slotOf(c.gid); slot != c.slot || ok != c.ok {
			t.Errorf("%q: got %q %v, want %q %v", c.gid, slot, ok, c.slot, c.ok)
		}
	}
}

func TestHandleOfAnotherForm(t *testing.T) {
	c := finisher(t, points(testsvc.Postgres(t), "t"), task())
	for data, code := range map[string]fault.Code{
		"":              fault.CommitFailed,
		`{"version":2}`: fault.NewerFormat,
		`{"version":1}`: fault.CommitFailed,
		`{"version":1,"gid":"` + gidOf("s", newToken()) + `","xid":"1'"}`: fault.CommitFailed,
		`{"version":1,"gid":"'; drop table x","xid":"1"}`:                 fault.CommitFailed,
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
		name      string
		now       identity
		status    string
		future    bool
		code      string // "": committed
		permanent bool
	}{
		{"committed", here, "committed", false, "", false},
		{"rolled back", here, "aborted", false, fault.LostCommit.ID, true},
		{"not given out yet, on a server restored from a backup", here, "", true, fault.LostCommit.ID, true},
		{"too old", here, "", false, fault.UnknownCommit.ID, true},
		{"being finished", here, "in progress", false, fault.CommitFailed.ID, false},
		{"another server", identity{"8", "00000001", "5", "shop"}, "committed", false, fault.UnknownCommit.ID, true},
		{"another database", identity{"7", "00000001", "6", "shop"}, "committed", false, fault.UnknownCommit.ID, true},
		{"after a failover", identity{"7", "00000002", "5", "shop"}, "committed", false, fault.UnknownCommit.ID, true},
		{"rolled back after a failover", identity{"7", "00000002", "5", "shop"}, "aborted", false, fault.LostCommit.ID, true},
	}
	for _, c := range cases {
		err := judge(native{GID: "g", XID: "1", identity: here}, c.now, c.status, c.future)
		if (err == nil) != (c.code == "") || err != nil && fault.CodeOf(err) != c.code || sink.IsPermanent(err) != c.permanent {
			t.Errorf("%s: got %v, permanent %v; want %q, permanent %v", c.name, err, sink.IsPermanent(err), c.code, c.permanent)
		}
	}
}

// TestStates has every row of the decision table, and some that aren't in it.
func TestStates(t *testing.T) {
	type want struct{ write, commit verdict }
	both := func(v verdict) want { return want{v, v} }
	bad, stop := want{reject, again}, want{never, again}
	cases := map[string]want{
		"08": both(again), "0A": both(never), "21": bad, "22": bad, "23": bad, "25": both(again), "28": both(never), "3D": both(never),
		"3F": both(never), "40": both(again), "42": stop, "44": bad, "53": both(again), "54": bad, "55": both(again),
		"57": both(again), "58": both(again), "P0": bad, "XX": both(again),
		"22P03": both(again), "25006": both(again), "42501": both(never), "42703": stop, "42704": {never, absent}, "42710": both(again), "42804": stop,
		"42P01": stop, "42P10": stop, "428C9": stop, "53100": both(again), "53200": both(again), "53300": both(again),
		"55000": stop, "55006": both(again), "55P03": both(again), "57P04": both(never),
		// Those of a class, and those of none.
		"08006": both(again), "23505": bad, "22001": bad, "P0001": bad, "40001": both(again), "57P01": both(again), "42601": stop,
		"": both(again), "HV000": both(again), "XX001": both(again),
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
			got  error
			v    verdict
			code fault.Code
		}{{failed(err, "write"), w.write, fault.SinkFailed}, {uncommitted(err, "commit"), w.commit, fault.CommitFailed}} {
			if sink.IsPermanent(c.got) != (c.v == never) || fault.CodeOf(c.got) != c.code.ID || !strings.Contains(c.got.Error(), "Because.") {
				t.Errorf("state %q: got %v, permanent %v", state, c.got, sink.IsPermanent(c.got))
			}
		}
	}
}
