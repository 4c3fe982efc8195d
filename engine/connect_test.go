package engine_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/state"
)

// rate is a factor for keys of a class; the last one of a class holds.
type rate struct{ Class, Factor int64 }

func makeRate(seq int64) rate { return rate{seq % 7, seq * seq % 101} }

// rated adds up values by key and, at the end of time, emits them times the rate of the key's class.
type rated struct {
	sum   state.Value[int64]
	rates *state.Broadcast[int64, int64]
}

func (r *rated) Open(b *engine.Setup[int64]) error {
	r.sum = state.NewValue[int64](b, "sum")
	r.rates = state.NewBroadcast[int64, int64](b, "rates")
	return nil
}

func (r *rated) Process(ctx *engine.Ctx[int64], e event, _ *engine.Out[keyCount]) error {
	*r.sum.Ref() += e.Value
	ctx.At(epoch0.AddDate(100, 0, 0))
	return nil
}

func (r *rated) ProcessBroadcast(_ *engine.Moment, v rate, out *engine.Out[keyCount]) error {
	if v.Factor == 100 {
		return fmt.Errorf("factor %d", v.Factor)
	}
	r.rates.Put(v.Class, v.Factor)
	out.Emit(keyCount{Key: -1, Count: 1})
	return nil
}

func (r *rated) OnTimer(ctx *engine.Ctx[int64], _ time.Time, out *engine.Out[keyCount]) error {
	factor, _ := r.rates.Get(ctx.Key() % 7)
	out.Emit(keyCount{Key: ctx.Key(), Sum: *r.sum.Ref() * factor})
	return nil
}

const (
	ratedValues = 12_000
	ratedRates  = 700
)

func ratedJob(cfg engine.Config, db *enginetest.Tx[keyCount], trip func() error) *engine.Pipeline {
	p := engine.New(cfg)
	s := engine.From(p, "numbers", gen.Source[event]{Make: makeEvent, Count: ratedValues, Splits: 4, PerSecond: 120_000})
	s = engine.TryMap(s, "trip", func(e event) (event, error) { return e, trip() })
	timed := s.EventTime(func(e event) time.Time { return e.At }, engine.Watermarks{Delay: time.Second})
	rates := engine.From(p, "rates", gen.Source[rate]{Make: makeRate, Count: ratedRates, PerSecond: 7_000}).Parallel(1)
	out := engine.Connect(engine.KeyBy(timed, func(e event) int64 { return e.Key }), rates, "rate", func() *rated { return &rated{} })
	engine.ToTx(out, "out", db)
	return p
}

// checkRated compares the sums of all keys; told is how many rates all tasks together were told of, 0 = any number.
func checkRated(t *testing.T, rows []keyCount, told int64) {
	t.Helper()
	rates, want := map[int64]int64{}, map[int64]int64{}
	for seq := range int64(ratedRates) {
		if r := makeRate(seq); r.Factor != 100 {
			rates[r.Class] = r.Factor
		}
	}
	for seq := range int64(ratedValues) {
		e := makeEvent(seq)
		want[e.Key] += e.Value * rates[e.Key%7]
	}
	got := map[int64]int64{}
	n := int64(0)
	for _, r := range rows {
		if r.Key < 0 {
			n++
			continue
		}
		if _, twice := got[r.Key]; twice {
			t.Errorf("key %d was emitted twice", r.Key)
		}
		got[r.Key] = r.Sum
	}
	if !maps.Equal(got, want) {
		t.Errorf("%d keys, want %d, or other sums", len(got), len(want))
	}
	if told > 0 && n != told {
		t.Errorf("tasks were told of %d rates, want %d", n, told)
	}
}

// goodRates is how many rates a task takes.
func goodRates() (n int64) {
	for seq := range int64(ratedRates) {
		if makeRate(seq).Factor != 100 {
			n++
		}
	}
	return n
}

// skipping is the settings for a job with bad records in it.
func skipping(cfg engine.Config) engine.Config {
	cfg.Poison = engine.Poison{Policy: engine.PoisonSkip, Budget: -1}
	cfg.Restart = engine.Restart{Delay: -1, Attempts: 100}
	return cfg
}

func TestConnectAtAnyParallelism(t *testing.T) {
	for _, par := range []int{1, 2, 4} {
		db := enginetest.NewTx[keyCount]()
		cfg := skipping(engine.Config{Name: "rated", Dir: t.TempDir(), Parallelism: par, CheckpointEvery: 3 * time.Millisecond})
		p := ratedJob(cfg, db, noTrip)
		if err := p.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		checkRated(t, db.Rows(), goodRates()*int64(par))
	}
}

