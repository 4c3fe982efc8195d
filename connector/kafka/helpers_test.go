package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/source"
)

// fake starts an in-process cluster.
func fake(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// counts is the metrics of a task.
type counts struct {
	mu sync.Mutex
	n  map[string]int64
	g  map[string]float64
}

func (c *counts) Count(name string, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = make(map[string]int64)
	}
	c.n[name] += n
}

func (c *counts) Gauge(name string, v float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.g == nil {
		c.g = make(map[string]float64)
	}
	c.g[name] = v
}

func (*counts) Observe(string, float64) {}

func (c *counts) get(name string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[name]
}

// logs is a log to look into.
type logs struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

func task(m *counts, l *logs) source.Task {
	if m == nil {
		m = &counts{}
	}
	var w io.Writer = io.Discard
	if l != nil {
		w = l
	}
	return source.Task{
		Job: "job", Operator: "in", Parallelism: 1, Metrics: m, Request: func() {},
		Log: slog.New(slog.NewTextHandler(w, nil)),
	}
}

// produce writes records to one partition.
func produce(t testing.TB, brokers []string, topic string, partition int32, values ...string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var rs []*kgo.Record
	for _, v := range values {
		rs = append(rs, &kgo.Record{Topic: topic, Partition: partition, Value: []byte(v)})
	}
	if err := cl.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// numbered are n values that can be told apart.
func numbered(prefix string, from, to int) []string {
	var vs []string
	for i := from; i < to; i++ {
		vs = append(vs, fmt.Sprintf("%s%d", prefix, i))
	}
	return vs
}

// find discovers once.
func find[T any](t testing.TB, s Source[T]) []Split {
	t.Helper()
	e, err := s.Enumerator(t.Context(), task(nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	found, _, err := e.Discover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// open makes a reader with splits.
func open[T any](t testing.TB, s Source[T], tk source.Task, splits ...Split) *reader[T] {
	t.Helper()
	r, err := s.Reader(t.Context(), tk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	rd, ok := r.(*reader[T])
	if !ok {
		t.Fatalf("reader is a %T", r)
	}
	rd.o.idle, rd.o.grace = 20*time.Millisecond, 300*time.Millisecond
	if err := rd.Add(t.Context(), splits...); err != nil {
		t.Fatal(err)
	}
	return rd
}

// drain reads until n values came or all splits are finished, and returns values and positions by split.
func drain[T any](t testing.TB, r *reader[T], splits, n int) (map[string][]T, map[string]Split) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	got, at := make(map[string][]T), make(map[string]Split)
	total := 0
	for splits > 0 && (n < 0 || total < n) {
		var b source.Batch[T]
		b.Limit(64)
		s, err := r.Read(ctx, &b)
		got[s.ID()] = append(got[s.ID()], b.Values...)
		at[s.ID()] = s
		total += len(b.Values)
		switch {
		case errors.Is(err, io.EOF):
			splits--
		case err != nil:
			t.Fatalf("after %d values: %v", total, err)
		}
	}
	return got, at
}

// readErr reads until something fails.
func readErr[T any](t testing.TB, r *reader[T]) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		var b source.Batch[T]
		b.Limit(64)
		if _, err := r.Read(ctx, &b); err != nil {
			return err
		}
	}
}

func text(c *kfake.Cluster, topics ...string) Source[string] {
	return Source[string]{Brokers: c.ListenAddrs(), Topics: topics}
}
