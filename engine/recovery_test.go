package engine_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// exactly builds the windowed job with a two-phase sink; trip is called for each record.
func exactly(cfg engine.Config, n int64, rate float64, db *enginetest.Tx[keyCount], trip func(event) error) *engine.Pipeline {
	p := engine.New(cfg)
	s := engine.From(p, "numbers", gen.Source[event]{Make: makeEvent, Count: n, Splits: 4, PerSecond: rate})
	s = engine.TryMap(s, "trip", func(e event) (event, error) { return e, trip(e) })
	timed := s.EventTime(func(e event) time.Time { return e.At }, engine.Watermarks{Delay: 200 * time.Millisecond})
	type acc struct{ N, Sum int64 }
	res := engine.Aggregate(engine.Window(engine.KeyBy(timed, func(e event) int64 { return e.Key }), "count", engine.Tumbling{Size: time.Second}),
		func(a *acc, e event) { a.N++; a.Sum += e.Value },
		func(k int64, sp engine.Span, a *acc) keyCount { return keyCount{k, sp.Start.UnixMilli(), a.N, a.Sum} })
	engine.ToTx(res, "out", db)
	return p
}

func TestPanicsRestartExactlyOnce(t *testing.T) {
	const n = 40_000
	var seen, panics atomic.Int64
	db := enginetest.NewTx[keyCount]()
	cfg := engine.Config{
		Name: "panics", Dir: t.TempDir(), Parallelism: 2, CheckpointEvery: 5 * time.Millisecond,
		Restart: engine.Restart{Delay: time.Millisecond, Factor: 1, Attempts: 100},
	}
	err := exactly(cfg, n, 80_000, db, func(event) error {
		if seen.Add(1)%15_000 == 0 {
			panics.Add(1)
			panic("planted")
		}
		return nil
	}).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if panics.Load() < 2 {
		t.Errorf("only %d panics happened", panics.Load())
	}
	checkWindows(t, db.Rows(), n)
}

func TestSuspendAndResumeAtOtherParallelism(t *testing.T) {
	const n = 30_000
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	db := enginetest.NewTx[keyCount]()
	dir := t.TempDir()
	runs := 0
	for done := false; !done; runs++ {
		if runs > 200 {
			t.Fatal("the job doesn't get to its end")
		}
		ctx, cancel := context.WithCancel(t.Context())
		var read atomic.Int64
		stopAt := 1 + rnd.Int64N(6000)
		cfg := engine.Config{
			Name: "suspend", Dir: dir, Parallelism: 1 + rnd.IntN(5), CheckpointEvery: -1,
		}
		p := exactly(cfg, n, 200_000, db, func(event) error {
			if read.Add(1) == stopAt {
				cancel()
			}
			return nil
		})
		if err := p.Run(ctx); err != nil {
			t.Fatal(err)
		}
		done = ctx.Err() == nil
		cancel()
	}
	if runs < 3 {
		t.Errorf("suspended only %d times", runs-1)
	}
	checkWindows(t, db.Rows(), n)

	// A finished job runs nothing.
	err := exactly(engine.Config{Name: "suspend", Dir: dir}, n, 0, db, func(event) error { return errors.New("ran") }).Run(t.Context())
	if err != nil {
		t.Error(err)
	}
}

func TestDrainFiresWindows(t *testing.T) {
	db := enginetest.NewTx[keyCount]()
	var read atomic.Int64
	var p *engine.Pipeline
	p = exactly(engine.Config{Name: "drain", Dir: t.TempDir(), Parallelism: 2}, 0, 50_000, db, func(event) error {
		if read.Add(1) == 5000 {
			go p.Stop(engine.Drain)
		}
		return nil
	})
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var total int64
	for _, r := range db.Rows() {
		total += r.Count
	}
	if total != read.Load() {
		t.Errorf("windows hold %d records, %d were read", total, read.Load())
	}
}

func TestCommitFailuresAreRetriedInOrder(t *testing.T) {
	const n = 20_000
	db := enginetest.NewTx[keyCount]()
	var calls atomic.Int64
	var last uint64
	db.OnCommit = func(hs []sink.Handle) error {
		if calls.Add(1)%3 != 0 {
			return errors.New("planted")
		}
		for _, h := range hs {
			if h.Epoch < last {
				t.Errorf("epoch %d was committed after %d", h.Epoch, last)
			}
			last = h.Epoch
		}
		return nil
	}
	cfg := engine.Config{Name: "commits", Dir: t.TempDir(), Parallelism: 2, CheckpointEvery: 2 * time.Millisecond}
	if err := exactly(cfg, n, 40_000, db, func(event) error { return nil }).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkWindows(t, db.Rows(), n)
}

