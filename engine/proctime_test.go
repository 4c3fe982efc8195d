package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/state"
)

// order is what a record has a waker do: set or cancel a timer that long after the test began, or set one that sets itself
// again a millisecond later, for ever.
type order struct {
	Key   string
	Do    string
	After time.Duration
}

// woken is a timer that has fired.
type woken struct {
	Key      string
	At, Late time.Duration // after the test began; after the timer's time
	N        int           // times this key has fired
	Timed    bool
	Epoch    uint64 // what Restored says
	Restored bool
}

func (w woken) String() string { return fmt.Sprintf("%s %v", w.Key, w.At) }

type waker struct {
	setup *engine.Setup[string]
	base  time.Time
	n     state.Value[int]
	again state.Value[bool]
}

func (w *waker) Open(s *engine.Setup[string]) error {
	w.setup, w.n, w.again = s, state.NewValue[int](s, "n"), state.NewValue[bool](s, "again")
	return nil
}

func (w *waker) Process(ctx *engine.Ctx[string], o order, _ *engine.Out[woken]) error {
	switch o.Do {
	case "cancel":
		ctx.CancelProcessing(w.base.Add(o.After))
	case "again":
		w.again.Set(true)
		fallthrough
	default:
		ctx.AtProcessing(w.base.Add(o.After))
	}
	return nil
}

func (w *waker) OnProcessingTimer(ctx *engine.Ctx[string], at time.Time, out *engine.Out[woken]) error {
	*w.n.Ref()++
	n, _ := w.n.Get()
	r := woken{Key: ctx.Key(), At: at.Sub(w.base), Late: time.Since(at), N: n}
	_, r.Timed = ctx.Time()
	r.Epoch, r.Restored = w.setup.Restored()
	out.Emit(r)
	if again, _ := w.again.Get(); again {
		ctx.AtProcessing(at.Add(time.Millisecond))
	}
	return nil
}

// timedToo finds out whether a record has an event time.
type timedToo struct{}

func (timedToo) Open(*engine.Setup[string]) error { return nil }

func (timedToo) Process(ctx *engine.Ctx[string], w woken, out *engine.Out[woken]) error {
	_, timed := ctx.Time()
	w.Timed = w.Timed || timed
	out.Emit(w)
	return nil
}

// wakeJob has a waker do what the steps say.
func wakeJob(cfg engine.Config, base time.Time, in *enginetest.Script[order], out *enginetest.Tx[woken]) *engine.Pipeline {
	cfg.Name = "wake"
	p := engine.New(cfg)
	s := engine.From(p, "in", in).EventTime(func(order) time.Time { return base }, engine.Watermarks{})
	fired := engine.Process(engine.KeyBy(s, func(o order) string { return o.Key }), "wake", func() *waker { return &waker{base: base} })
	engine.ToTx(engine.Process(engine.KeyBy(fired, func(w woken) string { return w.Key }), "look", func() timedToo { return timedToo{} }), "out", out)
	return p
}

func ordersThenSilence(os ...order) *enginetest.Script[order] {
	return &enginetest.Script[order]{Splits: map[string][]enginetest.Step[order]{"a": append(enginetest.Recs(os...), enginetest.Stay[order]())}}
}

// runFor runs a job and suspends it.
func runFor(t *testing.T, p *engine.Pipeline, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	must(t, p.Run(ctx))
}

func TestProcessingTimersFireAndAreCancelled(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		base, out := time.Now(), enginetest.NewTx[woken]()
		orders := []order{
			{"x", "set", 100 * time.Millisecond},
			{"x", "set", 100 * time.Millisecond},
			{"y", "set", 200 * time.Millisecond},
			{"y", "cancel", 200 * time.Millisecond},
			{"y", "set", 300 * time.Millisecond},
			{"past", "set", -time.Hour},
			{"later", "set", time.Hour},
		}
		many := 1000 // more than fire at once
		for i := range many {
			orders = append(orders, order{fmt.Sprint("many", i), "set", 500 * time.Millisecond})
		}
		runFor(t, wakeJob(engine.Config{Dir: t.TempDir(), Parallelism: 2}, base, ordersThenSilence(orders...), out), time.Second)
		var got []string
		for _, r := range out.Rows() {
			if r.Timed || r.N != 1 || r.Key != "past" && r.Late > 30*time.Millisecond {
				t.Errorf("%+v", r)
			}
			if strings.HasPrefix(r.Key, "many") {
				many--
				continue
			}
			got = append(got, r.String())
		}
		slices.Sort(got)
		if want := []string{"past -1h0m0s", "x 100ms", "y 300ms"}; !slices.Equal(got, want) || many != 0 {
			t.Errorf("got %v, want %v; %d of the many are missing", got, want, many)
		}
	})
}

