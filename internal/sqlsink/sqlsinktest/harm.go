package sqlsinktest

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
)

// rounds writes each key once a round while harm is done, and compares the table with the last round.
func (k Kit) rounds(t *testing.T, s Server, o Settings, harm func(round int)) *Counts {
	t.Helper()
	const keys, all = 60, 180
	o.Batching.MaxBatch = 25
	w, n := k.open(t, o)
	batch := make([]Point, keys)
	for r := range all {
		for i := range batch {
			batch[i] = Point{i, fmt.Sprint("round ", r)}
		}
		Write(t, w, slices.Clone(batch)...)
		harm(r)
	}
	if bad := Flush(t, w); len(bad) > 0 {
		t.Errorf("%d records were refused, the first: %v", len(bad), bad[0].Err)
	}
	WantRows(t, s, o.Table, batch...)
	return n
}

// ServerDies kills the server under a writer that has several batches on their way.
func (k Kit) ServerDies(t *testing.T) {
	s := k.Start(t)
	o := k.fresh(t, s)
	o.Batching.Key = func(p Point) string { return fmt.Sprint(p.ID) }
	var back sync.WaitGroup
	n := k.rounds(t, s, o, func(round int) {
		if round%60 != 50 {
			return
		}
		back.Wait()
		s.Kill()
		back.Go(func() {
			if err := s.Restart(t.Context()); err != nil {
				t.Error(err)
			}
		})
	})
	back.Wait()
	if n.Retries() == 0 || n.Of("connections") < 3 {
		t.Errorf("the deaths weren't noticed: %v", n)
	}
}

// BadNetwork cuts, silences and slows the network.
func (k Kit) BadNetwork(t *testing.T) {
	s := k.Share(t)
	o := k.fresh(t, s)
	p := proxied(t, &o)
	o.Batching.Timeout = 300 * time.Millisecond
	var healed sync.WaitGroup
	n := k.rounds(t, s, o, func(round int) {
		if round%60 != 20 {
			return
		}
		healed.Wait()
		harms := []func() error{func() error { p.Cut(); return nil }, p.Silence, func() error { return p.Slow(20 * time.Millisecond) }}
		if err := harms[round/60](); err != nil {
			t.Fatal(err)
		}
		healed.Go(func() {
			<-time.After(500 * time.Millisecond) // longer than Timeout
			if err := p.Heal(t.Context()); err != nil {
				t.Error(err)
			}
		})
	})
	if n.Retries() == 0 {
		t.Errorf("the network's faults weren't noticed: %v", n)
	}
}

var address = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// proxied leads a sink over a bad network.
func proxied(t *testing.T, o *Settings) *testsvc.Proxy {
	t.Helper()
	addr := address.FindString(o.URL)
	p, err := testsvc.StartProxy("127.0.0.1:0", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Cut)
	o.URL = strings.Replace(o.URL, addr, p.Addr, 1)
	return p
}

// waiting returns the sessions that wait for locks, when one other than a given one does.
func (k Kit) waiting(t *testing.T, s Server, other string) []string {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		all, err := s.Query(t.Context(), k.Waiting)
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(all, func(session string) bool { return session != other }) {
			return all
		}
	}
	t.Fatal("nobody waits for a lock")
	return nil
}

// blocked checks that a writer can't write all it has.
func blocked(t *testing.T, w sink.Writer[Point]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := w.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want the writer to wait", err)
	}
}

// EndsWhatBroke has a statement wait in the server when its connection breaks. It has ended before it is repeated.
func (k Kit) EndsWhatBroke(t *testing.T) {
	s := k.Start(t)
	o := k.fresh(t, s)
	p := proxied(t, &o)
	held := k.hold(t, s, "insert into "+o.Table+" values (1, 'held')")
	defer held.Release()
	w, n := k.open(t, o)
	Write(t, w, Point{1, "a"})
	blocked(t, w)
	first := k.waiting(t, s, "")[0]
	p.Cut()
	for n.Retries() == 0 { // the client has noticed, and can't tell the server
		runtime.Gosched()
	}
	if err := p.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all := k.waiting(t, s, first); len(all) != 1 {
		t.Errorf("sessions %v wait, and %s should have ended", all, first)
	}
	held.Release()
	Flush(t, w)
	WantRows(t, s, o.Table, Point{1, "a"})
}

// Deadlock has the server choose the sink's statement as the victim, which is then repeated: it has written less, and waits less.
func (k Kit) Deadlock(t *testing.T) {
	s := k.Share(t)
	o := k.fresh(t, s)
	var rows []string
	for i := range 300 {
		rows = append(rows, fmt.Sprintf("(%d, 'x')", i+1))
	}
	if err := s.Exec(t.Context(), "insert into "+o.Table+" values "+strings.Join(rows, ", ")); err != nil {
		t.Fatal(err)
	}
	other := k.hold(t, s, "update "+o.Table+" set name = 'y' where id > 1")
	defer other.Release()
	w, n := k.open(t, o)
	Write(t, w, Point{1, "a"}, Point{2, "a"})
	blocked(t, w)
	other.Exec("update " + o.Table + " set name = 'y' where id = 1")
	other.Exec("delete from " + o.Table + " where id > 2")
	other.Exec("commit")
	Flush(t, w)
	WantRows(t, s, o.Table, Point{1, "a"}, Point{2, "a"})
	if n.Retries() != 2 || n.Of("connections") != 1 {
		t.Errorf("counted %v, want both records sent again on the same connection", n)
	}
}