func TestConnectAcrossRestartsAndRescales(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	db := enginetest.NewTx[keyCount]()
	dir := t.TempDir()
	var log logged
	runs := 0
	for done := false; !done; runs++ {
		ctx, cancel := context.WithCancel(t.Context())
		var read atomic.Int64
		stopAt, panicAt := 300+rnd.Int64N(6000), 300+rnd.Int64N(3000)
		cfg := skipping(engine.Config{
			Name: "rated", Dir: dir, Parallelism: 1 + rnd.IntN(4), CheckpointEvery: 2 * time.Millisecond, Log: slog.New(slog.NewTextHandler(&log, nil)),
		})
		err := ratedJob(cfg, db, func() error {
			switch read.Add(1) {
			case stopAt:
				cancel()
			case panicAt:
				panic("planted")
			}
			return nil
		}).Run(ctx)
		if err != nil && !strings.Contains(err.Error(), "planted") {
			t.Fatal(err)
		}
		done = ctx.Err() == nil && err == nil
		cancel()
		if runs > 100 {
			t.Fatal("the job doesn't get to its end")
		}
	}
	if runs < 2 {
		t.Error("the job was never stopped")
	}
	checkRated(t, db.Rows(), 0)
	if strings.Contains(log.b.String(), "not the same") {
		t.Errorf("the tasks' rates differed at a checkpoint:\n%s", log.b.String())
	}
}

func TestBroadcastReachesAllTasks(t *testing.T) {
	for _, par := range []int{1, 3} {
		p := engine.New(engine.Config{Name: "all", Parallelism: par, BatchSize: 7})
		s := engine.From(p, "numbers", gen.Source[int64]{Make: func(seq int64) int64 { return seq }, Count: 1000, Splits: 1}).Parallel(1)
		var out enginetest.Collect[int64]
		// In place: if the receivers shared batches, some numbers would be doubled twice.
		engine.To(engine.Map(s.Broadcast(), "double", func(n int64) int64 { return 2 * n }), "out", &out)
		run(t, p)
		var want []int64
		for i := range int64(1000) {
			for range par {
				want = append(want, 2*i)
			}
		}
		if got := slices.Sorted(slices.Values(out.Rows())); !slices.Equal(got, want) {
			t.Errorf("parallelism %d: %d records, want each of 1000 %d times, doubled", par, len(got), par)
		}
		if l := p.Plan().Links[0]; l.From != "numbers" || l.Kind != "broadcast" {
			t.Errorf("the plan has %+v", l)
		}
	}
}

// clockless emits what time it is when it is told something.
type clockless struct{}

func (clockless) Open(*engine.Setup[string]) error { return nil }
func (clockless) Process(*engine.Ctx[string], stamped, *engine.Out[string]) error {
	return nil
}

func (clockless) ProcessBroadcast(m *engine.Moment, v int, out *engine.Out[string]) error {
	_, timed := m.Time()
	at, ok := m.Watermark()
	out.Emit(fmt.Sprint(v, " ", timed, " ", ok, " ", at.Unix()))
	return nil
}

// TestBroadcastHoldsNoClock has windows close although the broadcast stream has no event time and never ends.
func TestBroadcastHoldsNoClock(t *testing.T) {
	bubble.Test(t, testNoClock) // so that waiting is deterministic
}

func testNoClock(t *testing.T) {
	p := engine.New(engine.Config{Name: "held", Parallelism: 2, BatchSize: 1})
	in := scripted(map[string][]stamped{"a": {{"x", 5}, {"x", 100}}}, map[string]bool{"a": true})
	told := &enginetest.Script[int]{Splits: map[string][]enginetest.Step[int]{"t": {enginetest.Wait[int](time.Minute), enginetest.Rec(1), enginetest.Stay[int]()}}}
	s := engine.From(p, "in", in).EventTime(at, engine.Watermarks{})
	out := engine.Connect(engine.KeyBy(s, func(s stamped) string { return s.K }), engine.From(p, "told", told), "connect", func() clockless { return clockless{} })
	win := engine.Window(engine.KeyBy(out, func(s string) string { return s }), "seen", engine.Tumbling{Size: time.Second})
	var late enginetest.Collect[string]
	var rows enginetest.Collect[string]
	engine.To(win.Late(), "late", &late)
	engine.To(engine.Aggregate(win, func(n *int, _ string) { *n++ }, func(k string, _ engine.Span, n *int) string { return fmt.Sprint(k, " x ", *n) }), "out", &rows)
	stop := time.AfterFunc(time.Hour, func() { p.Stop(engine.Drain) })
	defer stop.Stop()
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Both tasks are told when the watermark is before second 100; what they say then is in time for its window.
	if got := rows.Rows(); !slices.Equal(got, []string{"1 false true 99 x 2"}) || len(late.Rows()) > 0 {
		t.Errorf("got %q, late %q", got, late.Rows())
	}
}
