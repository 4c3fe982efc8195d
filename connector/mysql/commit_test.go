package mysql

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
	"github.com/weirline/weirline/txn/txntest"
)

// A writer whose connection broke restarts its task.
func TestWriterAfterTheServerRestarted(t *testing.T) {
	m := testsvc.NewMariaDB(t, testsvc.MariaDBOptions{})
	w, _ := open(t, points(m, newTable(t, m, "")))
	m.Kill()
	if err := m.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.Begin(t.Context(), txntest.Slot(t, 3)); err == nil || sink.IsPermanent(err) {
		t.Errorf("writer whose connection broke: %v, want an error that restarts the task", err)
	}
}

func killSession(ctx context.Context, m *testsvc.MariaDBServer, s *session) error {
	id, err := s.one(ctx, "select connection_id()")
	return errors.Join(err, m.Exec(ctx, "kill "+id))
}

// A connection that is lost on the way leaves a transaction of which the writer can't know whether it was prepared; recovery
// clears it either way.
func TestConnectionLostAtPrepare(t *testing.T) {
	m := testsvc.MariaDB(t)
	table := newTable(t, m, "")
	s := points(m, table)
	for i, sql := range []string{"", "xa end %[1]s", "xa end %[1]s; xa prepare %[1]s"} {
		w, c := open(t, s)
		x := w.(*txWriter[point])
		if err := errors.Join(w.Begin(t.Context(), txntest.Slot(t, i)), w.Write(t.Context(), []point{{i, "a"}})); err != nil {
			t.Fatal(err)
		}
		if sql != "" { // the server got as far as this and its answer is lost
			if err := x.s.exec(t.Context(), fmt.Sprintf(sql, xidOf(txn.NameOf(x.slot.Name, x.token), x.o.database))); err != nil {
				t.Fatal(err)
			}
		}
		if err := killSession(t.Context(), m, x.s); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Prepare(t.Context(), 1); err == nil || sink.IsPermanent(err) || fault.CodeOf(err) != fault.SinkFailed.ID {
			t.Errorf("Prepare without a connection: %v, want %s and another attempt", err, fault.SinkFailed.ID)
		}
		if err := c.Recover(t.Context(), nil, []sink.Slot{txntest.Slot(t, i)}); err != nil {
			t.Fatal(err)
		}
		if left, err := leftovers(m, txntest.Slot(t, i)); err != nil || len(left) > 0 {
			t.Errorf("left: %q, %v", left, err)
		}
	}
	wantRows(t, m, table)
}

// Sessions are killed while XA PREPARE runs, whatever instant that is: recovery leaves nothing, and what it is told to keep
// isn't lost.
func TestKilledInPrepare(t *testing.T) {
	m := testsvc.MariaDB(t)
	table := newTable(t, m, "")
	s := points(m, table)
	c := finisher(t, s, task())
	var kept []point
	for i := range 60 {
		w, _ := open(t, s)
		x := w.(*txWriter[point])
		p := point{i, "a"}
		if err := errors.Join(w.Begin(t.Context(), txntest.Slot(t, i)), w.Write(t.Context(), []point{p})); err != nil {
			t.Fatal(err)
		}
		id, err := x.s.one(t.Context(), "select connection_id()")
		if err != nil {
			t.Fatal(err)
		}
		killed := make(chan error, 1)
		go func() { killed <- m.Exec(context.Background(), "kill "+id) }()
		h, perr := w.Prepare(t.Context(), 1)
		<-killed // fails if the session has gone
		var keep []sink.Handle
		if perr == nil {
			keep, kept = []sink.Handle{h}, append(kept, p)
		}
		if err := c.Recover(t.Context(), keep, []sink.Slot{txntest.Slot(t, i)}); err != nil {
			t.Fatal(err)
		}
		if left, err := leftovers(m, txntest.Slot(t, i)); err != nil || len(left) > 0 {
			t.Errorf("left: %q, %v", left, err)
		}
	}
	t.Logf("%d of 60 were prepared", len(kept))
	wantRows(t, m, table, kept...)
}

// The process that has prepared is away from the network: the server still has its connection, and the transaction with it.
func TestCommitEndsTheOldSession(t *testing.T) {
	m := testsvc.MariaDB(t)
	table := newTable(t, m, "")
	s := points(m, table)
	w, c := open(t, s)
	h1 := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, point{1, "a"})
	h2 := txntest.Prepare(t, w, txntest.Slot(t, 2), 1, point{2, "b"})
	lost := unpark(func(_ string, p parking) bool { return p.owner == ownerOf(w.(*txWriter[point]).o, task()) })
	if len(lost) != 2 {
		t.Fatalf("%d connections are kept, want 2", len(lost))
	}
	for _, p := range lost {
		defer p.s.drop()
	}
	if err := c.Commit(t.Context(), []sink.Handle{h1}); err != nil {
		t.Fatal(err)
	}
	if err := c.Recover(t.Context(), nil, []sink.Slot{h1.Slot, h2.Slot}); err != nil {
		t.Fatal(err)
	}
	wantRows(t, m, table, point{1, "a"})
}