// WritersOverlap has writers that write the same keys, each in another order, and says how many records were sent again.
func (k Kit) WritersOverlap(t *testing.T, s Server) (retries int64) {
	o := k.fresh(t, s)
	var all []*Counts
	var writers sync.WaitGroup
	for i := range 3 {
		w, n := k.open(t, o)
		all = append(all, n)
		writers.Go(func() {
			for r := range 40 {
				batch := make([]Point, 200)
				for j := range batch {
					batch[j] = Point{(j*(7+2*i) + r) % 200, "x"}
				}
				if err := errors.Join(w.Write(t.Context(), batch), w.Flush(t.Context())); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	want := make([]Point, 200)
	for i := range want {
		want[i] = Point{i, "x"}
	}
	WantRows(t, s, o.Table, want...)
	for _, n := range all {
		retries += n.Retries()
	}
	return retries
}

// Waits has the server, which takes so many connections, take no more of them, and no writes, for a while.
func (k Kit) Waits(t *testing.T, s Server, connections int) {
	o := k.fresh(t, s)
	if err := s.Exec(t.Context(), "create user worker; grant select, insert, update, delete on "+o.Table+" to worker"); err != nil {
		t.Fatal(err)
	}
	o.URL = k.URL(s, "worker")
	for name, harm := range map[string]func(t *testing.T) (heal func()){
		"too many connections": func(t *testing.T) func() {
			var all []*Session
			for range connections {
				all = append(all, k.Hold(t, s))
			}
			return func() {
				for _, session := range all {
					session.Release()
				}
			}
		},
		"read only": func(t *testing.T) func() {
			set := func(to bool) {
				if err := s.Exec(t.Context(), k.ReadOnly[to]); err != nil {
					t.Error(err)
				}
			}
			set(true)
			return func() { set(false) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			heal := harm(t)
			w, n := k.open(t, o)
			Write(t, w, Point{1, name})
			blocked(t, w)
			heal()
			if n.Retries() == 0 {
				t.Error("nothing was sent again")
			}
			Flush(t, w)
			WantRows(t, s, o.Table, Point{1, name})
		})
	}
}

// Stops has a table, a right and a column taken away while the writer has a connection.
func (k Kit) Stops(t *testing.T) {
	s := k.Start(t)
	for _, c := range []struct{ name, sql, says string }{
		{"table", "drop table %s", "create the table"},
		{"right", "revoke insert on %s from worker_right", "grant the user"},
		{"column", "alter table %s drop column name", "or add the column"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, user := k.fresh(t, s), "worker_"+c.name
			if err := s.Exec(t.Context(), fmt.Sprintf("create user %s; grant select, insert, update, delete on %s to %s", user, o.Table, user)); err != nil {
				t.Fatal(err)
			}
			o.URL = k.URL(s, user)
			w, _ := k.open(t, o)
			Write(t, w, Point{1, "a"})
			Flush(t, w)
			if err := s.Exec(t.Context(), fmt.Sprintf(c.sql, o.Table)); err != nil {
				t.Fatal(err)
			}
			Write(t, w, Point{2, "b"})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			err := w.Flush(ctx)
			Fails(t, fault.SinkFailed, c.says, err)
			if !sink.IsPermanent(err) {
				t.Errorf("%v isn't permanent", err)
			}
		})
	}
}

// SnapshotWhileDown writes what waited for a dead server by another writer.
func (k Kit) SnapshotWhileDown(t *testing.T) {
	s := k.Start(t)
	o := k.fresh(t, s)
	o.Batching.MaxBuffered = 5000
	s.Kill()
	w, _ := k.open(t, o)
	Write(t, w, Numbered[Point](1000)...)
	st, ok := sink.As[sink.Stateful](w)
	if !ok {
		t.Fatal("the writer isn't Stateful")
	}
	state, err := st.Snapshot()
	if err := errors.Join(err, w.Close(), s.Restart(t.Context())); err != nil {
		t.Fatal(err)
	}
	w, _ = k.open(t, o)
	st, _ = sink.As[sink.Stateful](w)
	if err := st.Restore([][]byte{state}); err != nil {
		t.Fatal(err)
	}
	Write(t, w, Point{0, "later"})
	Flush(t, w)
	want := Numbered[Point](1000)
	want[0].Name = "later"
	WantRows(t, s, o.Table, want...)
}