func TestProcessingTimersAreRestored(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		base, out := time.Now(), enginetest.NewTx[woken]()
		var orders []order
		var want []string
		for k := range 10 {
			for _, at := range []time.Duration{500 * time.Millisecond, 1500 * time.Millisecond, 20 * time.Second, 30 * time.Second} {
				orders = append(orders, order{fmt.Sprint(k), "set", at})
				want = append(want, fmt.Sprint(k, " ", at))
			}
		}
		in := ordersThenSilence(orders...)
		cfg := engine.Config{Dir: t.TempDir(), Parallelism: 2, CheckpointEvery: 100 * time.Millisecond}
		runFor(t, wakeJob(cfg, base, in, out), time.Second)
		time.Sleep(10 * time.Second)
		cfg.Parallelism = 3
		began := time.Since(base)
		p := wakeJob(cfg, base, in, out)
		end := running(t, p)
		time.Sleep(14 * time.Second)
		must(t, p.Rescale(t.Context(), 5))
		time.Sleep(10 * time.Second)
		p.Stop(engine.Suspend)
		must(t, end())
		var got []string
		for _, r := range out.Rows() {
			got = append(got, r.String())
			fresh, restarted := r.At < time.Second, r.At > time.Second && r.At < 10*time.Second
			if r.Restored == fresh || (r.Epoch == 0) != fresh {
				t.Errorf("restored is wrong: %+v", r)
			}
			if late := r.Late > 30*time.Millisecond; late != restarted || r.At+r.Late > began+50*time.Millisecond && restarted {
				t.Errorf("a restored timer isn't fired at once, or another one late: %+v", r)
			}
		}
		slices.Sort(got)
		if slices.Sort(want); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// TestRestoredAfterAFailure: a restart from nothing is none from a checkpoint.
func TestRestoredAfterAFailure(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		base, out := time.Now(), enginetest.NewTx[woken]()
		in := &enginetest.Script[order]{Splits: map[string][]enginetest.Step[order]{"a": {
			enginetest.Crash[order](), enginetest.Rec(order{"x", "set", 0}), enginetest.Wait[order](time.Second),
			enginetest.Crash[order](), enginetest.Rec(order{"y", "set", 0}), enginetest.Wait[order](time.Second),
		}}}
		run(t, wakeJob(engine.Config{Dir: t.TempDir(), CheckpointEvery: 100 * time.Millisecond, Parallelism: 1}, base, in, out))
		rows := out.Rows()
		if len(rows) != 2 || rows[0].Restored || !rows[1].Restored || rows[1].Epoch == 0 {
			t.Errorf("%+v", rows)
		}
	})
}

// TestNoProcessingTimerFiresAfterAStop has a timer fire each millisecond, and a store that doesn't take the last checkpoint for a while.
func TestNoProcessingTimerFiresAfterAStop(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		base, out := time.Now(), enginetest.NewTx[woken]()
		var full atomic.Bool
		dir := t.TempDir()
		job := func() *engine.Pipeline {
			return wakeJob(engine.Config{
				CheckpointEvery: -1, TolerateFailures: 1000, Parallelism: 1,
				Store: func(o store.Options) (store.Store, error) {
					d, err := store.Open(dir, o)
					return refusing{d, &full, errors.New("planted")}, err
				},
			}, base, ordersThenSilence(order{"x", "again", 0}), out)
		}
		var stops []time.Duration
		for range 3 {
			p := job()
			end := running(t, p)
			time.Sleep(500 * time.Millisecond)
			full.Store(true)
			stops = append(stops, time.Since(base))
			p.Stop(engine.Suspend)
			time.Sleep(2 * time.Second)
			full.Store(false)
			must(t, end())
			stops = append(stops, time.Since(base))
		}
		rows := out.Rows()
		for i, r := range rows {
			if r.N != i+1 || r.At != time.Duration(i)*time.Millisecond {
				t.Fatalf("row %d is %+v", i, r)
			}
			for s := 0; s < len(stops); s += 2 {
				if at := r.At + r.Late; at > stops[s]+20*time.Millisecond && at < stops[s+1] {
					t.Fatalf("stopped from %v to %v, and there is %+v", stops[s], stops[s+1], r)
				}
			}
		}
		if len(rows) < 3000 {
			t.Errorf("%d rows", len(rows))
		}
	})
}

func TestADrainLeavesProcessingTimers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		base, out := time.Now(), enginetest.NewTx[woken]()
		var log strings.Builder
		cfg := engine.Config{Dir: t.TempDir(), Parallelism: 1, Log: slog.New(slog.NewTextHandler(&log, nil))}
		in := ordersThenSilence(order{"x", "set", time.Hour}, order{"y", "set", time.Hour})
		p := wakeJob(cfg, base, in, out)
		end := running(t, p)
		time.Sleep(time.Second)
		p.Stop(engine.Drain)
		must(t, end())
		if took := time.Since(base); took > 10*time.Second || len(out.Rows()) > 0 || !strings.Contains(log.String(), "left unfired") ||
			!strings.Contains(log.String(), "operator=wake timers=2") {
			t.Errorf("drained in %v, fired %v, log\n%s", took, out.Rows(), log.String())
		}
		time.Sleep(2 * time.Hour)
		runFor(t, wakeJob(cfg, base, in, out), time.Second)
		if got := out.Rows(); len(got) != 2 {
			t.Errorf("a run after the drain fired %v", got)
		}
	})
}

// unable sets a timer that it has no method for.
type unable struct{}

func (unable) Open(*engine.Setup[string]) error { return nil }

func (unable) Process(ctx *engine.Ctx[string], o order, _ *engine.Out[woken]) error {
	ctx.CancelProcessing(time.Now())
	ctx.AtProcessing(time.Now())
	return nil
}

func TestProcessingTimersNeedTheirMethod(t *testing.T) {
	p := engine.New(engine.Config{Name: "unable", Dir: t.TempDir(), Parallelism: 1})
	s := engine.From(p, "in", ordersThenSilence(order{"x", "set", 0}))
	engine.ToTx(engine.Process(engine.KeyBy(s, func(o order) string { return o.Key }), "cannot", func() unable { return unable{} }), "out", enginetest.NewTx[woken]())
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	wants(t, p.Run(ctx), fault.BadPipeline, "OnProcessingTimer", "operator cannot")
}
