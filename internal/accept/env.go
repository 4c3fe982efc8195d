package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/weirline/weirline/internal/testsvc"
)

// env is what checks share. They run one at a time.
type env struct {
	root  string // of the repository
	tmp   string // removed at the end
	kept  string // where the present check's logs are kept
	files int    // logs of the present check so far
	quick bool
	seed  uint64
	names int // directories and topics made so far

	log   *accessLog
	kafka *testsvc.KafkaServer
	redis *testsvc.RedisServer
	bench map[string]*benchRun // by package
}

func newEnv(quick bool, seed uint64) (*env, error) {
	root, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		return nil, fmt.Errorf("run it in the repository's root: %w", err)
	}
	tmp, err := os.MkdirTemp("", "weirline-accept-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(tmp, 0o755); err != nil { // one check runs weblog as another user
		return nil, err
	}
	return &env{root: root, tmp: tmp, quick: quick, seed: seed, bench: map[string]*benchRun{}}, nil
}

func (e *env) close() {
	if e.kafka != nil {
		e.kafka.Kill()
	}
	if e.redis != nil {
		e.redis.Kill()
	}
	if err := os.RemoveAll(e.tmp); err != nil {
		fmt.Fprintln(os.Stderr, "accept:", err)
	}
}

// name is a word nothing else has: for directories, topics and prefixes.
func (e *env) name(what string) string {
	e.names++
	return fmt.Sprintf("%s-%d", what, e.names)
}

// dir makes a new directory.
func (e *env) dir(what string) (string, error) {
	d := filepath.Join(e.tmp, e.name(what))
	return d, os.MkdirAll(d, 0o755)
}

// binary is a program that `make build` made.
func (e *env) binary(name string) (string, error) {
	path := filepath.Join(e.root, "bin", name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("find %s: %w; run `make build`", name, err)
	}
	return path, nil
}

// services are the broker and the server that checks share if they leave them alone.
func (e *env) services(ctx context.Context) (*testsvc.KafkaServer, *testsvc.RedisServer, error) {
	var err error
	if e.kafka == nil {
		if e.kafka, err = testsvc.StartKafka(ctx, filepath.Join(e.tmp, "kafka"), testsvc.KafkaOptions{}); err != nil {
			return nil, nil, err
		}
	}
	if e.redis == nil {
		if e.redis, err = testsvc.StartRedis(ctx, filepath.Join(e.tmp, "redis"), testsvc.RedisOptions{}); err != nil {
			return nil, nil, err
		}
	}
	return e.kafka, e.redis, nil
}

// own starts a broker and a server for one check, which may do to them what it likes.
func (e *env) own(ctx context.Context) (k *testsvc.KafkaServer, r *testsvc.RedisServer, stop func(), err error) {
	dir, err := e.dir("services")
	if err != nil {
		return nil, nil, nil, err
	}
	k, err = testsvc.StartKafka(ctx, filepath.Join(dir, "kafka"), testsvc.KafkaOptions{})
	if err != nil {
		return nil, nil, nil, err
	}
	r, err = testsvc.StartRedis(ctx, filepath.Join(dir, "redis"), testsvc.RedisOptions{})
	if err != nil {
		k.Kill()
		return nil, nil, nil, err
	}
	return k, r, func() { k.Kill(); r.Kill() }, nil
}

// real makes a topic on the shared broker and gives weblog's flags for it.
func (e *env) real(ctx context.Context, partitions int) ([]string, error) {
	k, r, err := e.services(ctx)
	if err != nil {
		return nil, err
	}
	return realFlags(ctx, k, r, e.name("accept"), partitions)
}

func realFlags(ctx context.Context, k *testsvc.KafkaServer, r *testsvc.RedisServer, topic string, partitions int) ([]string, error) {
	if err := k.CreateTopic(ctx, topic, partitions); err != nil {
		return nil, err
	}
	return []string{"-kafka", k.Addr, "-topic", topic, "-redis", r.Addr, "-prefix", topic + ":"}, nil
}

// keep opens a log of the present check, kept for whoever looks for the cause of a failure.
func (e *env) keep() (*os.File, error) {
	e.files++
	if err := os.MkdirAll(e.kept, 0o755); err != nil {
		return nil, err
	}
	return os.Create(filepath.Join(e.kept, fmt.Sprintf("%02d.log", e.files)))
}

// want is an error unless what holds.
func want(holds bool, what string, args ...any) error {
	if holds {
		return nil
	}
	return fmt.Errorf(what, args...)
}
