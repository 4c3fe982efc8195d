package leaks

import (
	"context"
	"os"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

const (
	memory   = 32 << 20 // Config.Memory
	overhead = 4 << 20  // what a job has beside its queues: buffers that are reused, tasks, status
)

// slow is a sink that takes 20 ms for each batch, until it is told to hurry.
type slow struct {
	hurry   chan struct{}
	written atomic.Int64
}

func (s *slow) Writer(context.Context, sink.Task) (sink.Writer[string], error) { return s, nil }
func (s *slow) Flush(context.Context) error                                    { return nil }
func (s *slow) Close() error                                                   { return nil }

func (s *slow) Write(ctx context.Context, batch []string) error {
	select {
	case <-time.After(20 * time.Millisecond):
	case <-s.hurry:
	case <-ctx.Done():
	}
	s.written.Add(int64(len(batch)))
	return nil
}

// live is how many bytes of the heap are in use, garbage aside.
func live() int64 {
	runtime.GC()
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64()) //nolint:gosec // far from its limit
}

// fill runs records of 1 KB at full speed into the slow sink for a time, and returns the most that the job had in use.
func fill(t *testing.T, cfg engine.Config, long time.Duration) (most, written int64) {
	cfg.Name, cfg.Parallelism = "slow", 4
	p, s := engine.New(cfg), &slow{hurry: make(chan struct{})}
	src := gen.Source[string]{Make: func(seq int64) string { return strings.Repeat(string(rune('a'+seq%26)), 1024) }}
	engine.To(engine.From(p, "lines", src).Rebalance(), "out", s)
	before := live()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
			most = max(most, live()-before)
		case <-ctx.Done():
		}
	}
	written = s.written.Load()
	close(s.hurry)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return most, written
}

// TestSlowSink fills all queues of a job: what they hold stays within Config.Memory, and doesn't without a bound.
func TestSlowSink(t *testing.T) {
	long := 3 * time.Second
	if os.Getenv("WEIRLINE_SOAK") == "1" {
		long = time.Minute
	}
	most, written := fill(t, engine.Config{Memory: memory}, long)
	t.Logf("figure: a slow sink with records of 1 KB, %d MiB of memory allowed: %.1f MiB in use at most, %d records written in %v",
		memory>>20, float64(most)/(1<<20), written, long)
	if most > memory+overhead {
		t.Errorf("%d bytes in use, want at most %d and %d beside", most, memory, overhead)
	}
	if most < memory/8 || written == 0 {
		t.Errorf("%d bytes in use and %d records written: the queues didn't fill", most, written)
	}
	most, _ = fill(t, engine.Config{QueueBytes: -1}, 3*time.Second)
	t.Logf("figure: the same without a bound: %.1f MiB", float64(most)/(1<<20))
	if most <= memory+overhead {
		t.Errorf("without a bound %d bytes in use: the test can't tell", most)
	}
}

// TestTooLittle has less memory than one batch for each queue.
func TestTooLittle(t *testing.T) {
	p := engine.New(engine.Config{Name: "small", Memory: 1 << 20, Parallelism: 4})
	src := gen.Source[string]{Make: func(int64) string { return "" }}
	engine.To(engine.From(p, "lines", src).Rebalance(), "out", &slow{})
	err := p.Check()
	if fault.CodeOf(err) != fault.BadPipeline.ID || !strings.Contains(err.Error(), "there are 20 queues, each of which needs 65536 bytes") {
		t.Errorf("got %v", err)
	}
}
