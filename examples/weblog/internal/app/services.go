package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/examples/internal/embedded"
	"github.com/weirline/weirline/examples/weblog/internal/results"
	"github.com/weirline/weirline/examples/weblog/internal/topic"
	"github.com/weirline/weirline/internal/fault"
)

// prepare does everything that comes before the pipeline.
func (a *App) prepare(ctx context.Context, state string) error {
	if err := a.o.validate(state); err != nil {
		return err
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return fault.Wrap(fault.StateDir, err, "make state directory %s", state)
	}
	if err := a.claim(state); err != nil {
		return err
	}
	if err := a.startRedis(ctx, state); err != nil {
		return err
	}
	if !a.o.hasTopic() {
		return nil
	}
	t, err := a.startKafka(ctx, state)
	if err != nil {
		return err
	}
	switch {
	case a.o.live != "":
		a.ends, err = t.Publish(ctx, topic.Dir(a.o.live))
	case a.o.once:
		a.ends, err = t.Ends(ctx)
	case a.o.madeUp():
		err = a.startDemo(ctx, state, t)
	}
	return err
}

// claim takes the directory for this process: the engine's own claim would come too late for the services.
func (a *App) claim(state string) error {
	c, err := store.Open(filepath.Join(state, "services"), store.Options{Job: "weblog", Log: a.log})
	if err != nil {
		return err
	}
	a.closers = append(a.closers, c.Close)
	return nil
}

func (a *App) startRedis(ctx context.Context, state string) error {
	a.redis = a.o.redis
	if a.redis == "" {
		r, err := embedded.StartRedis(filepath.Join(state, "redis"), embedded.RedisOptions{Logger: a.log})
		if err != nil {
			return fmt.Errorf("start embedded Redis: %w", err)
		}
		a.closers = append(a.closers, r.Close)
		a.redis = r.Addr()
	}
	a.db = results.Open(a.redis, a.o.password.Reveal(), a.o.prefix, a.o.keep)
	a.closers = append(a.closers, a.db.Close)
	return a.own(ctx, state)
}

// own makes the keys in Redis this run's. The identity is written last: until then the run counts as fresh.
func (a *App) own(ctx context.Context, state string) error {
	name := filepath.Join(state, "run")
	b, err := os.ReadFile(name)
	fresh := errors.Is(err, fs.ErrNotExist)
	if err != nil && !fresh {
		return fault.Wrap(fault.StateDir, err, "read the identity of the run")
	}
	run := strings.TrimSpace(string(b))
	if fresh {
		run = rand.Text()
	}
	if err := a.db.Own(ctx, run, fresh); err != nil {
		return redisError(err, a.redis)
	}
	if !fresh {
		return nil
	}
	temp := name + ".tmp"
	if err := errors.Join(os.WriteFile(temp, []byte(run+"\n"), 0o600), os.Rename(temp, name)); err != nil {
		return fault.Wrap(fault.StateDir, err, "write the identity of the run")
	}
	return nil
}

// redisError gives an error of Redis its code.
func redisError(err error, addr string) error {
	text := err.Error()
	switch {
	case errors.Is(err, results.ErrTaken):
		return fault.Wrap(fault.OtherJob, err, "use Redis at %s", addr).
			WithFix("give each run its own -prefix, or begin anew with an empty -state")
	case errors.Is(err, context.Canceled):
		return err
	case strings.Contains(text, "NOAUTH"), strings.Contains(text, "WRONGPASS"):
		return fault.Wrap(fault.AuthFailed, err, "use Redis at %s", addr).WithFix("set WEBLOG_REDIS_PASSWORD, or give -redis-password @file")
	}
	return fault.Wrap(fault.Unreachable, err, "use Redis at %s", addr).WithFix("check -redis and that the server is up")
}

func (a *App) startKafka(ctx context.Context, state string) (*topic.Topic, error) {
	a.brokers = a.o.brokers()
	if a.o.kafka == "" {
		k, err := embedded.StartKafka(filepath.Join(state, "kafka"), embedded.KafkaOptions{
			Topics: []embedded.Topic{{Name: a.o.topic, Partitions: a.o.partitions}}, Logger: a.log,
		})
		if err != nil {
			return nil, fmt.Errorf("start embedded Kafka: %w", err)
		}
		a.closers = append(a.closers, func() error { k.Close(); return nil })
		a.brokers = []string{k.Addr()}
	}
	t, err := topic.Open(ctx, a.brokers, a.o.topic)
	if err != nil {
		return nil, err
	}
	a.closers = append(a.closers, func() error { t.Close(); return nil })
	if a.o.kafka == "" && t.Partitions != a.o.partitions {
		a.log.Warn("the embedded topic keeps the partitions it was made with", "partitions", t.Partitions, "asked", a.o.partitions)
	}
	return t, nil
}
