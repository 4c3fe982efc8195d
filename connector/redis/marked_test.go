package redis_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/redis"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/ahead"
)

func push(v string, c *redis.MarkedCmds) error {
	switch v {
	case "unwanted":
		return errUnwanted
	case "wrong":
		c.IncrBy("list", 1)
		return nil
	}
	c.RPush("list", v)
	return nil
}

var errUnwanted = errors.New("it isn't wanted")

func markWriter(t *testing.T, s redis.MarkedSink[string]) ahead.MarkWriter[string] {
	t.Helper()
	w, err := s.MarkWriter(t.Context(), sink.Task{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(w.Close(), w.Close()); err != nil {
			t.Error(err)
		}
	})
	return w
}

// TestMarkedCommands has a command of each kind in a batch, beside its mark.
func TestMarkedCommands(t *testing.T) {
	srv := testsvc.Redis(t)
	db := srv.Client()
	defer db.Close()
	ctx := t.Context()
	w := markWriter(t, redis.MarkedSink[string]{Addr: srv.Addr, Prefix: "kinds:", Do: func(v string, c *redis.MarkedCmds) error {
		c.Set("str", v)
		c.HSet("hash", "a", true, "b", 2.5)
		c.Expire("hash", time.Hour)
		c.IncrBy("sum", 40)
		c.HIncrBy("hash", "n", -3)
		c.ZIncrBy("sorted", 1.5, "m")
		c.RPush("list", v, 7)
		c.XAdd("stream", "f", v)
		return nil
	}})
	at := ahead.Mark{Token: "t1", Rows: 10}
	if n, err := w.Write(ctx, "slot", ahead.Mark{}, at, []string{"x", "a b\x00\r\n"}); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	if m, err := w.Mark(ctx, "slot"); err != nil || m != (ahead.Mark{Token: "t1", Rows: 12}) {
		t.Errorf("kept is %+v, %v", m, err)
	}
	if m, err := w.Mark(ctx, "other"); err != nil || m != (ahead.Mark{}) {
		t.Errorf("of another slot %+v, %v", m, err)
	}
	got := fmt.Sprint(db.Get(ctx, "kinds:str").Val(), db.HGetAll(ctx, "kinds:hash").Val(), db.Get(ctx, "kinds:sum").Val(),
		db.ZScore(ctx, "kinds:sorted", "m").Val(), db.LRange(ctx, "kinds:list", 0, -1).Val(), db.XLen(ctx, "kinds:stream").Val())
	if want := fmt.Sprint("a b\x00\r\n", map[string]string{"a": "1", "b": "2.5", "n": "-6"}, "80", 3.0, []string{"x", "7", "a b\x00\r\n", "7"}, 2); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if ttl := db.TTL(ctx, "kinds:hash").Val(); ttl <= 0 {
		t.Errorf("the hash lives %v", ttl)
	}
}

// TestMarkedRefusals end a batch where they are, and say so in the mark.
func TestMarkedRefusals(t *testing.T) {
	srv := testsvc.Redis(t)
	db := srv.Client()
	defer db.Close()
	ctx := t.Context()
	w := markWriter(t, redis.MarkedSink[string]{Addr: srv.Addr, Prefix: "no:", Do: push})
	zero := ahead.Mark{Token: "t"}
	var kept ahead.Mark
	for _, c := range []struct {
		rows []string
		n    int
		says string
	}{
		{[]string{"a", "unwanted", "b"}, 1, "isn't wanted"},
		{[]string{"unwanted"}, 0, "isn't wanted"},
		{[]string{"c", "d", "wrong", "unwanted"}, 2, "WRONGTYPE"},
		{nil, 0, ""},
		{[]string{"e"}, 1, ""},
	} {
		n, err := w.Write(ctx, "slot", kept, zero, c.rows)
		r, refused := errors.AsType[*sink.Rejected](err)
		if n != c.n || refused != (c.says != "") || refused && (len(r.Errs) != 1 || !strings.Contains(fmt.Sprint(r.Errs[n]), c.says)) {
			t.Errorf("%q: wrote %d, %v; want %d and %q", c.rows, n, err, c.n, c.says)
		}
		kept = ahead.Mark{Token: "t", Rows: int64(n)}
		if m, err := w.Mark(ctx, "slot"); err != nil || m != kept {
			t.Errorf("%q: kept is %+v, %v; want %+v", c.rows, m, err, kept)
		}
	}
	if _, err := w.Write(ctx, "slot", zero, zero, []string{"late"}); !errors.Is(err, ahead.ErrMoved) {
		t.Errorf("with a mark that isn't there any more: %v", err)
	}
	if got := db.LRange(ctx, "no:list", 0, -1).Val(); !slices.Equal(got, []string{"a", "c", "d", "e"}) {
		t.Errorf("the list has %q", got)
	}
	db.Set(ctx, "no:weirline:mark:slot", "what?", 0)
	if _, err := w.Mark(ctx, "slot"); !sink.IsPermanent(err) || !strings.Contains(fmt.Sprint(err), "isn't a mark") {
		t.Errorf("a mark that isn't one: %v", err)
	}
}

// TestMarkedServerInTrouble is full, forbids a command, wants a password, or is away: nothing is written, and the error says whether to
// try again.
func TestMarkedServerInTrouble(t *testing.T) {
	srv := testsvc.NewRedis(t, testsvc.RedisOptions{})
	db := srv.Client()
	defer db.Close()
	ctx := t.Context()
	w := markWriter(t, redis.MarkedSink[string]{Addr: srv.Addr, Do: push})
	cmd := func(args ...any) {
		t.Helper()
		if err := db.Do(ctx, args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	try := func(what string, permanent bool, code fault.Code) {
		t.Helper()
		_, err := w.Write(ctx, "slot", ahead.Mark{}, ahead.Mark{Token: "t"}, []string{"a", "b"})
		if sink.IsPermanent(err) != permanent || fault.CodeOf(err) != code.ID {
			t.Errorf("%s: got %v, want %s, permanent: %v", what, err, code.ID, permanent)
		}
		if n := db.Exists(ctx, "list", "weirline:mark:slot").Val(); n > 0 && what != "away" {
			t.Errorf("%s: something was written", what)
		}
	}
	cmd("config", "set", "maxmemory", "1")
	try("full", false, fault.SinkFailed)
	cmd("config", "set", "maxmemory", "0")
	cmd("acl", "setuser", "default", "-rpush")
	_, err := w.Write(ctx, "slot", ahead.Mark{}, ahead.Mark{Token: "t"}, []string{"a"})
	if !sink.IsPermanent(err) || fault.CodeOf(err) != fault.AuthFailed.ID {
		t.Errorf("forbidden: %v", err)
	}
	cmd("acl", "setuser", "default", "+rpush")
	cmd("del", "weirline:mark:slot")
	srv.Kill()
	try("away", false, fault.SinkFailed)
	if err := srv.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	if n, err := w.Write(ctx, "slot", ahead.Mark{}, ahead.Mark{Token: "t"}, []string{"a", "b"}); n != 2 || err != nil {
		t.Errorf("back again: %d, %v", n, err)
	}
	wrong := markWriter(t, redis.MarkedSink[string]{Addr: srv.Addr, Username: "nobody", Password: "no", Do: push})
	if _, err := wrong.Mark(ctx, "slot"); !sink.IsPermanent(err) || fault.CodeOf(err) != fault.AuthFailed.ID {
		t.Errorf("an unknown user: %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := w.Mark(ended, "slot"); err == nil || sink.IsPermanent(err) {
		t.Errorf("a cancelled call: %v", err)
	}
}
