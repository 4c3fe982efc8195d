package redis_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/weirline/weirline/connector/redis"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
	"github.com/weirline/weirline/sink/sinktest"
	"github.com/weirline/weirline/txn/txntest"
)

func TestMain(m *testing.M) {
	goredis.SetLogger(quiet{}) // it tells of each refused connection
	txntest.Main(numbers)
	os.Exit(testsvc.Main(m))
}

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// pair is the record of these tests: a number under a key.
type pair struct {
	K string
	N int
}

func setPair(v pair, c *redis.Cmds) error {
	c.Set(v.K, v.N)
	return nil
}

func open(t *testing.T, s redis.Sink[pair]) sink.Writer[pair] {
	t.Helper()
	w, err := s.Writer(t.Context(), sink.Task{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func write(t *testing.T, w sink.Writer[pair], batch ...pair) {
	t.Helper()
	if err := w.Write(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
}

func flush(t *testing.T, w sink.Writer[pair]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := w.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// read returns all numbers under a prefix.
func read(ctx context.Context, db *goredis.Client, prefix string) (map[string]string, error) {
	keys, err := db.Keys(ctx, prefix+"*").Result()
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	vals, err := db.MGet(ctx, keys...).Result()
	if err != nil {
		return nil, err
	}
	m := map[string]string{}
	for i, k := range keys {
		m[strings.TrimPrefix(k, prefix)] = fmt.Sprint(vals[i])
	}
	return m, nil
}

func TestConformance(t *testing.T) {
	srv := testsvc.NewRedis(t, testsvc.RedisOptions{})
	db := srv.Client()
	defer db.Close()
	sinktest.Run(t, sinktest.Case[pair]{
		Sink: redis.Sink[pair]{
			Addr: srv.Addr, Prefix: "conf:", Do: setPair,
			Batching: async.Sink[pair]{MaxBuffered: 500, MaxBatch: 50, Retry: async.Retry{Base: 10 * time.Millisecond}},
		},
		Make: func(i int) pair { return pair{strconv.Itoa(i), i} },
		Read: func() (ps []pair, err error) {
			m, err := read(t.Context(), db, "conf:")
			for k, v := range m {
				n, nerr := strconv.Atoi(v)
				ps, err = append(ps, pair{k, n}), errors.Join(err, nerr)
			}
			return ps, err
		},
		Block: func() func() { return testsvc.Frozen(t, srv) },
	})
}

func TestCommands(t *testing.T) {
	srv := testsvc.Redis(t)
	db := srv.Client()
	defer db.Close()
	ctx := t.Context()
	in := time.Now().Add(time.Hour)
	type named string
	w := open(t, redis.Sink[pair]{Addr: srv.Addr, Prefix: "cmd:", Do: func(v pair, c *redis.Cmds) error {
		c.Set("str", named("x"))
		c.SetFor("short", []byte("y"), time.Minute)
		c.HSet("hash", "a", 1, "b", true, "gone", 2.5)
		c.HDel("hash", "gone")
		c.Expire("hash", 2*time.Hour)
		c.ZAdd("sorted", 1.5, "m")
		c.ZAdd("sorted", 2, "n")
		c.ZRem("sorted", "n")
		c.SAdd("set", "p", int8(7))
		c.SRem("set", "p")
		c.ExpireAt("set", in)
		c.Set("dead", 1)
		c.Del("dead")
		return nil
	}})
	write(t, w, pair{})
	flush(t, w)
	want := map[string]string{
		"str":    db.Get(ctx, "cmd:str").Val(),
		"short":  db.Get(ctx, "cmd:short").Val(),
		"hash":   fmt.Sprint(db.HGetAll(ctx, "cmd:hash").Val()),
		"sorted": fmt.Sprint(db.ZRangeWithScores(ctx, "cmd:sorted", 0, -1).Val()),
		"set":    fmt.Sprint(db.SMembers(ctx, "cmd:set").Val()),
		"dead":   fmt.Sprint(db.Exists(ctx, "cmd:dead").Val()),
	}
	got := map[string]string{"str": "x", "short": "y", "hash": "map[a:1 b:1]", "sorted": "[{1.5 m}]", "set": "[7]", "dead": "0"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", want, got)
	}
	for key, limit := range map[string]time.Duration{"short": time.Minute, "hash": 2 * time.Hour, "set": time.Hour} {
		if ttl := db.TTL(ctx, "cmd:"+key).Val(); ttl <= limit-time.Minute || ttl > limit {
			t.Errorf("%s expires in %v, want %v", key, ttl, limit)
		}
	}
}

func TestRejects(t *testing.T) {
	srv := testsvc.Redis(t)
	db := srv.Client()
	defer db.Close()
	if err := db.RPush(t.Context(), "rej:list", "a").Err(); err != nil {
		t.Fatal(err)
	}
	w := open(t, redis.Sink[pair]{Addr: srv.Addr, Prefix: "rej:", Do: func(v pair, c *redis.Cmds) error {
		switch v.K {
		case "list":
			c.HSet("list", "field", v.N) // WRONGTYPE
		case "odd":
			c.HSet("odd", "field")
		case "type":
			c.Set("before", 1)
			c.Set("type", struct{}{})
		case "refused":
			c.Set("refused", 1)
			return errors.New("not this one")
		default:
			c.Set(v.K, v.N)
		}
		return nil
	}})
	write(t, w, pair{"a", 1}, pair{"list", 2}, pair{"odd", 3}, pair{"b", 4}, pair{"type", 5}, pair{"refused", 6}, pair{"a", 7})
	flush(t, w)
	r, ok := sink.As[sink.Rejecter](w)
	if !ok {
		t.Fatal("writer has no Rejects")
	}
	want := []struct{ key, cause string }{
		{"list", "hset rej:list: WRONGTYPE"},
		{"odd", "make command hset rej:odd: 1 arguments"},
		{"type", "make command set rej:type: a struct {} can't be a value"},
		{"refused", "not this one"},
	}
	rs := r.Rejects()
	if len(rs) != len(want) {
		t.Fatalf("got %d rejects, want %d: %v", len(rs), len(want), rs)
	}
	for i, x := range want {
		if rs[i].Value.(pair).K != x.key || !strings.Contains(rs[i].Err.Error(), x.cause) || rs[i].Attempts != 1 {
			t.Errorf("reject %d is %+v, want %s: %s", i, rs[i], x.key, x.cause)
		}
	}
	if n := db.Exists(t.Context(), "rej:before", "rej:refused", "rej:type").Val(); n != 0 {
		t.Errorf("%d keys of rejected records were written", n)
	}
	if got := db.MGet(t.Context(), "rej:a", "rej:b").Val(); fmt.Sprint(got) != "[7 4]" {
		t.Errorf("other records: got %v, want [7 4]", got)
	}
}

func TestPreflight(t *testing.T) {
	plain := testsvc.Redis(t)
	locked := testsvc.NewRedis(t, testsvc.RedisOptions{Password: "secret"})
	host, port, _ := strings.Cut(plain.Addr, ":")
	replica := testsvc.NewRedis(t, testsvc.RedisOptions{Args: []string{"--replicaof", host + " " + port}})
	frozen := testsvc.NewRedis(t, testsvc.RedisOptions{})
	if err := frozen.Pause(); err != nil {
		t.Fatal(err)
	}
	gone := testsvc.NewRedis(t, testsvc.RedisOptions{})
	gone.Kill()
	cases := []struct {
		name string
		s    redis.Sink[pair]
		code fault.Code
		says string
	}{
		{"fine", redis.Sink[pair]{Addr: plain.Addr}, fault.Code{}, ""},
		{"right password", redis.Sink[pair]{Addr: locked.Addr, Password: "secret"}, fault.Code{}, ""},
		{"wrong password", redis.Sink[pair]{Addr: locked.Addr, Password: "guess"}, fault.AuthFailed, "Password"},
		{"no password", redis.Sink[pair]{Addr: locked.Addr}, fault.AuthFailed, "Password"},
		{"unknown user", redis.Sink[pair]{Addr: locked.Addr, Username: "eve", Password: "x"}, fault.AuthFailed, `"eve"`},
		{"nobody there", redis.Sink[pair]{Addr: gone.Addr}, fault.Unreachable, gone.Addr},
		{"no answer", redis.Sink[pair]{Addr: frozen.Addr}, fault.Unreachable, frozen.Addr},
		{"no such database", redis.Sink[pair]{Addr: plain.Addr, DB: 1000}, fault.Preflight, "DB"},
		{"replica", redis.Sink[pair]{Addr: replica.Addr}, fault.Preflight, "read-only replica"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			c.s.Do = setPair
			err := c.s.Preflight(ctx)
			if fault.CodeOf(err) != c.code.ID || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %s with %q", err, c.code.ID, c.says)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	bad := redis.Sink[func()]{DB: -1, Batching: async.Sink[func()]{Send: func(context.Context, []func()) error { return nil }}}
	err := bad.Validate()
	for _, want := range []string{"Do is missing", "Batching.Send is set", "DB is -1", fault.BadType.ID} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v doesn't say %q", err, want)
		}
	}
	if !(redis.Sink[pair]{}).Idempotent() {
		t.Error("sink isn't idempotent")
	}
}

// TestWrongPasswordWhileRunning: credentials that stop working fail the task instead of being tried for ever.
func TestWrongPasswordWhileRunning(t *testing.T) {
	srv := testsvc.NewRedis(t, testsvc.RedisOptions{Password: "secret"})
	w := open(t, redis.Sink[pair]{Addr: srv.Addr, Password: "old", Do: setPair})
	write(t, w, pair{"a", 1})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := w.Flush(ctx); fault.CodeOf(err) != fault.AuthFailed.ID {
		t.Errorf("got %v, want %s", err, fault.AuthFailed.ID)
	}
}

// TestRefusedSessionLosesNothing: commands that were never sent, because the server refused the session, aren't delivered.
func TestRefusedSessionLosesNothing(t *testing.T) {
	srv := testsvc.NewRedis(t, testsvc.RedisOptions{})
	w := open(t, redis.Sink[pair]{Addr: srv.Addr, DB: 1000, Do: setPair})
	write(t, w, pair{"a", 1})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := w.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the wait to go on", err)
	}
	if r, _ := sink.As[sink.Rejecter](w); len(r.Rejects()) != 0 {
		t.Error("record was rejected")
	}
}

// TestFullServerIsWaitedFor: OOM answers aren't the record's fault.
func TestFullServerIsWaitedFor(t *testing.T) {
	srv := testsvc.NewRedis(t, testsvc.RedisOptions{Args: []string{"--maxmemory", "1", "--maxmemory-policy", "noeviction"}})
	db := srv.Client()
	defer db.Close()
	retry := async.Retry{Base: time.Millisecond, Max: 20 * time.Millisecond}
	w := open(t, redis.Sink[pair]{Addr: srv.Addr, Do: setPair, Batching: async.Sink[pair]{Retry: retry}})
	write(t, w, pair{"a", 1})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := w.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("flush while the server is full: %v", err)
	}
	if err := db.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	flush(t, w)
	if got := db.Get(t.Context(), "a").Val(); got != "1" {
		t.Errorf("got %q, want 1", got)
	}
}

// TestKilledAndRestarted writes while the server is killed, restarted and frozen. Nothing may be lost, and each key must
// end with its last value.
func TestKilledAndRestarted(t *testing.T) {
	srv := testsvc.NewRedis(t, testsvc.RedisOptions{})
	const keys, rounds = 40, 250
	w := open(t, redis.Sink[pair]{
		Addr: srv.Addr, Prefix: "crash:", Do: setPair,
		Batching: async.Sink[pair]{
			Key: func(v pair) string { return v.K }, MaxBatch: 20, Timeout: 500 * time.Millisecond,
			Retry: async.Retry{Base: 10 * time.Millisecond, Max: 100 * time.Millisecond},
		},
	})
	var harm sync.WaitGroup
	for n := range rounds {
		batch := make([]pair, keys)
		for k := range batch {
			batch[k] = pair{strconv.Itoa(k), n}
		}
		write(t, w, batch...)
		switch n {
		case 50, 150:
			srv.Kill()
			harm.Go(func() {
				if err := srv.Restart(t.Context()); err != nil {
					t.Error(err)
				}
			})
		case 100:
			harm.Wait()
			if err := srv.Pause(); err != nil {
				t.Fatal(err)
			}
			harm.Go(func() {
				<-time.After(700 * time.Millisecond) // longer than Timeout
				if err := srv.Resume(); err != nil {
					t.Error(err)
				}
			})
		case 149:
			harm.Wait()
		}
	}
	harm.Wait()
	flush(t, w)
	db := srv.Client()
	defer db.Close()
	got, err := read(t.Context(), db, "crash:")
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != keys {
		t.Errorf("got %d keys, want %d", len(got), keys)
	}
	for k, v := range got {
		if v != strconv.Itoa(rounds-1) {
			t.Errorf("key %s ends with %s, want %d", k, v, rounds-1)
		}
	}
	srv.Kill()
	if err := srv.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again, err := read(t.Context(), db, "crash:"); err != nil || len(again) != keys {
		t.Errorf("after another crash: %d keys, %v", len(again), err)
	}
}

// TestSnapshotWhileDown: what waits for a dead server is in the state and arrives from another writer.
func TestSnapshotWhileDown(t *testing.T) {
	srv := testsvc.NewRedis(t, testsvc.RedisOptions{})
	s := redis.Sink[pair]{Addr: srv.Addr, Prefix: "snap:", Do: setPair}
	srv.Kill()
	w := open(t, s)
	var batch []pair
	for i := range 1000 {
		batch = append(batch, pair{strconv.Itoa(i), i})
	}
	write(t, w, batch...)
	st, ok := sink.As[sink.Stateful](w)
	if !ok {
		t.Fatal("writer isn't Stateful")
	}
	state, err := st.Snapshot()
	if err := errors.Join(err, w.Close(), srv.Restart(t.Context())); err != nil {
		t.Fatal(err)
	}
	w = open(t, s)
	st, _ = sink.As[sink.Stateful](w)
	if err := st.Restore([][]byte{state}); err != nil {
		t.Fatal(err)
	}
	flush(t, w)
	db := srv.Client()
	defer db.Close()
	if n := db.DBSize(t.Context()).Val(); n != 1000 {
		t.Errorf("got %d keys, want 1000", n)
	}
}

// TestOrderWithoutKey: without Batching.Key a batch starts only when the one before it is in.
func TestOrderWithoutKey(t *testing.T) {
	srv := testsvc.Redis(t)
	db := srv.Client()
	defer db.Close()
	const batch, records = 10, 200
	w := open(t, redis.Sink[pair]{
		Addr: srv.Addr, Prefix: "order:", Batching: async.Sink[pair]{MaxBatch: batch},
		Do: func(v pair, c *redis.Cmds) error {
			if v.N > 0 && v.N%batch == 0 {
				if before, err := db.Get(t.Context(), "order:k").Int(); err != nil || before != v.N-1 {
					t.Errorf("record %d is sent while the last one in is %d, %v", v.N, before, err)
				}
			}
			return setPair(v, c)
		},
	})
	var all []pair
	for n := range records {
		all = append(all, pair{"k", n})
	}
	write(t, w, all...)
	flush(t, w)
	if got := db.Get(t.Context(), "order:k").Val(); got != strconv.Itoa(records-1) {
		t.Errorf("got %s, want %d", got, records-1)
	}
}
