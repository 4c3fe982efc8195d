package leaks

import (
	"context"
	"fmt"
	"math"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/files"
	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/source"
	"github.com/weirline/weirline/state"
)

// restarts is how many there are.
func restarts() int {
	if os.Getenv("WEIRLINE_SOAK") == "1" {
		return 1000
	}
	return 60
}

// counts is what a process holds at a moment.
type counts struct{ goroutines, handles int }

func (c counts) String() string {
	return fmt.Sprintf("%d goroutines, %d file handles", c.goroutines, c.handles)
}

func (c counts) above(o counts) bool { return c.goroutines > o.goroutines || c.handles > o.handles }

// now counts. File handles are counted where the system shows them; elsewhere they are 0.
func now(t *testing.T) counts {
	c := counts{goroutines: runtime.NumGoroutine()}
	if entries, err := os.ReadDir("/proc/self/fd"); err == nil {
		c.handles = len(entries)
	} else if runtime.GOOS == "linux" {
		t.Errorf("list open files: %v", err)
	}
	return c
}

// probe looks at the process at the same place of every attempt: when the source's enumerator is made, and nothing of the
// attempt runs yet.
type probe struct {
	gen.Source[int64]
	look func()
}

func (p probe) Enumerator(ctx context.Context, t source.Task) (source.Enumerator[gen.Split], error) {
	p.look()
	return p.Source.Enumerator(ctx, t)
}

// faulty fails once in each attempt, after a checkpoint of it is complete.
type faulty struct {
	completed atomic.Int64 // checkpoints, as last seen
	at        atomic.Int64 // fail when there are more
	left      atomic.Int64 // failures
}

func (f *faulty) pass(v int64) int64 {
	if f.completed.Load() > f.at.Load() && f.left.Add(-1) >= 0 {
		f.at.Store(1 << 62) // this attempt fails once
		panic("thrown on purpose")
	}
	return v
}

// TestRestarts restarts a job with state, windows, a two-phase sink and a state directory very often: no restart may begin
// with more goroutines or open files than any before it.
func TestRestarts(t *testing.T) {
	n, f := restarts(), &faulty{}
	f.left.Store(int64(n))
	var seen []counts
	least := counts{math.MaxInt, math.MaxInt} // of the restarts so far
	src := probe{Source: gen.Source[int64]{Make: func(seq int64) int64 { return seq }, PerSecond: 50_000}}
	src.look = func() {
		c := now(t)
		for end := time.Now().Add(time.Second); c.above(least) && time.Now().Before(end); c = now(t) {
			runtime.Gosched() // one that has told its end may not be quite gone
		}
		if c.above(least) {
			t.Errorf("restart %d begins with %v, an earlier one with %v\n%s", len(seen), c, least, stacks())
		}
		if len(seen) > 0 { // the first attempt is no restart
			least = counts{min(least.goroutines, c.goroutines), min(least.handles, c.handles)}
		}
		seen = append(seen, c)
		f.at.Store(f.completed.Load())
	}
	p := engine.New(engine.Config{
		Name: "leaks", Dir: t.TempDir(), Parallelism: 2, CheckpointEvery: 2 * time.Millisecond,
		Restart: engine.Restart{Attempts: n + 1, Delay: -1},
	})
	build(p, src, f, t.TempDir())

	ctx, cancel := context.WithCancel(t.Context())
	var watch sync.WaitGroup
	watch.Go(func() {
		defer cancel()
		tick := time.NewTicker(200 * time.Microsecond)
		defer tick.Stop()
		for s := p.Status(); int(s.Restarts) < n || f.completed.Load() <= f.at.Load(); s = p.Status() {
			f.completed.Store(s.Epochs.Completed)
			select {
			case <-tick.C:
			case <-t.Context().Done():
				return
			}
		}
	})
	err := p.Run(ctx)
	cancel()
	watch.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) < n+1 {
		t.Fatalf("%d attempts, want %d", len(seen), n+1)
	}
	t.Logf("%d restarts, the first began with %v, none with more than one before it", n, seen[1])
}

// build makes the pipeline: a keyed sum and windows, written in two phases.
func build(p *engine.Pipeline, src source.Source[int64, gen.Split], f *faulty, out string) {
	s := engine.Map(engine.From(p, "numbers", src), "throw", f.pass)
	timed := s.EventTime(func(v int64) time.Time { return time.UnixMilli(v + 1) }, engine.Watermarks{})
	keyed := engine.KeyBy(timed, func(v int64) int64 { return v % 100 })
	sums := engine.Process(keyed, "sum", func() *summer { return &summer{} })
	windows := engine.Window(engine.KeyBy(sums, func(v int64) int64 { return v % 10 }), "count", engine.Tumbling{Size: time.Second})
	counted := engine.Aggregate(windows, func(n *int64, _ int64) { *n++ }, func(_ int64, _ engine.Span, n *int64) int64 { return *n })
	engine.ToTx(counted, "out", files.TxSink[int64]{Dir: out})
}

type summer struct{ sum state.Value[int64] }

func (s *summer) Open(b *engine.Setup[int64]) error {
	s.sum = state.NewValue[int64](b, "sum")
	return nil
}

func (s *summer) Process(_ *engine.Ctx[int64], v int64, out *engine.Out[int64]) error {
	*s.sum.Ref() += v
	out.Emit(*s.sum.Ref())
	return nil
}

func stacks() []byte {
	buf := make([]byte, 1<<20)
	return buf[:runtime.Stack(buf, true)]
}
