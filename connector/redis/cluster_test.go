package redis_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
	"github.com/weirline/weirline/sink/ahead"
	"github.com/weirline/weirline/sink/async"
	"github.com/weirline/weirline/sink/sinktest"
)

// readNodes is read over all nodes of a cluster, each asked for itself.
func readNodes(ctx context.Context, c *testsvc.RedisCluster, prefix string) (map[string]string, error) {
	all := map[string]string{}
	for _, n := range c.Nodes {
		db := n.Client()
		defer db.Close()
		keys, err := db.Keys(ctx, prefix+"*").Result()
		if err != nil {
			return nil, err
		}
		for _, k := range keys { // one by one: they are in several slots
			if all[strings.TrimPrefix(k, prefix)], err = db.Get(ctx, k).Result(); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

func TestClusterConformance(t *testing.T) {
	c := testsvc.NewRedisCluster(t)
	all := func(f func(*testsvc.RedisServer) error) {
		for _, n := range c.Nodes {
			if err := f(n); err != nil {
				t.Error(err)
			}
		}
	}
	sinktest.Run(t, sinktest.Case[pair]{
		Sink: redis.Sink[pair]{
			Addrs: c.Addrs()[:1], Prefix: "conf:", Do: setPair,
			Batching: async.Sink[pair]{MaxBuffered: 500, MaxBatch: 50, Retry: async.Retry{Base: 10 * time.Millisecond}},
		},
		Make: func(i int) pair { return pair{strconv.Itoa(i), i} },
		Read: func() (ps []pair, err error) {
			m, err := readNodes(t.Context(), c, "conf:")
			for k, v := range m {
				n, nerr := strconv.Atoi(v)
				ps, err = append(ps, pair{k, n}), errors.Join(err, nerr)
			}
			return ps, err
		},
		Block: func() func() {
			all((*testsvc.RedisServer).Pause)
			return func() { all((*testsvc.RedisServer).Resume) }
		},
	})
}

// TestClusterNodeKilled kills a node under load, twice: nothing is lost, each key ends with its last value, and while it is down
// the records of the other nodes go on.
func TestClusterNodeKilled(t *testing.T) {
	c := testsvc.NewRedisCluster(t)
	const keys, rounds = 60, 250
	w := open(t, redis.Sink[pair]{
		Addrs: c.Addrs(), Prefix: "crash:", Do: setPair,
		Batching: async.Sink[pair]{
			Key: func(v pair) string { return v.K }, MaxBatch: 20, MaxBuffered: keys * (rounds + 1), Timeout: time.Second,
			Retry: async.Retry{Base: 10 * time.Millisecond, Max: 100 * time.Millisecond},
		},
	})
	others := []*testsvc.RedisServer{c.Nodes[0], c.Nodes[2]}
	var harm sync.WaitGroup
	for n := range rounds {
		batch := make([]pair, keys)
		for k := range batch {
			batch[k] = pair{strconv.Itoa(k), n}
		}
		write(t, w, batch...)
		switch n {
		case 50, 150:
			c.Nodes[1].Kill()
		case 100, 200:
			for _, node := range others {
				wentOn(t, node, n)
			}
			harm.Go(func() {
				if err := c.Nodes[1].Restart(t.Context()); err != nil {
					t.Error(err)
				}
			})
		case 149:
			harm.Wait()
			if err := c.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	harm.Wait()
	if err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	flush(t, w)
	got, err := readNodes(t.Context(), c, "crash:")
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
}

// wentOn waits until a node has a value of round n, which was written while another node was down.
func wentOn(t *testing.T, node *testsvc.RedisServer, n int) {
	t.Helper()
	db := node.Client()
	defer db.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for {
		keys, err := db.Keys(ctx, "crash:*").Result()
		for _, k := range keys {
			if v, _ := db.Get(ctx, k).Int(); v >= n {
				return
			}
		}
		if err != nil {
			t.Fatalf("node %s has nothing of round %d though only another node is down: %v", node.Addr, n, err)
		}
	}
}

// TestClusterSlotsMove hands the slots of all keys to another node while records are written.
func TestClusterSlotsMove(t *testing.T) {
	c := testsvc.NewRedisCluster(t)
	const rounds = 60
	w := open(t, redis.Sink[pair]{
		Addrs: c.Addrs()[:1], Prefix: "{move}", Do: setPair, // all in slot 11240, on node 2
		Batching: async.Sink[pair]{MaxBatch: 5, Retry: async.Retry{Base: time.Millisecond, Max: 50 * time.Millisecond}},
	})
	cl := c.Client()
	defer cl.Close()
	slot := cl.ClusterKeySlot(t.Context(), "{move}").Val()
	from, to := c.Nodes[slot*3/16384], c.Nodes[(slot*3/16384+1)%3]
	for n := range rounds {
		write(t, w, pair{strconv.Itoa(n), n})
		if n == rounds/2 {
			flush(t, w)
			moveSlot(t, slot, from, to)
		}
	}
	flush(t, w)
	db := to.Client()
	defer db.Close()
	if n := len(db.Keys(t.Context(), "{move}*").Val()); n != rounds {
		t.Errorf("the new node has %d keys, want %d", n, rounds)
	}
}

// moveSlot hands a slot over as redis-cli does, but stops half way for a moment: keys that are new go to the new node then, by ASK.
func moveSlot(t *testing.T, slot int64, from, to *testsvc.RedisServer) {
	t.Helper()
	a, b := from.Client(), to.Client()
	defer a.Close()
	defer b.Close()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	aID, bID := a.ClusterMyID(ctx).Val(), b.ClusterMyID(ctx).Val()
	must(b.Do(ctx, "cluster", "setslot", slot, "importing", aID).Err())
	must(a.Do(ctx, "cluster", "setslot", slot, "migrating", bID).Err())
	keys, err := a.ClusterGetKeysInSlot(ctx, int(slot), 1000).Result()
	must(err)
	host, port, _ := strings.Cut(to.Addr, ":")
	for _, k := range keys {
		must(a.Migrate(ctx, host, port, k, 0, time.Second).Err())
	}
	for _, cl := range []*goredis.Client{b, a} {
		must(cl.Do(ctx, "cluster", "setslot", slot, "node", bID).Err())
	}
}

// TestClusterCommands has keys of one record on several nodes, and a list and a stream.
func TestClusterCommands(t *testing.T) {
	c := testsvc.NewRedisCluster(t)
	w := open(t, redis.Sink[pair]{Addrs: c.Addrs(), Do: func(v pair, c *redis.Cmds) error {
		for _, k := range []string{"a", "b", "c"} {
			c.Set(k, v.N)
		}
		c.SetList("list:"+v.K, v.N, "x")
		c.XAddID("stream:"+v.K, strconv.Itoa(v.N), "n", v.N)
		return nil
	}})
	write(t, w, pair{"k", 1}, pair{"k", 2}, pair{"other", 3})
	flush(t, w)
	cl := c.Client()
	defer cl.Close()
	got := fmt.Sprint(cl.Get(t.Context(), "a").Val(), cl.Get(t.Context(), "b").Val(), cl.Get(t.Context(), "c").Val(),
		cl.LRange(t.Context(), "list:k", 0, -1).Val(), cl.XLen(t.Context(), "stream:k").Val(), cl.XLen(t.Context(), "stream:other").Val())
	if want := "333[2 x] 2 1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestClusterMarked keeps the mark beside its rows.
func TestClusterMarked(t *testing.T) {
	c := testsvc.NewRedisCluster(t)
	s := redis.MarkedSink[string]{Addrs: c.Addrs(), Do: push}
	if _, err := s.MarkWriter(t.Context(), sink.Task{}); fault.CodeOf(err) != fault.BadPipeline.ID || !strings.Contains(err.Error(), "braces") {
		t.Errorf("got %v, want a hint at braces", err)
	}
	s.Prefix = "{views}:"
	w := markWriter(t, s)
	at := ahead.Mark{Token: "t"}
	n, err := w.Write(t.Context(), "slot", ahead.Mark{}, at, []string{"x", "y"})
	if err != nil || n != 2 {
		t.Fatalf("%d rows, %v", n, err)
	}
	if m, err := w.Mark(t.Context(), "slot"); err != nil || m != (ahead.Mark{Token: "t", Rows: 2}) {
		t.Errorf("mark %v, %v", m, err)
	}
}

func TestClusterPreflight(t *testing.T) {
	c := testsvc.NewRedisCluster(t)
	plain := testsvc.Redis(t)
	gone := testsvc.NewRedis(t, testsvc.RedisOptions{})
	gone.Kill()
	empty := testsvc.NewRedis(t, testsvc.RedisOptions{Args: []string{"--cluster-enabled", "yes", "--cluster-port", "0"}})
	for _, x := range []struct {
		name  string
		addrs []string
		code  fault.Code
		says  string
	}{
		{"fine", c.Addrs(), fault.Code{}, ""},
		{"first node down", append([]string{gone.Addr}, c.Addrs()[1]), fault.Code{}, ""},
		{"all down", []string{gone.Addr}, fault.Unreachable, gone.Addr},
		{"one server", []string{plain.Addr}, fault.Preflight, "set Addr instead"},
		{"no slots", []string{empty.Addr}, fault.Preflight, "16384 of 16384 slots"},
	} {
		t.Run(x.name, func(t *testing.T) {
			err := redis.Sink[pair]{Addrs: x.addrs, Do: setPair}.Preflight(t.Context())
			if fault.CodeOf(err) != x.code.ID || err != nil && !strings.Contains(fmt.Sprintf("%+v", err), x.says) {
				t.Errorf("got %v, want %s with %q", err, x.code.ID, x.says)
			}
		})
	}
}

// TestClusterTakenForOneServer and the reverse end the task, with what to set instead.
func TestClusterTakenForOneServer(t *testing.T) {
	c := testsvc.NewRedisCluster(t)
	plain := testsvc.Redis(t)
	for want, s := range map[string]redis.Sink[pair]{
		"set Addrs instead": {Addr: c.Nodes[0].Addr, Do: setPair},
		"set Addr instead":  {Addrs: []string{plain.Addr}, Do: setPair},
	} {
		w := open(t, s)
		for i := range 20 {
			write(t, w, pair{strconv.Itoa(i), i})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := w.Flush(ctx); err == nil || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestClusterValidate(t *testing.T) {
	err := redis.Sink[pair]{Addr: "a:1", Addrs: []string{"b:1"}, DB: 1, Do: setPair}.Validate()
	for _, want := range []string{"Addr and Addrs are set", "DB is 1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v doesn't say %q", err, want)
		}
	}
}

// TestClusterShards asks the sink itself which keys share a window: those of one node do, and no others.
func TestClusterShards(t *testing.T) {
	c := testsvc.NewRedisCluster(t)
	cl := c.Client()
	defer cl.Close()
	shard := redis.ShardOf(t.Context(), redis.Sink[pair]{Addrs: c.Addrs()[2:], Prefix: "p:", Do: setPair})
	seen := map[string]int{}
	for i := range 300 {
		k := fmt.Sprintf("key%d{tag%d}", i, i%100)
		slot := int(cl.ClusterKeySlot(t.Context(), "p:"+k).Val())
		want := c.Nodes[(slot*3+2)/16384].Addr
		if got := shard(pair{K: k}); got != want {
			t.Fatalf("key %s in slot %d is for %s, want %s", k, slot, got, want)
		}
		seen[shard(pair{K: k})]++
	}
	if len(seen) != 3 {
		t.Errorf("the keys are dealt %v", maps.Clone(seen))
	}
	gone := testsvc.NewRedis(t, testsvc.RedisOptions{})
	gone.Kill()
	shard = redis.ShardOf(t.Context(), redis.Sink[pair]{Addrs: []string{gone.Addr}, Do: setPair})
	ranges := map[string]bool{}
	for i := range 300 {
		ranges[shard(pair{K: strconv.Itoa(i)})] = true
	}
	if len(ranges) != 8 {
		t.Errorf("%d ranges without an answer, want 8", len(ranges))
	}
}
