package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/bubble"
)

// halves reads a source that ends early and one that goes on, and counts both in windows. In one alignment group they are one
// region, otherwise two.
type halves struct {
	short, long *enginetest.Script[int]
	plain       *enginetest.Collect[int] // what was read of short
	out         [2]*enginetest.Tx[string]
	align       string
}

func (h *halves) build(cfg engine.Config, each func()) *engine.Pipeline {
	p := engine.New(cfg)
	for i, in := range []*enginetest.Script[int]{h.short, h.long} {
		name := []string{"short", "long"}[i]
		s := engine.Map(engine.From(p, name, in), "each-"+name, func(n int) int { each(); return n })
		if i == 0 {
			engine.To(s, "plain", h.plain)
		}
		timed := s.EventTime(func(n int) time.Time { return time.UnixMilli(int64(n)) }, engine.Watermarks{Align: h.align, MaxDrift: time.Hour})
		w := engine.Window(engine.KeyBy(timed, func(n int) int64 { return int64(n % 5) }), "count-"+name, engine.Tumbling{Size: 20 * time.Millisecond})
		engine.ToTx(engine.Aggregate(w, func(a *int64, _ int) { *a++ },
			func(k int64, sp engine.Span, a *int64) string { return fmt.Sprint(k, sp.Start.UnixMilli(), *a) }), "out-"+name, h.out[i])
	}
	return p
}

// windowsOf is what halves makes of the records 0 to n-1.
func windowsOf(n int) (out []string) {
	counts := map[[2]int]int{}
	for i := range n {
		counts[[2]int{i % 5, i / 20 * 20}]++
	}
	for k, c := range counts {
		out = append(out, fmt.Sprint(k[0], k[1], c))
	}
	slices.Sort(out)
	return out
}

