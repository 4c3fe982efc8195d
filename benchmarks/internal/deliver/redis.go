package deliver

import (
	"context"
	"fmt"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/weirline/weirline/benchmarks/internal/load"
	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/connector/redis"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
	"github.com/weirline/weirline/source"
)

// pipelined is how many commands go at once, of the job and of the bare client.
const pipelined = 500

// Strings sets keys of a Redis server, each many times.
type Strings struct {
	Addr    string
	Records int64
	Keys    int64 // a multiple of the number of tasks, so that one task sets all values of a key
}

func (s *Strings) key(seq int64) string { return "delivered:" + strconv.FormatInt(seq%s.Keys, 10) }

// Sink is the sink to write with.
func (s *Strings) Sink() sink.Sink[int64] {
	return redis.Sink[int64]{
		Addr: s.Addr,
		Do: func(seq int64, c *redis.Cmds) error {
			c.Set(s.key(seq), seq)
			return nil
		},
		Batching: async.Sink[int64]{MaxBatch: pipelined},
	}
}

// Job writes by a job. Its clock starts when the first record is made.
func (s *Strings) Job(ctx context.Context, cfg engine.Config, to sink.Sink[int64]) (Outcome, error) {
	db, err := s.emptied(ctx)
	if err != nil {
		return Outcome{}, err
	}
	defer db.Close()
	w := load.NewWatch(s.Records)
	p := engine.New(cfg)
	fill := func(from, step int64, n int, out *source.Batch[int64]) {
		for i := range int64(n) {
			out.Values = append(out.Values, from+i*step)
		}
	}
	engine.To(engine.From(p, "numbers", gen.Source[int64]{Fill: load.Timing(w, fill), Count: s.Records}), "strings", to)
	if err := p.Run(ctx); err != nil {
		return Outcome{}, err
	}
	o := Outcome{Watch: w, End: time.Now(), Status: p.Status()}
	return o, s.right(ctx, db)
}

// Bare is what the client library takes for the same: for each task one pipeline after another.
func (s *Strings) Bare(ctx context.Context, cfg engine.Config) (time.Duration, error) {
	db, err := s.emptied(ctx)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	began := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	for task := range cfg.Parallelism {
		g.Go(func() error {
			for next := int64(task); next < s.Records; {
				pipe := db.Pipeline()
				for n := 0; next < s.Records && n < pipelined; n++ {
					pipe.Set(gctx, s.key(next), next, 0)
					next += int64(cfg.Parallelism)
				}
				if _, err := pipe.Exec(gctx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err = g.Wait()
	took := time.Since(began)
	if err != nil {
		return 0, fmt.Errorf("bare client: %w", err)
	}
	return took, s.right(ctx, db)
}

// emptied connects and removes all keys. The caller closes the client.
func (s *Strings) emptied(ctx context.Context) (*goredis.Client, error) {
	db := goredis.NewClient(&goredis.Options{Addr: s.Addr})
	if err := db.FlushDB(ctx).Err(); err != nil {
		_ = db.Close() // the error before says more
		return nil, err
	}
	return db, nil
}

// right looks whether each key has the last of its values.
func (s *Strings) right(ctx context.Context, db *goredis.Client) error {
	keys := make([]string, min(s.Keys, s.Records))
	for k := range keys {
		keys[k] = s.key(int64(k))
	}
	got, err := db.MGet(ctx, keys...).Result()
	if err != nil {
		return err
	}
	for k, v := range got {
		last := int64(k) + (s.Records-1-int64(k))/s.Keys*s.Keys
		if v != strconv.FormatInt(last, 10) {
			return fmt.Errorf("%s is %v, want %d", keys[k], v, last)
		}
	}
	return nil
}
