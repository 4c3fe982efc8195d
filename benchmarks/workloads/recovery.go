package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirline/weirline/benchmarks/internal/load"
	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/source"
)

// recovery is in milliseconds, both from the moment a function threw.
type recovery struct {
	First    float64 `json:"recovery_ms"`    // until the keyed operator of the restarted job processed a record
	CaughtUp float64 `json:"caught_up_ms"`   // until the sources were past the point of the failure again
	After    float64 `json:"after_epoch_ms"` // from the end of the last checkpoint to the throw
}

// recovers is w2 with a map before the exchange that throws once, when half of the records are made; the job restarts at
// once from its last checkpoint.
func recovers(ctx context.Context, o options) (result, error) {
	w := load.NewWatch(o.records)
	th := &thrower{began: time.Now(), after: o.throwAfter, tracks: make([]track, o.parallelism)}
	cfg := config(o)
	cfg.Restart.Delay = -1
	p := engine.New(cfg)
	src := gen.Source[load.Event]{Fill: th.tracking(w.Timing(load.Fill(o.keys))), Count: o.records}
	total := load.NewTotal(load.SumOf)
	s := engine.Map(engine.From(p, "events", src), "throw", th.pass)
	sums := engine.Process(engine.KeyBy(s, load.KeyOf), "sum", th.summer)
	engine.To(sums, "discard", total)
	ended := make(chan struct{})
	var arming sync.WaitGroup
	arming.Go(func() { th.arm(w, p, ended) })
	err := p.Run(ctx)
	close(ended)
	arming.Wait()
	if err != nil {
		return result{}, err
	}
	count, sum, last := total.Result()
	if last.IsZero() {
		return result{}, errStopped
	}
	r := measured(o, w, last, p.Status())
	r.Recovery = th.measured()
	wantCount, wantSum := load.KeyedAnswer(o.records, o.keys)
	r.check(count, sum, wantCount, wantSum)
	r.OK = r.OK && r.Recovery != nil && p.Status().Restarts == 1
	return r, nil
}

// thrower fails once and measures what follows. Its times are nanoseconds after began; 0 = not yet.
type thrower struct {
	began  time.Time
	after  time.Duration // from a completed checkpoint to the throw
	armed  atomic.Bool
	thrown atomic.Int64
	first  atomic.Int64
	since  atomic.Int64 // from the last checkpoint to the throw
	tracks []track
}

// track is how far a split's records are made. One goroutine at a time writes it.
type track struct {
	_      [128]byte
	next   atomic.Int64
	target int64 // next at the throw, as this split sees it; 0 = not thrown
	back   bool  // the split was read again from an earlier place
	caught atomic.Int64
	_      [128]byte
}

func (t *thrower) now() int64 { return int64(time.Since(t.began)) }

// arm waits for the half, then for a checkpoint, then for the time set, and lets the next record fail.
func (t *thrower) arm(w *load.Watch, p *engine.Pipeline, ended <-chan struct{}) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
		}
		_, half := w.Times()
		at := p.Status().Epochs.LastAt
		if half.IsZero() || !at.After(half) || time.Since(at) < t.after {
			continue
		}
		t.since.Store(int64(time.Since(at)))
		t.armed.Store(true)
		return
	}
}

// pass lets every record through, but for one.
func (t *thrower) pass(e load.Event) load.Event {
	if t.armed.Load() && t.armed.CompareAndSwap(true, false) {
		t.thrown.Store(t.now())
		panic("thrown on purpose, once")
	}
	return e
}

// tracking notes how far fill has come, and when it is past the failure again.
func (t *thrower) tracking(fill load.Filler) load.Filler {
	return func(from, step int64, n int, out *source.Batch[load.Event]) {
		fill(from, step, n, out)
		tr := &t.tracks[from%step]
		before := tr.next.Swap(from + int64(n)*step)
		if t.thrown.Load() == 0 || tr.caught.Load() != 0 {
			return
		}
		if from < before {
			tr.back, tr.target = true, before
		}
		if tr.back && from+int64(n)*step >= tr.target {
			tr.caught.Store(t.now())
		}
	}
}

// summer makes the keyed operator; one made after the throw notes its first record.
func (t *thrower) summer() *watchedSummer {
	return &watchedSummer{t: t, told: t.thrown.Load() == 0}
}

// watchedSummer is load.Summer that tells of its first record.
type watchedSummer struct {
	load.Summer
	t    *thrower
	told bool
}

func (s *watchedSummer) Process(ctx *engine.Ctx[int64], e load.Event, out *engine.Out[load.Sum]) error {
	if !s.told {
		s.told = true
		s.t.first.CompareAndSwap(0, s.t.now())
	}
	return s.Summer.Process(ctx, e, out)
}

// measured is nil if nothing was thrown or the job didn't come past it.
func (t *thrower) measured() *recovery {
	thrown, caught := t.thrown.Load(), int64(0)
	for i := range t.tracks {
		at := t.tracks[i].caught.Load()
		if at == 0 {
			return nil
		}
		caught = max(caught, at)
	}
	if thrown == 0 || t.first.Load() == 0 {
		return nil
	}
	ms := func(d int64) float64 { return millis(time.Duration(d)) }
	return &recovery{First: ms(t.first.Load() - thrown), CaughtUp: ms(caught - thrown), After: ms(t.since.Load())}
}
