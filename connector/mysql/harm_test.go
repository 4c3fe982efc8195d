package mysql

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
)

// rounds writes each key once a round while harm is done, and compares the table with the last round.
func rounds(t *testing.T, m *testsvc.MariaDBServer, s Sink[point], harm func(round int)) *numbersOf {
	t.Helper()
	const keys, all = 60, 180
	s.Batching.MaxBatch = 25
	w, n := openPlain(t, s)
	for r := range all {
		batch := make([]point, keys)
		for k := range batch {
			batch[k] = point{k, fmt.Sprint("round ", r)}
		}
		write(t, w, batch...)
		harm(r)
	}
	if bad := flush(t, w); len(bad) > 0 {
		t.Errorf("%d records were refused, the first: %v", len(bad), bad[0].Err)
	}
	wantRows(t, m, s.Table, lastRound(keys, all)...)
	return n
}

// TestSinkServerDies kills the server under a writer that has several batches on their way.
func TestSinkServerDies(t *testing.T) {
	m := testsvc.NewMariaDB(t, testsvc.MariaDBOptions{})
	s := upserts(m.DSN, newTable(t, m, ""))
	s.Batching.Key = func(p point) string { return fmt.Sprint(p.ID) }
	var back sync.WaitGroup
	n := rounds(t, m, s, func(round int) {
		if round%60 != 50 {
			return
		}
		back.Wait()
		m.Kill()
		back.Go(func() {
			if err := m.Restart(t.Context()); err != nil {
				t.Error(err)
			}
		})
	})
	back.Wait()
	if n.retries() == 0 || n.of("connections") < 3 {
		t.Errorf("the deaths weren't noticed: %v", n.m)
	}
}