// TestSourcesThatHaveEnded suspends a job of which one source has ended, resumes it at another parallelism, crashes it, and lets it
// end: what ended is ended once. Then there is nothing to run.
func TestSourcesThatHaveEnded(t *testing.T) {
	for _, align := range []string{"", "group"} {
		bubble.Test(t, func(t *testing.T) {
			short, _ := steady(0, 30)
			long, _ := steady(0, 300, 200, 240)
			script := func(steps []enginetest.Step[int]) *enginetest.Script[int] {
				return &enginetest.Script[int]{Splits: map[string][]enginetest.Step[int]{"a": steps}}
			}
			h := &halves{
				short: script(short), long: script(long), align: align, plain: &enginetest.Collect[int]{},
				out: [2]*enginetest.Tx[string]{enginetest.NewTx[string](), enginetest.NewTx[string]()},
			}
			cfg := engine.Config{Name: "halves", Dir: t.TempDir(), Parallelism: 2, CheckpointEvery: 20 * time.Millisecond}
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			if err := h.build(cfg, func() {}).Run(ctx); err != nil {
				t.Fatal(err)
			}
			if got := len(h.out[1].Rows()); got == 0 || got >= len(windowsOf(300)) {
				t.Fatalf("suspended with %d windows", got)
			}
			cfg.Parallelism = 3
			p := h.build(cfg, func() {})
			if err := p.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := p.Status().Restarts; got != 2 {
				t.Errorf("%q: %d restarts", align, got)
			}
			for i, n := range []int{30, 300} {
				if got := slices.Sorted(slices.Values(h.out[i].Rows())); !slices.Equal(got, windowsOf(n)) || h.out[i].Leftovers() != 0 {
					t.Errorf("%q: got %v, want %v", align, got, windowsOf(n))
				}
			}
			if got := h.plain.Rows(); len(got) != 30 {
				t.Errorf("%q: the ended source's sink got %v", align, got)
			}
			if err := h.build(cfg, func() { t.Error("ran") }).Run(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// checkpointJob is a job whose store refuses epochs while on is set.
func checkpointJob(t *testing.T, on *atomic.Bool, out *enginetest.Tx[int], steps ...enginetest.Step[int]) *engine.Pipeline {
	dir := t.TempDir()
	p := engine.New(engine.Config{
		Name: "asked", Parallelism: 1, CheckpointEvery: -1, TolerateFailures: 1000, Restart: engine.Restart{Delay: time.Millisecond},
		Store: func(o store.Options) (store.Store, error) {
			d, err := store.Open(dir, o)
			return refusing{d, on, errors.New("planted")}, err
		},
	})
	in := &enginetest.Script[int]{Splits: map[string][]enginetest.Step[int]{"a": steps}}
	engine.ToTx(engine.From(p, "in", in), "out", out)
	return p
}

// TestTheLastCheckpointIsRetried refuses the last checkpoint of a bounded job for a while.
func TestTheLastCheckpointIsRetried(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var on atomic.Bool
		on.Store(true)
		time.AfterFunc(10*time.Second, func() { on.Store(false) })
		out := enginetest.NewTx[int]()
		p := checkpointJob(t, &on, out, enginetest.Rec(1))
		if err := p.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		st := p.Status()
		if st.Outcome != "finished" || st.Epochs.Failed < 4 || st.Epochs.Failed > 12 || st.Restarts != 0 || len(out.Rows()) != 1 {
			t.Errorf("%s, %d failed checkpoints in ten seconds, %d restarts, rows %v", st.Outcome, st.Epochs.Failed, st.Restarts, out.Rows())
		}
	})
}

// TestARequestedCheckpointIsTaken fails a requested checkpoint by its store, and by a task that fails in it: no other one is due, so
// the request is kept.
func TestARequestedCheckpointIsTaken(t *testing.T) {
	for _, by := range []string{"store", "task"} {
		bubble.Test(t, func(t *testing.T) {
			var on atomic.Bool
			var prepared atomic.Int64
			out := enginetest.NewTx[int]()
			out.OnPrepare = func(uint64) error {
				if prepared.Add(1) == 1 && by == "task" {
					return errors.New("planted")
				}
				return nil
			}
			p := checkpointJob(t, &on, out, enginetest.Rec(1), enginetest.Stay[int]())
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- p.Run(ctx) }()
			<-time.After(time.Second)
			on.Store(by == "store")
			p.Checkpoint()
			<-time.After(time.Second)
			on.Store(false)
			<-time.After(time.Minute)
			if st := p.Status(); st.Epochs.Completed != 1 || (st.Restarts == 1) != (by == "task") {
				t.Errorf("%s: %d checkpoints, %d restarts, rows %v", by, st.Epochs.Completed, st.Restarts, out.Rows())
			}
			cancel()
			if err := <-ended; err != nil || len(out.Rows()) != 1 {
				t.Errorf("%s: %v, rows %v", by, err, out.Rows())
			}
		})
	}
}

// TestATaskFailsInTheLastCheckpointOfAStop: the stop ends at once with the error, and the next run goes on from before.
func TestATaskFailsInTheLastCheckpointOfAStop(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		steps, want := steady(0, 100)
		in := &enginetest.Script[int]{Splits: map[string][]enginetest.Step[int]{"a": steps}}
		out := enginetest.NewTx[int]()
		dir := t.TempDir()
		run := func(ctx context.Context, every time.Duration) error {
			p := engine.New(engine.Config{Name: "last", Dir: dir, Parallelism: 2, CheckpointEvery: every})
			engine.ToTx(engine.From(p, "in", in).Rebalance().Filter("all", func(int) bool { return true }), "out", out)
			return p.Run(ctx)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		planted := errors.New("planted")
		out.OnPrepare = func(uint64) error {
			if ctx.Err() != nil {
				return planted
			}
			return nil
		}
		began := time.Now()
		if err := run(ctx, 30*time.Millisecond); !errors.Is(err, planted) || time.Since(began) > time.Second {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		out.OnPrepare = nil
		if err := run(t.Context(), 30*time.Millisecond); err != nil {
			t.Error(err)
		}
		if got := slices.Sorted(slices.Values(out.Rows())); !slices.Equal(got, want) || out.Leftovers() != 0 {
			t.Errorf("got %v, %d left", got, out.Leftovers())
		}
	})
}
