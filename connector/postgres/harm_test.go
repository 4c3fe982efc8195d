package postgres

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
)

// rounds writes each key once a round while harm is done, and compares the table with the last round.
func rounds(t *testing.T, pg *testsvc.PostgresServer, s Sink[point], harm func(round int)) *numbersOf {
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
	wantRows(t, pg, s.Table, lastRound(keys, all)...)
	return n
}

// TestSinkServerDies kills the server under a writer that has several batches on their way.
func TestSinkServerDies(t *testing.T) {
	pg := testsvc.NewPostgres(t, testsvc.PostgresOptions{})
	s := upserts(pg.URL, table(t, pg, ""))
	s.Batching.Key = func(p point) string { return fmt.Sprint(p.ID) }
	var back sync.WaitGroup
	n := rounds(t, pg, s, func(round int) {
		if round%60 != 50 {
			return
		}
		back.Wait()
		pg.Kill()
		back.Go(func() {
			if err := pg.Restart(t.Context()); err != nil {
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
	pg := testsvc.Postgres(t)
	p := proxied(t, pg)
	s := upserts(p.url, table(t, pg, ""))
	s.Batching.Timeout = 300 * time.Millisecond
	var healed sync.WaitGroup
	n := rounds(t, pg, s, func(round int) {
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

func proxied(t *testing.T, pg *testsvc.PostgresServer) proxy {
	t.Helper()
	c, err := pgx.ParseConfig(pg.URL)
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("%s:%d", c.Host, c.Port)
	p, err := testsvc.StartProxy("127.0.0.1:0", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Cut)
	return proxy{p, strings.Replace(pg.URL, addr, p.Addr, 1)}
}

// waiting returns the process that waits for a lock, other than one, when there is one.
func waitingFor(t *testing.T, pg *testsvc.PostgresServer, other string) (pid string, all []string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		all, err := pg.Query(t.Context(), "select pid from pg_stat_activity where application_name = 'weirline' and wait_event_type = 'Lock' and wait_event <> 'advisory'")
		if err != nil {
			t.Fatal(err)
		}
		for _, pid := range all {
			if pid != other {
				return pid, all
			}
		}
	}
	t.Fatal("nobody waits for a lock")
	return "", nil
}

// TestSinkEndsWhatBroke has a statement wait in the server when its connection breaks. It has ended before it is repeated.
func TestSinkEndsWhatBroke(t *testing.T) {
	pg := testsvc.NewPostgres(t, testsvc.PostgresOptions{})
	p := proxied(t, pg)
	s := upserts(p.url, table(t, pg, ""))
	release := hold(t, pg, "insert into "+s.Table+" values (1, 'held')")
	defer release()
	w, n := openPlain(t, s)
	write(t, w, point{1, "a"})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := w.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	first, _ := waitingFor(t, pg, "")
	p.Cut()
	for n.retries() == 0 { // the client has noticed, and can't tell the server
		runtime.Gosched()
	}
	if err := p.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if second, all := waitingFor(t, pg, first); len(all) != 1 {
		t.Errorf("%s waits beside %v", second, all)
	}
	release()
	flush(t, w)
	wantRows(t, pg, s.Table, point{1, "a"})
}

// TestSinkDeadlock has the server choose the sink's statement as the victim, which is then repeated.
func TestSinkDeadlock(t *testing.T) {
	pg := testsvc.NewPostgres(t, testsvc.PostgresOptions{Args: []string{"-c", "deadlock_timeout=200ms"}})
	s := upserts(pg.URL, table(t, pg, ""))
	if err := pg.Exec(t.Context(), "insert into "+s.Table+" values (1, 'x'), (2, 'x')"); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), pg.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "set deadlock_timeout = '20s'; begin; update "+s.Table+" set name = 'y' where id = 2"); err != nil {
		t.Fatal(err)
	}
	w, n := openPlain(t, s)
	write(t, w, point{1, "a"}, point{2, "a"})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := w.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "update "+s.Table+" set name = 'y' where id = 1; commit"); err != nil {
		t.Fatal(err)
	}
	flush(t, w)
	wantRows(t, pg, s.Table, point{1, "a"}, point{2, "a"})
	if n.retries() != 2 || n.of("connections") != 1 {
		t.Errorf("counted %v, want both records sent again on the same connection", n.m)
	}
}

// TestSinkWritersOverlap has writers that write the same keys, each in another order. Rows are locked in the order of their keys, so
// nobody waits in a circle.
func TestSinkWritersOverlap(t *testing.T) {
	pg := testsvc.NewPostgres(t, testsvc.PostgresOptions{Args: []string{"-c", "deadlock_timeout=10ms"}})
	s := upserts(pg.URL, table(t, pg, ""))
	var all []*numbersOf
	var writers sync.WaitGroup
	for i := range 3 {
		w, n := openPlain(t, s)
		all = append(all, n)
		writers.Go(func() {
			for r := range 60 {
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
	for _, n := range all {
		if n.retries() > 0 {
			t.Errorf("%d records were sent again", n.retries())
		}
	}
}

// TestSinkWaits has the server take no connections, and no writes, for a while.
func TestSinkWaits(t *testing.T) {
	pg := testsvc.NewPostgres(t, testsvc.PostgresOptions{Args: []string{"-c", "max_connections=6", "-c", "superuser_reserved_connections=0"}})
	s := upserts(pg.URL, table(t, pg, ""))
	for name, harm := range map[string]func(t *testing.T) (heal func()){
		"too many connections": func(t *testing.T) func() {
			var all []func()
			for range 6 {
				all = append(all, hold(t, pg, "select 1"))
			}
			return func() {
				for _, release := range all {
					release()
				}
			}
		},
		"read only": func(t *testing.T) func() {
			set := func(to string) {
				if err := pg.Exec(t.Context(), "begin read write; alter database postgres set default_transaction_read_only = "+to+"; commit"); err != nil {
					t.Error(err)
				}
			}
			set("on")
			return func() { set("off") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			heal := harm(t)
			w, n := openPlain(t, s)
			write(t, w, point{1, name})
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			err := w.Flush(ctx)
			heal()
			if !errors.Is(err, context.DeadlineExceeded) || n.retries() == 0 {
				t.Errorf("got %v after %d repetitions, want the writer to wait", err, n.retries())
			}
			flush(t, w)
			wantRows(t, pg, s.Table, point{1, name})
		})
	}
}

// TestSinkStops has a table, and a right, taken away while the writer has a connection.
func TestSinkStops(t *testing.T) {
	pg := testsvc.NewPostgres(t, testsvc.PostgresOptions{})
	for _, c := range []struct{ name, sql, says string }{
		{"table", "drop table %s", "create the table"},
		{"right", "revoke insert on %s from worker", "grant the user"},
		{"column", "alter table %s drop column name", "or add the column"},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := table(t, pg, "")
			if err := pg.Exec(t.Context(), "drop role if exists worker; create role worker login; grant all on "+name+" to worker"); err != nil {
				t.Fatal(err)
			}
			w, _ := openPlain(t, upserts(strings.Replace(pg.URL, "test@", "worker@", 1), name))
			write(t, w, point{1, "a"})
			flush(t, w)
			if err := pg.Exec(t.Context(), fmt.Sprintf(c.sql, name)); err != nil {
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
			if err := errors.Join(w.Close(), pg.Exec(t.Context(), "drop table if exists "+name+"; drop role worker")); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSinkColumnChanges has a column's type changed under a writer, which learns it.
func TestSinkColumnChanges(t *testing.T) {
	pg := testsvc.Postgres(t)
	s := upserts(pg.URL, table(t, pg, "id int4 primary key, name text"))
	w, _ := openPlain(t, s)
	write(t, w, point{1, "a"})
	flush(t, w)
	if err := pg.Exec(t.Context(), "alter table "+s.Table+" alter id type int8"); err != nil {
		t.Fatal(err)
	}
	write(t, w, point{2, "b"})
	flush(t, w)
	wantRows(t, pg, s.Table, point{1, "a"}, point{2, "b"})
}

// TestSinkSnapshotWhileDown writes what waited for a dead server by another writer.
func TestSinkSnapshotWhileDown(t *testing.T) {
	pg := testsvc.NewPostgres(t, testsvc.PostgresOptions{})
	s := upserts(pg.URL, table(t, pg, ""))
	s.Batching.MaxBuffered = 5000
	pg.Kill()
	w, _ := openPlain(t, s)
	write(t, w, numbered(1000)...)
	st, ok := sink.As[sink.Stateful](w)
	if !ok {
		t.Fatal("the writer isn't Stateful")
	}
	state, err := st.Snapshot()
	if err := errors.Join(err, w.Close(), pg.Restart(t.Context())); err != nil {
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
	wantRows(t, pg, s.Table, want...)
}