// Connections don't outlive their committer.
func TestCommitterClosesConnections(t *testing.T) {
	m := testsvc.NewMariaDB(t, testsvc.MariaDBOptions{})
	table := newTable(t, m, "")
	s := points(m, table)
	w, c := open(t, s)
	h := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, point{1, "a"})
	if err := errors.Join(c.Commit(t.Context(), []sink.Handle{h}), c.Close()); err != nil {
		t.Fatal(err)
	}
	h = txntest.Prepare(t, w, txntest.Slot(t, 2), 2, point{2, "b"})
	if err := errors.Join(w.Close(), c.Close()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; { // the server takes a moment to notice
		got, err := m.Query(t.Context(), "select count(*) from information_schema.processlist where command = 'Sleep'")
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("%q sessions are left, %v", got, err)
		}
		if got[0] == "0" {
			break
		}
	}
	if err := finisher(t, s, task()).Commit(t.Context(), []sink.Handle{h}); err != nil {
		t.Fatal(err)
	}
	wantRows(t, m, table, point{1, "a"}, point{2, "b"})
}

// A server that says it has committed, and has not, is found out. MariaDB does when XA COMMIT comes between the moment in which a
// session that ends gives the transaction away and that in which the engine does.
func TestCommitThatIsNone(t *testing.T) {
	m := testsvc.NewMariaDB(t, testsvc.MariaDBOptions{})
	table := newTable(t, m, "")
	s := points(m, table)
	o, err := s.settings()
	if err != nil {
		t.Fatal(err)
	}
	other, err := o.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer other.close()
	w, _ := open(t, s)
	sl := txntest.Slot(t, 1)
	for i := range 20_000 {
		h := txntest.Prepare(t, w, sl, 1, point{i, "a"})
		n, err := readNative(h)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range unpark(func(name string, _ parking) bool { return name == n.Name }) {
			p.s.drop()
		}
		for err = errNotBegun; err != nil; { // the first moment in which it is taken, without a pause
			if err = other.exec(t.Context(), "xa commit "+n.xid()); err != nil && numberOf(err) != unknownXID {
				t.Fatal(err)
			}
		}
		if visible, err := other.hasToken(t.Context(), n, "read committed"); err != nil {
			t.Fatal(err)
		} else if visible {
			continue
		}
		t.Logf("attempt %d", i)
		err = finisher(t, s, task()).Recover(t.Context(), []sink.Handle{h}, []sink.Slot{sl})
		fails(t, fault.CommitFailed, "restart the database server", err)
		m.Kill()
		if err := m.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := finisher(t, s, task()).Recover(t.Context(), []sink.Handle{h}, []sink.Slot{sl}); err != nil {
			t.Fatal(err)
		}
		got, err := m.Query(t.Context(), fmt.Sprintf("select count(*) = %d, max(id) = %d from %s", i+1, i, table))
		if err != nil || got[0] != "1\t1" {
			t.Errorf("rows after all: %q, %v", got, err)
		}
		return
	}
	t.Log("the server did what it said each time")
}

// A transaction's token is looked for where it was prepared: a server that knows nothing of it can't say that it is lost.
func TestHandleOfAnotherServer(t *testing.T) {
	m := testsvc.MariaDB(t)
	s := points(m, newTable(t, m, ""))
	w, c := open(t, s)
	h := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, point{1, "a"})
	away := s
	away.DSN = testsvc.NewMariaDB(t, testsvc.MariaDBOptions{}).DSN
	n, err := readNative(h)
	if err := errors.Join(err, detach(t.Context(), m, n)); err != nil {
		t.Fatal(err)
	}
	err = finisher(t, away, task()).Commit(t.Context(), []sink.Handle{h})
	if !sink.IsPermanent(err) || fault.CodeOf(err) != fault.UnknownCommit.ID {
		t.Errorf("commit on another server: %v, want a permanent %s", err, fault.UnknownCommit.ID)
	}
	if err := c.Recover(t.Context(), nil, []sink.Slot{h.Slot}); err != nil {
		t.Fatal(err)
	}
	if left, err := leftovers(m, h.Slot); err != nil || len(left) != 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

// Jobs of one name in two databases of a server don't know each other.
func TestOtherDatabase(t *testing.T) {
	m := testsvc.MariaDB(t)
	table := newTable(t, m, "")
	s := points(m, table)
	other := newName("other")
	if err := m.Exec(t.Context(), fmt.Sprintf("create database %s; create table %s.%s like %s", other, other, table, table)); err != nil {
		t.Fatal(err)
	}
	away := s
	away.DSN = m.For("root", other)
	w, c := open(t, s)
	h := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, point{1, "a"})
	if err := w.Begin(t.Context(), txntest.Slot(t, 2)); err != nil {
		t.Fatal(err)
	}
	v, d := open(t, away)
	if err := d.Recover(t.Context(), nil, []sink.Slot{txntest.Slot(t, 1), txntest.Slot(t, 2)}); err != nil {
		t.Fatal(err)
	}
	g := txntest.Prepare(t, v, txntest.Slot(t, 1), 1, point{5, "e"})
	h2, err := w.Prepare(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Commit(t.Context(), []sink.Handle{g}), c.Commit(t.Context(), []sink.Handle{h, h2})); err != nil {
		t.Fatal(err)
	}
	wantRows(t, m, table, point{1, "a"})
	wantRows(t, m, other+"."+table, point{5, "e"})
}

