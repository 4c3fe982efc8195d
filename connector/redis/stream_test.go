package redis_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/connector/redis"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// entry writes a record to the stream its key names, under its number.
func entry(v pair, c *redis.Cmds) error {
	c.XAddID(v.K, strconv.Itoa(v.N), "n", v.N, "half", 0.5, "text", []byte("x"), "yes", true)
	return nil
}

// TestEntriesAgain writes entries that are there already: nothing changes, and nothing is rejected.
func TestEntriesAgain(t *testing.T) {
	srv := testsvc.Redis(t)
	db := srv.Client()
	defer db.Close()
	s := redis.Sink[pair]{Addr: srv.Addr, Prefix: "again:", Do: entry}
	for range 3 {
		w := open(t, s)
		for n := range 50 {
			write(t, w, pair{"s", n + 1}, pair{"t", n + 1})
		}
		flush(t, w)
		if rs := rejects(w); len(rs) > 0 {
			t.Fatalf("%d rejected, the first because of %v", len(rs), rs[0].Err)
		}
	}
	if n := db.XLen(t.Context(), "again:s").Val() + db.XLen(t.Context(), "again:t").Val(); n != 100 {
		t.Errorf("%d entries, want 100", n)
	}
}

func rejects(w sink.Writer[pair]) []sink.RejectedRecord {
	r, _ := sink.As[sink.Rejecter](w)
	return r.Rejects()
}

// TestEntriesRefused: what isn't there and can't be added any more is rejected, never taken for done.
func TestEntriesRefused(t *testing.T) {
	srv := testsvc.Redis(t)
	db := srv.Client()
	defer db.Close()
	for _, c := range []struct {
		name, says string
		first      []pair
		late       pair
	}{
		{"late", "entry 5 came after a later one", []pair{{"s", 4}, {"s", 6}}, pair{"s", 5}},
		{"before the first", "entry 3 came after a later one", []pair{{"s", 4}}, pair{"s", 3}},
		{"zero", "must be greater than 0-0", nil, pair{"s", 0}},
		{"negative", `id "-1" isn't one or two numbers`, nil, pair{"s", -1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := open(t, redis.Sink[pair]{Addr: srv.Addr, Prefix: c.name + ":", Do: entry})
			write(t, w, c.first...)
			flush(t, w)
			write(t, w, c.late)
			flush(t, w)
			if rs := rejects(w); len(rs) != 1 || !strings.Contains(rs[0].Err.Error(), c.says) {
				t.Errorf("rejected: %v, want %q", rs, c.says)
			}
		})
	}
	t.Run("another", func(t *testing.T) {
		if err := db.Do(t.Context(), "xadd", "another:s", "7", "n", "8").Err(); err != nil {
			t.Fatal(err)
		}
		w := open(t, redis.Sink[pair]{Addr: srv.Addr, Prefix: "another:", Do: entry})
		write(t, w, pair{"s", 7})
		flush(t, w)
		if rs := rejects(w); len(rs) != 1 || !strings.Contains(rs[0].Err.Error(), "another entry has the id 7") {
			t.Errorf("rejected: %v", rs)
		}
	})
}

// TestEntriesTrimmed: an entry as old as those that are gone would be gone too.
func TestEntriesTrimmed(t *testing.T) {
	srv := testsvc.Redis(t)
	db := srv.Client()
	defer db.Close()
	ctx := t.Context()
	s := redis.Sink[pair]{Addr: srv.Addr, Prefix: "trim:", Do: func(v pair, c *redis.Cmds) error {
		c.XTrim(v.K, 1_000_000)
		return entry(v, c)
	}}
	w := open(t, s)
	for n := range 20 {
		write(t, w, pair{"s", 2 * (n + 1)})
	}
	flush(t, w)
	if err := db.XTrimMaxLen(ctx, "trim:s", 5).Err(); err != nil {
		t.Fatal(err)
	}
	write(t, w, pair{"s", 2}, pair{"s", 40}, pair{"s", 39})
	flush(t, w)
	if rs := rejects(w); len(rs) != 1 || rs[0].Value.(pair).N != 39 {
		t.Errorf("rejected: %v, want 39 alone", rs)
	}
	if n := db.XLen(ctx, "trim:s").Val(); n != 5 {
		t.Errorf("%d entries, want 5", n)
	}
}

// TestEntriesWhileKilled adds entries while the server dies and comes back: each is there once, in order.
func TestEntriesWhileKilled(t *testing.T) {
	srv := testsvc.NewRedis(t, testsvc.RedisOptions{})
	w := open(t, redis.Sink[pair]{Addr: srv.Addr, Do: entry, Batching: async.Sink[pair]{
		MaxBatch: 20, Retry: async.Retry{Base: time.Millisecond, Max: 50 * time.Millisecond},
	}})
	const all = 3000
	for n := range all {
		write(t, w, pair{"s", n + 1})
		if n%1000 == 500 {
			srv.Kill()
			if err := srv.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	flush(t, w)
	if rs := rejects(w); len(rs) > 0 {
		t.Errorf("%d rejected, the first because of %v", len(rs), rs[0].Err)
	}
	db := srv.Client()
	defer db.Close()
	if n := db.XLen(t.Context(), "s").Val(); n != all {
		t.Errorf("%d entries, want %d", n, all)
	}
}

// TestLists sets lists as a whole, which may be repeated, and appends to others, which may not.
func TestLists(t *testing.T) {
	srv := testsvc.Redis(t)
	db := srv.Client()
	defer db.Close()
	ctx := t.Context()
	w := open(t, redis.Sink[pair]{Addr: srv.Addr, Prefix: "lists:", Do: func(v pair, c *redis.Cmds) error {
		c.SetList("whole", v.K, v.N)
		c.SetList("gone", 1)
		c.SetList("gone")
		return nil
	}})
	write(t, w, pair{"a", 1}, pair{"b", 2}, pair{"b", 2})
	flush(t, w)
	s := redis.MarkedSink[pair]{Addr: srv.Addr, Prefix: "lists:", Do: func(v pair, c *redis.MarkedCmds) error {
		c.RPush("right", v.N)
		c.LPush("left", v.N, -v.N)
		c.SetList("whole2", v.N)
		return nil
	}}
	pw, err := s.Writer(ctx, sink.Task{})
	if err != nil {
		t.Fatal(err)
	}
	defer pw.Close()
	if err := errors.Join(pw.Write(ctx, []pair{{"", 1}, {"", 2}}), pw.Flush(ctx)); err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, k := range []string{"whole", "gone", "right", "left", "whole2"} {
		got += fmt.Sprint(k, db.LRange(ctx, "lists:"+k, 0, -1).Val(), " ")
	}
	if want := "whole[b 2] gone[] right[1 2] left[-2 2 -1 1] whole2[2] "; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestAppendingSaysAtLeastOnce: a pipeline whose sink appends is told what that amounts to, and what to do.
func TestAppendingSaysAtLeastOnce(t *testing.T) {
	p := engine.New(engine.Config{Name: "lists", Dir: t.TempDir()})
	s := engine.From(p, "numbers", gen.Source[string]{Make: func(n int64) string { return strconv.FormatInt(n, 10) }, Count: 1})
	engine.To(s, "out", redis.MarkedSink[string]{Do: push})
	g := p.Plan().Guarantees[0]
	if g.Promise != engine.PromiseAtLeastOnce || !strings.Contains(g.Why, "add to what is there") || !strings.Contains(g.Fix, "ahead.Sink") {
		t.Errorf("%+v", g)
	}
}