// TestSinkBadNetwork cuts, silences and slows the network.
func TestSinkBadNetwork(t *testing.T) {
	m := testsvc.MariaDB(t)
	p := proxied(t, m)
	s := upserts(p.url, newTable(t, m, ""))
	s.Batching.Timeout = 300 * time.Millisecond
	var healed sync.WaitGroup
	n := rounds(t, m, s, func(round int) {
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
	if n.retries() == 0 {
		t.Errorf("the network's faults weren't noticed: %v", n.m)
	}
}

// proxy is a bad network before a server.
type proxy struct {
	*testsvc.Proxy
	url string
}

func proxied(t *testing.T, m *testsvc.MariaDBServer) proxy {
	t.Helper()
	c, err := mysql.ParseDSN(m.DSN)
	if err != nil {
		t.Fatal(err)
	}
	p, err := testsvc.StartProxy("127.0.0.1:0", c.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Cut)
	return proxy{p, strings.Replace(m.DSN, c.Addr, p.Addr, 1)}
}

// inserting returns the sessions that insert something, when one other than a given one does.
func inserting(t *testing.T, m *testsvc.MariaDBServer, other string) []string {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		all, err := m.Query(t.Context(), "select id from information_schema.processlist where info like 'insert into%'")
		if err != nil {
			t.Fatal(err)
		}
		if len(all) > 1 || len(all) == 1 && all[0] != other {
			return all
		}
	}
	t.Fatal("nobody inserts")
	return nil
}

// soon is a context in which nothing ends that waits for a lock.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// TestSinkEndsWhatBroke has a statement wait in the server when its connection breaks. It has ended before it is repeated.
func TestSinkEndsWhatBroke(t *testing.T) {
	m := testsvc.NewMariaDB(t, testsvc.MariaDBOptions{})
	p := proxied(t, m)
	s := upserts(p.url, newTable(t, m, ""))
	_, release := hold(t, m, "begin", "insert into "+s.Table+" values (1, 'held')")
	defer release()
	w, n := openPlain(t, s)
	write(t, w, point{1, "a"})
	if err := w.Flush(soon(t)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	first := inserting(t, m, "")[0]
	p.Cut()
	for n.retries() == 0 { // the client has noticed, and can't tell the server
		runtime.Gosched()
	}
	if err := p.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all := inserting(t, m, first); len(all) != 1 {
		t.Errorf("sessions %v insert, and %s should have ended", all, first)
	}
	release()
	flush(t, w)
	wantRows(t, m, s.Table, point{1, "a"})
}

// TestSinkDeadlock has the server choose the sink's statement as the victim, which is then repeated: it has written less.
func TestSinkDeadlock(t *testing.T) {
	m := testsvc.MariaDB(t)
	s := upserts(m.DSN, newTable(t, m, ""))
	if err := m.Exec(t.Context(), "insert into "+s.Table+" select seq, 'x' from seq_1_to_300"); err != nil {
		t.Fatal(err)
	}
	conn, release := hold(t, m, "begin", "update "+s.Table+" set name = 'y' where id > 1")
	defer release()
	w, n := openPlain(t, s)
	write(t, w, point{1, "a"}, point{2, "a"})
	if err := w.Flush(soon(t)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	for _, sql := range []string{"update " + s.Table + " set name = 'y' where id = 1", "delete from " + s.Table + " where id > 2", "commit"} {
		if _, err := conn.ExecContext(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, w)
	wantRows(t, m, s.Table, point{1, "a"}, point{2, "a"})
	if n.retries() != 2 || n.of("connections") != 1 {
		t.Errorf("counted %v, want both records sent again on the same connection", n.m)
	}
}

// TestSinkWritersOverlap has writers that write the same keys, each in another order, and so wait in circles.
func TestSinkWritersOverlap(t *testing.T) {
	m := testsvc.MariaDB(t)
	s := upserts(m.DSN, newTable(t, m, ""))
	var writers sync.WaitGroup
	for i := range 3 {
		w, _ := openPlain(t, s)
		writers.Go(func() {
			for r := range 30 {
				batch := make([]point, 200)
				for k := range batch {
					batch[k] = point{(k*(7+2*i) + r) % 200, "x"}
				}
				if err := errors.Join(w.Write(t.Context(), batch), w.Flush(t.Context())); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	want := make([]point, 200)
	for i := range want {
		want[i] = point{i, "x"}
	}
	wantRows(t, m, s.Table, want...)
}

// TestSinkWaits has the server take no connections, and no writes, for a while.
func TestSinkWaits(t *testing.T) {
	m := testsvc.NewMariaDB(t, testsvc.MariaDBOptions{Args: []string{"--max-connections=10"}})
	s := upserts(m.For("worker", "test"), newTable(t, m, ""))
	if err := m.Exec(t.Context(), "create user worker; grant all on test.* to worker"); err != nil {
		t.Fatal(err)
	}
	for name, harm := range map[string]func(t *testing.T) (heal func()){
		"too many connections": func(t *testing.T) func() {
			var all []func()
			for range 10 {
				_, release := hold(t, m)
				all = append(all, release)
			}
			return func() {
				for _, release := range all {
					release()
				}
			}
		},
		"read only": func(t *testing.T) func() {
			set := func(to string) {
				if err := m.Exec(t.Context(), "set global read_only = "+to); err != nil {
					t.Error(err)
				}
			}
			set("1")
			return func() { set("0") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			heal := harm(t)
			w, n := openPlain(t, s)
			write(t, w, point{1, name})
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			err := w.Flush(ctx)
			heal()
			if !errors.Is(err, context.DeadlineExceeded) || n.retries() == 0 {
				t.Errorf("got %v after %d repetitions, want the writer to wait", err, n.retries())
			}
			flush(t, w)
			wantRows(t, m, s.Table, point{1, name})
		})
	}
}

// TestSinkStops has a table, and a right, taken away while the writer has a connection.
func TestSinkStops(t *testing.T) {
	m := testsvc.NewMariaDB(t, testsvc.MariaDBOptions{})
	for _, c := range []struct{ name, sql, says string }{
		{"table", "drop table %s", "create the table"},
		{"right", "revoke insert on test.%s from worker", "grant the user"},
		{"column", "alter table %s drop column name", "or add the column"},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := newTable(t, m, "")
			if err := m.Exec(t.Context(), "create or replace user worker; grant select, insert, update on test."+name+" to worker"); err != nil {
				t.Fatal(err)
			}
			s := upserts(m.For("worker", "test"), name)
			s.Delete = nil
			w, _ := openPlain(t, s)
			write(t, w, point{1, "a"})
			flush(t, w)
			if err := m.Exec(t.Context(), fmt.Sprintf(c.sql, name)); err != nil {
				t.Fatal(err)
			}
			write(t, w, point{2, "b"})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			err := w.Flush(ctx)
			fails(t, fault.SinkFailed, c.says, err)
			if !sink.IsPermanent(err) {
				t.Errorf("%v isn't permanent", err)
			}
		})
	}
}

// TestSinkSnapshotWhileDown writes what waited for a dead server by another writer.
func TestSinkSnapshotWhileDown(t *testing.T) {
	m := testsvc.NewMariaDB(t, testsvc.MariaDBOptions{})
	s := upserts(m.DSN, newTable(t, m, ""))
	s.Batching.MaxBuffered = 5000
	m.Kill()
	w, _ := openPlain(t, s)
	write(t, w, numbered(1000)...)
	st, ok := sink.As[sink.Stateful](w)
	if !ok {
		t.Fatal("the writer isn't Stateful")
	}
	state, err := st.Snapshot()
	if err := errors.Join(err, w.Close(), m.Restart(t.Context())); err != nil {
		t.Fatal(err)
	}
	w, _ = openPlain(t, s)
	st, _ = sink.As[sink.Stateful](w)
	if err := st.Restore([][]byte{state}); err != nil {
		t.Fatal(err)
	}
	write(t, w, point{0, "later"})
	flush(t, w)
	want := numbered(1000)
	want[0].Name = "later"
	wantRows(t, m, s.Table, want...)
}