// Recovery touches what begins with one of its slots' names and nothing that only looks like it.
func TestRecoverLeavesStrangersAlone(t *testing.T) {
	m := testsvc.MariaDB(t)
	o, err := points(m, "t").settings()
	if err != nil {
		t.Fatal(err)
	}
	s := sink.Slot{ID: 1, Name: "strangers-out-1"}
	name := txn.NameOf(s.Name, txn.NewToken())
	strangers := []string{fmt.Sprintf("'%s','',1", txn.NameOf(s.Name, txn.NewToken()))} // of another format
	for _, n := range []string{
		s.Name, s.Name + "-", s.Name + "-abc", txn.NameOf(s.Name+"0", txn.NewToken()), txn.NameOf(s.Name+"-1", txn.NewToken()),
		txn.NameOf(s.Name[:len(s.Name)-1], txn.NewToken()), s.Name + "_" + txn.NewToken(), txn.NameOf(s.Name, txn.NewToken()[1:]),
	} {
		strangers = append(strangers, xidOf(n, o.database))
	}
	mine := xidOf(name, o.database)
	table := newTable(t, m, "")
	for i, xid := range append(strangers, mine) {
		if err := m.Exec(t.Context(), fmt.Sprintf("xa start %[1]s; insert into %s values (%d, ''); xa end %[1]s; xa prepare %[1]s", xid, table, i)); err != nil {
			t.Fatal(xid, err)
		}
	}
	if err := finisher(t, points(m, "t"), task()).Recover(t.Context(), nil, []sink.Slot{s}); err != nil {
		t.Fatal(err)
	}
	if err := m.Exec(t.Context(), "xa rollback "+mine); numberOf(err) != unknownXID {
		t.Errorf("%s is still there: %v", mine, err)
	}
	for _, xid := range strangers {
		if err := m.Exec(t.Context(), "xa rollback "+xid); err != nil {
			t.Errorf("%s is gone: %v", xid, err)
		}
	}
}

func TestOnlyItsOwnIsFinishedByHand(t *testing.T) {
	l, ok := sink.As[txn.Lister](finisher(t, points(testsvc.MariaDB(t), "t"), task()))
	if !ok {
		t.Fatal("the committer isn't a txn.Lister")
	}
	if err := l.Finish(t.Context(), txn.Pending{Name: "x'; drop table y; --"}, true); err == nil {
		t.Error("a foreign name was taken")
	}
}

// A slot's old tokens go with its next transaction, and nobody else's.
func TestOldTokensGo(t *testing.T) {
	m := testsvc.MariaDB(t)
	s := points(m, newTable(t, m, ""))
	s.Tokens = "test.old_tokens"
	w, c := open(t, s)
	h1 := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, point{1, "a"})
	h2 := txntest.Prepare(t, w, txntest.Slot(t, 2), 1, point{2, "b"})
	if err := c.Commit(t.Context(), []sink.Handle{h1, h2}); err != nil {
		t.Fatal(err)
	}
	if err := m.Exec(t.Context(), "update old_tokens set made = now(6) - interval 8 day"); err != nil {
		t.Fatal(err)
	}
	h3 := txntest.Prepare(t, w, txntest.Slot(t, 1), 2, point{3, "c"})
	if err := c.Commit(t.Context(), []sink.Handle{h3}); err != nil {
		t.Fatal(err)
	}
	got, err := m.Query(t.Context(), "select token from old_tokens order by epoch")
	if want := h2.Token + " " + h3.Token; err != nil || strings.Join(got, " ") != want {
		t.Errorf("tokens %q, %v; want %q", got, err, want)
	}
}

func TestHandleOfAnotherForm(t *testing.T) {
	c := finisher(t, points(testsvc.MariaDB(t), "t"), task())
	name := txn.NameOf("s", txn.NewToken())
	for data, code := range map[string]fault.Code{
		"":              fault.CommitFailed,
		`{"version":2}`: fault.NewerFormat,
		`{"version":1}`: fault.CommitFailed,
		`{"version":1,"native":{"name":"` + name + `","tokens":"x; drop table y"}}`:                                fault.CommitFailed,
		"{\"version\":1,\"native\":{\"name\":\"'; drop table x\",\"tokens\":\"`a`.`b`\"}}":                         fault.CommitFailed,
		"{\"version\":1,\"native\":{\"name\":\"" + strings.Repeat("x", 100) + name + "\",\"tokens\":\"`a`.`b`\"}}": fault.CommitFailed,
	} {
		err := c.Commit(t.Context(), []sink.Handle{{Native: []byte(data)}})
		if !sink.IsPermanent(err) || fault.CodeOf(err) != code.ID {
			t.Errorf("%q: got %v, want a permanent %s", data, err, code.ID)
		}
	}
}