func TestPoisonPolicies(t *testing.T) {
	const n = 1000
	bad := errors.New("planted")
	trip := func(e event) error {
		if e.Value%100 == 7 {
			return bad
		}
		return nil
	}
	cfg := engine.Config{Name: "poison", Dir: t.TempDir(), Parallelism: 2}
	if err := exactly(cfg, n, 0, enginetest.NewTx[keyCount](), trip).Run(t.Context()); !errors.Is(err, bad) {
		t.Errorf("policy fail: got %v", err)
	}

	cfg.Dir, cfg.Poison = t.TempDir(), engine.Poison{Policy: engine.PoisonSkip}
	db := enginetest.NewTx[keyCount]()
	if err := exactly(cfg, n, 0, db, trip).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := records(db.Rows()); got != n-10 {
		t.Errorf("policy skip: %d records, want %d", got, n-10)
	}

	cfg.Dir, cfg.Poison = t.TempDir(), engine.Poison{Policy: engine.PoisonDeadLetter}
	db = enginetest.NewTx[keyCount]()
	p := exactly(cfg, n, 0, db, trip)
	var dead enginetest.Collect[engine.DeadLetter]
	p.DeadLetters(&dead)
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	ops := map[string]int{}
	for _, d := range dead.Rows() {
		ops[d.Operator+" "+d.Cause]++
	}
	if !maps.Equal(ops, map[string]int{"trip planted": 10}) || records(db.Rows()) != n-10 {
		t.Errorf("policy dead letter: %v, %d records", ops, records(db.Rows()))
	}

	cfg.Dir, cfg.Poison = t.TempDir(), engine.Poison{Policy: engine.PoisonSkip, Budget: 3}
	cfg.Parallelism = 1
	if err := exactly(cfg, n, 0, enginetest.NewTx[keyCount](), trip).Run(t.Context()); err == nil {
		t.Error("the budget of bad records was not kept")
	}
}

func records(ws []keyCount) (n int64) {
	for _, w := range ws {
		n += w.Count
	}
	return n
}

// TestScriptedCrashes runs a job in false time through crashes at every step of its input: rows appear once each.
func TestScriptedCrashes(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		src := &enginetest.Script[int]{Splits: map[string][]enginetest.Step[int]{}}
		var want []int
		for s := range 3 {
			var steps []enginetest.Step[int]
			for i := range 20 {
				v := s*100 + i
				want = append(want, v)
				steps = append(steps, enginetest.Crash[int](), enginetest.Wait[int](2*time.Millisecond), enginetest.Rec(v))
			}
			src.Splits[string(rune('a'+s))] = steps
		}
		out := enginetest.NewTx[int]()
		enginetest.Run(t, engine.Config{Name: "crashes", Parallelism: 2}, func(p *engine.Pipeline) {
			engine.ToTx(engine.From(p, "in", src).Rebalance().Filter("all", func(int) bool { return true }), "out", out)
		})
		if got := slices.Sorted(slices.Values(out.Rows())); !slices.Equal(got, want) {
			t.Errorf("got %d rows, want %d: %v", len(got), len(want), got)
		}
		if out.Leftovers() != 0 {
			t.Errorf("%d transactions are left", out.Leftovers())
		}
	})
}

// stuck is a sink whose flush takes longer than a checkpoint may.
type stuck struct {
	enginetest.Collect[int]
	flushes atomic.Int64
}

func (s *stuck) Writer(context.Context, sink.Task) (sink.Writer[int], error) { return s, nil }

func (s *stuck) Flush(ctx context.Context) error {
	s.flushes.Add(1)
	select {
	case <-time.After(time.Minute):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestCheckpointTimeoutsEndTheJobAtLast(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		src := &enginetest.Script[int]{Splits: map[string][]enginetest.Step[int]{"a": {enginetest.Rec(1), enginetest.Stay[int]()}}}
		p := engine.New(engine.Config{
			Name: "timeout", Dir: t.TempDir(), Parallelism: 1, CheckpointEvery: time.Second, CheckpointTimeout: time.Second,
			TolerateFailures: 2, Restart: engine.Restart{Attempts: 2},
		})
		engine.To(engine.From(p, "in", src), "out", &stuck{})
		err := p.Run(t.Context())
		if codeOf(err) != "WL1405" || !errors.Is(err, fault.New(fault.EpochTimeout, "")) {
			t.Errorf("got %v", err)
		}
		if got := p.Status(); got.Restarts != 2 || got.Epochs.Failed != 9 {
			t.Errorf("%d restarts, %d failed checkpoints", got.Restarts, got.Epochs.Failed)
		}
	})
}

func TestPauseBetweenCheckpoints(t *testing.T) {
	for _, pause := range []time.Duration{0, 70 * time.Millisecond} {
		bubble.Test(t, func(t *testing.T) {
			src := &enginetest.Script[int]{Splits: map[string][]enginetest.Step[int]{"a": {enginetest.Wait[int](time.Second)}}}
			p := engine.New(engine.Config{
				Name: "pause", Dir: t.TempDir(), Parallelism: 1, CheckpointEvery: 20 * time.Millisecond, MinPause: pause,
			})
			engine.To(engine.From(p, "in", src), "out", &enginetest.Collect[int]{})
			if err := p.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			n := p.Status().Epochs.Completed
			if pause == 0 && n < 40 || pause > 0 && (n < 10 || n > 17) {
				t.Errorf("%d checkpoints in a second with a pause of %v", n, pause)
			}
		})
	}
}
