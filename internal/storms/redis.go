package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/weirline/weirline/connector/redis"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// harm is what is done to a Redis server or the network before it.
type harm struct {
	begin, end func(ctx context.Context, r *redisServer) error
}

// The storms of Redis.
var (
	slowNetwork   = harm{func(_ context.Context, r *redisServer) error { return r.proxy.Slow(100 * time.Millisecond) }, healNetwork}
	cutNetwork    = harm{func(_ context.Context, r *redisServer) error { r.proxy.Cut(); return nil }, healNetwork}
	silentNetwork = harm{func(_ context.Context, r *redisServer) error { return r.proxy.Silence() }, healNetwork}
	fullMemory    = harm{set("maxmemory", "1"), set("maxmemory", "0")}
	readOnly      = harm{
		func(ctx context.Context, r *redisServer) error { return r.db.ReplicaOf(ctx, "127.0.0.1", "1").Err() },
		func(ctx context.Context, r *redisServer) error { return r.db.ReplicaOf(ctx, "no", "one").Err() },
	}
)

func healNetwork(ctx context.Context, r *redisServer) error { return r.proxy.Heal(ctx) }

func set(name, value string) func(context.Context, *redisServer) error {
	return func(ctx context.Context, r *redisServer) error { return r.db.ConfigSet(ctx, name, value).Err() }
}

// redisServer is a real one behind a bad network. Each shard is a hash with a field for each record.
type redisServer struct {
	server *testsvc.RedisServer
	proxy  *testsvc.Proxy
	db     *goredis.Client // around the network
	harm   harm
}

// server is a Redis to which harm is done.
func server(h harm) func(t *trial) (destination, error) {
	return func(t *trial) (destination, error) {
		ctx := context.Background()
		s, err := testsvc.StartRedis(ctx, filepath.Join(t.dir, filepath.Base(t.storm.name)), testsvc.RedisOptions{})
		if err != nil {
			return nil, err
		}
		p, err := testsvc.StartProxy("127.0.0.1:0", s.Addr)
		if err != nil {
			s.Kill()
			return nil, err
		}
		return &redisServer{server: s, proxy: p, db: s.Client(), harm: h}, nil
	}
}

func (r *redisServer) close() {
	_ = r.db.Close()
	r.proxy.Cut()
	r.server.Kill()
}

func (r *redisServer) storm(ctx context.Context) error { return r.harm.begin(ctx, r) }
func (r *redisServer) heal(ctx context.Context) error  { return r.harm.end(ctx, r) }

// sink has one shard: the server.
func (r *redisServer) sink(a async.Sink[record]) sink.Sink[record] {
	a.Shard = nil
	a.MaxBatch = shards * maxBatch
	a.Key = func(v record) string { return strconv.FormatInt(v.ID, 10) } // no order among them, so several batches on their way
	return redis.Sink[record]{Addr: r.proxy.Addr, Batching: a, Do: func(v record, c *redis.Cmds) error {
		c.HSet(hash(v.Shard), strconv.FormatInt(v.ID, 10), 1)
		return nil
	}}
}

func hash(shard int) string { return fmt.Sprint("shard", shard) }

func (r *redisServer) count(ctx context.Context) (t tally, err error) {
	for i := range shards {
		if t.records[i], err = r.db.HLen(ctx, hash(i)).Result(); err != nil {
			return t, err
		}
	}
	return t, nil
}

// times can't tell how often a field was set.
func (r *redisServer) times(ctx context.Context) ([]uint32, error) {
	n := make([]uint32, mostRecords)
	for i := range shards {
		fields, err := r.db.HKeys(ctx, hash(i)).Result()
		if err != nil {
			return nil, err
		}
		for _, f := range fields {
			id, err := strconv.ParseInt(f, 10, 64)
			if err != nil || id < 0 || id >= mostRecords {
				return nil, fmt.Errorf("redis has %q", f)
			}
			n[id]++
		}
	}
	return n, nil
}

// quiet takes what the client library prints of each refused connection.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func silence() { goredis.SetLogger(quiet{}) }
