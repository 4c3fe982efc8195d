package engine_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/internal/fault"
)

func TestRescaleWhileRunning(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const n = 30_000
		cfg := engine.Config{Name: "sums", Dir: t.TempDir(), Parallelism: 2, CheckpointEvery: 30 * time.Millisecond, KeyGroups: 16}
		db := enginetest.NewTx[keyCount]()
		p := sums(cfg, n, 10_000, db, quiet)
		end := running(t, p)
		for _, tasks := range []int{4, 1, 16, 16, 3} {
			time.Sleep(300 * time.Millisecond)
			must(t, p.Rescale(t.Context(), tasks))
			if got := p.Status().Parallelism; got != tasks {
				t.Errorf("parallelism %d, want %d", got, tasks)
			}
		}
		for _, tasks := range []int{0, -1, 17} {
			wants(t, p.Rescale(t.Context(), tasks), fault.Parallelism, "16 key groups")
		}
		must(t, end())
		checkSums(t, db.Rows(), n)
		if got := p.Status(); got.Rescales != 4 || got.Outcome != "finished" || got.Restarts != 0 {
			t.Errorf("%d rescales, outcome %s, %d restarts", got.Rescales, got.Outcome, got.Restarts)
		}
	})
}

// TestRescaleAndTrouble rescales, stops and fails at any moments.
func TestRescaleAndTrouble(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	bubble.Test(t, func(t *testing.T) {
		const n = 30_000
		var seen atomic.Int64
		cfg := engine.Config{
			Name: "sums", Dir: t.TempDir(), Parallelism: 2, CheckpointEvery: 30 * time.Millisecond,
			Restart: engine.Restart{Delay: 5 * time.Millisecond, Attempts: 1000},
		}
		db := enginetest.NewTx[keyCount]()
		for runs := 0; ; runs++ {
			p := sums(cfg, n, 10_000, db, func(event) {
				if seen.Add(1)%2500 == 0 {
					panic("planted")
				}
			})
			end := running(t, p)
			for range 6 {
				time.Sleep(time.Duration(rnd.Int64N(int64(60 * time.Millisecond))))
				if err := p.Rescale(t.Context(), 1+rnd.IntN(5)); err != nil && !errors.Is(err, fault.New(fault.NotRunning, "")) {
					t.Error(err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rnd.Int64N(int64(20*time.Millisecond))))
			go p.Rescale(ctx, 7) //nolint:errcheck // the stop may come first
			time.Sleep(time.Duration(rnd.Int64N(int64(20 * time.Millisecond))))
			p.Stop(engine.Suspend)
			must(t, end())
			cancel()
			if p.Status().Outcome == "finished" {
				t.Logf("%d runs", runs)
				break
			}
		}
		checkSums(t, db.Rows(), n)
	})
}

// TestRescalePause measures the pause on real time, with 100 thousand keys.
func TestRescalePause(t *testing.T) {
	const keys = 100_000
	var seen atomic.Int64
	p := engine.New(engine.Config{Name: "pause", Dir: t.TempDir(), Parallelism: 1, CheckpointEvery: -1})
	s := engine.From(p, "numbers", gen.Source[event]{Make: func(seq int64) event { return event{Key: seq % keys, Value: 1} }, Splits: 8})
	all := make(chan struct{})
	s = engine.Map(s, "count", func(e event) event {
		if seen.Add(1) == keys {
			close(all)
		}
		return e
	})
	var out enginetest.Collect[keyCount]
	engine.To(engine.Process(engine.KeyBy(s, func(e event) int64 { return e.Key }), "sum", func() *sum { return &sum{} }).
		Filter("few", func(k keyCount) bool { return k.Key == 0 }), "out", &out)
	end := running(t, p)
	<-all
	for _, tasks := range []int{2, 1, 4} {
		must(t, p.Rescale(t.Context(), tasks))
		took := p.Status().RescaleTook
		t.Logf("figure: rescaled to %d tasks with %d keys in %v", tasks, keys, took)
		if st := p.Status(); took <= 0 || st.Parallelism != tasks {
			t.Errorf("it took %v, and the parallelism is %d, want %d", took, st.Parallelism, tasks)
		}
	}
	p.Stop(engine.Suspend)
	must(t, end())
}

// TestFixedParallelismBesideRescaling goes through plans in which links are fused, forward and rebalanced in turn.
func TestFixedParallelismBesideRescaling(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const n = 10_000
		p := engine.New(engine.Config{Name: "fixed", Dir: t.TempDir(), Parallelism: 2, CheckpointEvery: -1})
		s := engine.From(p, "numbers", gen.Source[int64]{Make: func(seq int64) int64 { return seq }, Count: n, PerSecond: 5000, Splits: 4})
		s = s.Filter("wide", func(int64) bool { return true }).Parallel(2).Filter("all", func(int64) bool { return true })
		out := enginetest.NewTx[int64]()
		engine.ToTx(s, "out", out)
		end := running(t, p)
		for _, tasks := range []int{3, 2, 1, 2} {
			time.Sleep(200 * time.Millisecond)
			must(t, p.Rescale(t.Context(), tasks))
		}
		must(t, end())
		fused := 0
		for _, l := range p.Plan().Links {
			if l.Kind == "fused" {
				fused++
			}
		}
		if fused != 3 {
			t.Errorf("%d links are fused again at the first parallelism, want 3", fused)
		}
		if got := len(out.Rows()); got != n {
			t.Errorf("%d rows, want %d", got, n)
		}
	})
}
