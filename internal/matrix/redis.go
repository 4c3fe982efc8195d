package main

import (
	"context"
	"errors"
	"path/filepath"

	goredis "github.com/redis/go-redis/v9"

	"github.com/weirline/weirline/connector/redis"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/ahead"
	"github.com/weirline/weirline/txn"
)

// toRedis is a destination without transactions: rows wait in the job's directory, and a mark says how many are in the list.
var toRedis = destination{
	name: "ahead-redis",
	prepare: func(ctx context.Context, s *services, args map[string]string) error {
		r, err := s.startRedis(ctx)
		if err != nil {
			return err
		}
		args[argAddr] = r.Addr
		return nil
	},
	sink: func(args map[string]string) sink.TwoPhase[row] {
		return ahead.Sink[row]{Dir: waitingIn(args), Lost: policy(args), To: redis.MarkedSink[row]{
			Addr: args[argAddr],
			Do:   func(r row, c *redis.MarkedCmds) error { c.RPush(args[argOut], r.String()); return nil },
		}}
	},
	read: func(ctx context.Context, s *services, args map[string]string) ([]string, error) {
		cl := s.redis.Client()
		defer cl.Close()
		return cl.LRange(ctx, args[argOut], 0, -1).Result()
	},
	left: func(_ context.Context, _ *services, args map[string]string) ([]string, error) {
		begun, err := filepath.Glob(filepath.Join(waitingIn(args), "*.open"))
		rows, rerr := filepath.Glob(filepath.Join(waitingIn(args), "*.end"))
		return append(begun, rows...), errors.Join(err, rerr)
	},
	server: func(ctx context.Context, s *services) (server, error) { return s.startRedis(ctx) },
	rollBack: func(ctx context.Context, _ *services, args map[string]string, h sink.Handle) error {
		place := ahead.Directory(waitingIn(args))
		names, err := place.List(ctx, txn.NameOf(h.Slot.Name, h.Token))
		return errors.Join(err, place.Remove(ctx, names))
	},
}

// waitingIn is where a job's rows wait: inside of its state.
func waitingIn(args map[string]string) string { return filepath.Join(args[argDir], "ahead") }

// quiet takes what the client library prints of each refused connection.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func silence() { goredis.SetLogger(quiet{}) }

func (s *services) startRedis(ctx context.Context) (_ *testsvc.RedisServer, err error) {
	if s.redis == nil {
		s.redis, err = testsvc.StartRedis(ctx, filepath.Join(s.dir, "redis"), testsvc.RedisOptions{})
	}
	return s.redis, err
}
