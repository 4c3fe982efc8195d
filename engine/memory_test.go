package engine

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// adder is a sink that counts records and adds up their lengths.
type adder struct{ records, bytes atomic.Int64 }

func (a *adder) Writer(context.Context, sink.Task) (sink.Writer[string], error) { return a, nil }
func (a *adder) Flush(context.Context) error                                    { return nil }
func (a *adder) Close() error                                                   { return nil }

func (a *adder) Write(_ context.Context, b []string) error {
	a.records.Add(int64(len(b)))
	for _, v := range b {
		a.bytes.Add(int64(len(v)))
	}
	return nil
}

// TestQueueOfBytes fills a queue by bytes: its sender waits, and is woken when it is half empty.
func TestQueueOfBytes(t *testing.T) {
	woken := 0
	c := newInbox().addChannel(100, 1000, func() { woken++ })
	for _, want := range []bool{true, true, false} {
		c.put(item{kind: itemBatch, bytes: 400})
		if c.hasRoom() != want {
			t.Errorf("with %d bytes there is room: %v", c.bytes.Load(), !want)
		}
	}
	for i, want := range []int{0, 1, 1} {
		if c.to.take(); woken != want {
			t.Errorf("after %d batches were taken the sender was woken %d times, want %d", i+1, woken, want)
		}
	}
	if c.bytes.Load() != 0 || !c.hasRoom() {
		t.Errorf("empty, and %d bytes are in it", c.bytes.Load())
	}
	for _, f := range []struct{ n, bytes, want int }{{10, 10, 50}, {10, 100, 25}, {1, 1 << 20, 1}, {3, 0, 50}} {
		if got := c.fit(50, f.n, int64(f.bytes)); got != f.want {
			t.Errorf("a batch has %d records if %d have %d bytes, want %d", got, f.n, f.bytes, f.want)
		}
	}
}

// TestMemoryIsShared counts the queues of a graph.
func TestMemoryIsShared(t *testing.T) {
	build := func(cfg Config) *Pipeline {
		cfg.Name, cfg.Parallelism = "shared", 2
		p := New(cfg)
		s := From(p, "in", gen.Source[string]{Make: func(int64) string { return "" }})
		To(KeyBy(s, func(v string) string { return v }).s, "near", &adder{})
		To(s.Rebalance(), "far", &adder{})
		p.plan()
		return p
	}
	for _, c := range []struct {
		cfg  Config
		want int64
	}{
		{Config{}, 1 << 20},
		{Config{QueueBytes: 5}, 5},
		{Config{QueueBytes: -1}, 1<<63 - 1},
		{Config{QueueBytes: -1, Memory: 10 << 20}, 1 << 19},
		{Config{Memory: 1 << 30}, 1 << 20},
	} {
		if got, err := build(c.cfg).queueBytes(); got != c.want || err != nil {
			t.Errorf("%d bytes of memory, %d a queue: bound %d, %v, want %d", c.cfg.Memory, c.cfg.QueueBytes, got, err, c.want)
		}
	}
	if err := build(Config{Memory: 10<<16 - 1}).Check(); fault.CodeOf(err) != fault.BadPipeline.ID {
		t.Errorf("too little memory: %v", err)
	}
	if err := build(Config{Memory: -1}).Check(); fault.CodeOf(err) != fault.BadPipeline.ID {
		t.Errorf("negative memory: %v", err)
	}
}

// TestRecordsOfAllSizes sends records through queues that are smaller than some of them.
func TestRecordsOfAllSizes(t *testing.T) {
	const n = 5000
	size := func(seq int64) int { return int(seq*seq%97) * int(seq%13) }
	for _, bytes := range []int64{1, 4096} {
		p, out := New(Config{Name: "sizes", Parallelism: 2, QueueBytes: bytes}), &adder{}
		src := gen.Source[string]{Count: n, Make: func(seq int64) string { return strings.Repeat("x", size(seq)) }}
		turns := Map(From(p, "in", src).Rebalance(), "turn", func(v string) string { return v })
		To(Map(KeyBy(turns, func(v string) int { return len(v) }).s, "keyed", func(v string) string { return v }), "out", out)
		if err := p.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		var want int64
		for seq := range int64(n) {
			want += int64(size(seq))
		}
		if out.records.Load() != n || out.bytes.Load() != want {
			t.Errorf("queues of %d bytes: %d records of %d bytes arrived, want %d of %d", bytes, out.records.Load(), out.bytes.Load(), n, want)
		}
	}
}
