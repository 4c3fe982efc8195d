package engine_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/engine/store"
)

type slideAcc struct{ N, Sum int64 }

// sliding builds a job that counts and adds up in sliding windows; trip is called for each record.
func sliding(cfg engine.Config, w engine.Sliding, delay time.Duration, n int64, db *enginetest.Tx[keyCount], trip func() error) *engine.Pipeline {
	p := engine.New(cfg)
	s := engine.From(p, "numbers", gen.Source[event]{Make: makeEvent, Count: n, Splits: 4, PerSecond: 100_000})
	s = engine.TryMap(s, "trip", func(e event) (event, error) { return e, trip() })
	timed := s.EventTime(func(e event) time.Time { return e.At }, engine.Watermarks{Delay: delay})
	win := engine.Slide(engine.KeyBy(timed, func(e event) int64 { return e.Key }), "count", w)
	engine.ToTx(engine.AggregateSliding(win,
		func(a *slideAcc, e event) { a.N++; a.Sum += e.Value },
		func(into, from *slideAcc) { into.N += from.N; into.Sum += from.Sum },
		func(k int64, sp engine.Span, a *slideAcc) keyCount {
			if sp.End.Sub(sp.Start) != w.Size {
				panic("a window of another size")
			}
			return keyCount{k, sp.Start.UnixMilli(), a.N, a.Sum}
		}), "out", db)
	return p
}

// wantSliding is the reference: every record in every window it belongs to.
func wantSliding(w engine.Sliding, n int64) map[[2]int64][2]int64 {
	want := map[[2]int64][2]int64{}
	for seq := range n {
		e := makeEvent(seq)
		first := e.At.Add(-w.Offset).Truncate(w.Every).Add(w.Offset)
		for start := first; start.Add(w.Size).After(e.At); start = start.Add(-w.Every) {
			k := [2]int64{e.Key, start.UnixMilli()}
			want[k] = [2]int64{want[k][0] + 1, want[k][1] + e.Value}
		}
	}
	return want
}

// checkSliding compares what each window came to last; a window may come again only if that is allowed.
func checkSliding(t *testing.T, got []keyCount, want map[[2]int64][2]int64, again bool) {
	t.Helper()
	have := map[[2]int64][2]int64{}
	for _, g := range got {
		k := [2]int64{g.Key, g.Start}
		old, twice := have[k]
		if twice && !again {
			t.Errorf("window %v was emitted twice: %v and %v", k, old, g)
		}
		if g.Count > old[0] {
			have[k] = [2]int64{g.Count, g.Sum}
		}
	}
	if maps.Equal(have, want) {
		return
	}
	for k, v := range want {
		if have[k] != v {
			t.Errorf("window %v came to %v, want %v; %d windows, want %d", k, have[k], v, len(have), len(want))
			return
		}
	}
	t.Errorf("%d windows, want %d", len(have), len(want))
}

// slides are few panes, many, and panes shorter than the step.
var slides = []engine.Sliding{
	{Size: 3 * time.Second, Every: time.Second},
	{Size: time.Second, Every: 40 * time.Millisecond, Offset: 10 * time.Millisecond},
	{Size: 700 * time.Millisecond, Every: 300 * time.Millisecond, Offset: 299 * time.Millisecond},
	{Size: 500 * time.Millisecond, Every: 500 * time.Millisecond},
}

func noTrip() error { return nil }

func TestSlidingWindowsAtAnyParallelism(t *testing.T) {
	const n = 8_000
	for _, w := range slides {
		for _, par := range []int{1, 2, 4} {
			t.Run(fmt.Sprintf("%v each %v x %d", w.Size, w.Every, par), func(t *testing.T) {
				db := enginetest.NewTx[keyCount]()
				cfg := engine.Config{Name: "slides", Dir: t.TempDir(), Parallelism: par, CheckpointEvery: 5 * time.Millisecond}
				if err := sliding(cfg, w, 200*time.Millisecond, n, db, noTrip).Run(t.Context()); err != nil {
					t.Fatal(err)
				}
				checkSliding(t, db.Rows(), wantSliding(w, n), false)
			})
		}
	}
}

func TestSlidingLateRecordsReachTheirWindows(t *testing.T) {
	const n = 6_000
	for _, w := range slides {
		w.Lateness = 400 * time.Millisecond
		for _, par := range []int{1, 2} {
			t.Run(fmt.Sprintf("%v each %v x %d", w.Size, w.Every, par), func(t *testing.T) {
				db := enginetest.NewTx[keyCount]()
				cfg := engine.Config{Name: "lates", Dir: t.TempDir(), Parallelism: par, CheckpointEvery: 5 * time.Millisecond, BatchSize: 16}
				if err := sliding(cfg, w, 0, n, db, noTrip).Run(t.Context()); err != nil {
					t.Fatal(err)
				}
				checkSliding(t, db.Rows(), wantSliding(w, n), true)
			})
		}
	}
}

func TestSlidingWindowsAcrossRestartsAndRescales(t *testing.T) {
	const n = 12_000
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for _, w := range slides[:3] {
		db := enginetest.NewTx[keyCount]()
		dir := t.TempDir()
		stops := 0
		var panics atomic.Int64
		for done := false; !done; stops++ {
			ctx, cancel := context.WithCancel(t.Context())
			var read atomic.Int64
			stopAt, panicAt := 500+rnd.Int64N(8000), 500+rnd.Int64N(4000)
			cfg := engine.Config{
				Name: "restarts", Dir: dir, Parallelism: 1 + rnd.IntN(4), CheckpointEvery: 3 * time.Millisecond, Restart: engine.Restart{Delay: -1, Attempts: 100},
			}
			p := sliding(cfg, w, 200*time.Millisecond, n, db, func() error {
				switch read.Add(1) {
				case stopAt:
					cancel()
				case panicAt:
					panics.Add(1)
					panic("planted")
				}
				return nil
			})
			err := p.Run(ctx)
			if err != nil && !strings.Contains(err.Error(), "planted") { // that is how a job ends that fails while it stops
				t.Fatal(err)
			}
			done = ctx.Err() == nil
			cancel()
			if stops > 100 {
				t.Fatal("the job doesn't get to its end")
			}
		}
		if panics.Load() == 0 {
			t.Errorf("%v: nothing failed", w)
		}
		checkSliding(t, db.Rows(), wantSliding(w, n), false)
	}
}

// aheadStore says of the newest epoch that the first task of an operator had got further by some event time, as the epoch of a
// job may whose barriers had overtaken records.
type aheadStore struct {
	store.Store
	op   string
	by   time.Duration
	from time.Time // event time that the task had reached
}

func (s *aheadStore) Latest() (*store.Record, error) {
	r, err := s.Store.Latest()
	if err == nil && r != nil && s.from.IsZero() && len(r.Operators[s.op].Tasks) > 0 {
		t := &r.Operators[s.op].Tasks[0]
		s.from = time.UnixMicro(t.Watermark)
		t.Watermark += s.by.Microseconds()
	}
	return r, err
}

// TestSlidingWindowsOfGroupsAhead: key groups that had emitted more before a rescale than others are left out until the others
// have caught up. Their later windows hold all the same what was in panes that they share with windows left out.
func TestSlidingWindowsOfGroupsAhead(t *testing.T) {
	const n = 8_000
	w, db := slides[1], enginetest.NewTx[keyCount]()
	cfg := engine.Config{Name: "ahead", Dir: t.TempDir(), Parallelism: 2, CheckpointEvery: 5 * time.Millisecond}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var read atomic.Int64
	var p *engine.Pipeline
	p = sliding(cfg, w, 200*time.Millisecond, n, db, func() error {
		if read.Add(1) < n/2 {
			return nil
		}
		for cancel(); p.Status().Phase == "running"; { // input doesn't end before the job has heard that it's to stop
			runtime.Gosched()
		}
		return nil
	})
	must(t, p.Run(ctx))
	ahead := &aheadStore{op: "count", by: 400 * time.Millisecond}
	cfg.Parallelism = 1
	cfg.Store = func(o store.Options) (_ store.Store, err error) {
		ahead.Store, err = store.Open(cfg.Dir, o)
		return ahead, err
	}
	must(t, sliding(cfg, w, 200*time.Millisecond, n, db, noTrip).Run(t.Context()))
	want := wantSliding(w, n)
	for k := range leftOut(db.Rows(), want) {
		if end := time.UnixMilli(k[1]).Add(w.Size); !end.After(ahead.from) || end.After(ahead.from.Add(ahead.by+time.Microsecond)) {
			t.Errorf("window %v is missing", k)
		}
		delete(want, k)
	}
	if len(want) == len(wantSliding(w, n)) {
		t.Errorf("all windows were there: no group was ahead by a window; %d of %d records were read before the stop", read.Load(), n)
	}
	checkSliding(t, db.Rows(), want, false)
}

// leftOut is what is wanted and not there.
func leftOut(got []keyCount, want map[[2]int64][2]int64) map[[2]int64][2]int64 {
	out := maps.Clone(want)
	for _, g := range got {
		delete(out, [2]int64{g.Key, g.Start})
	}
	return out
}

func TestSlidingLateStream(t *testing.T) {
	p := engine.New(engine.Config{Name: "late", Parallelism: 1, BatchSize: 1})
	s := engine.From(p, "in", scripted(map[string][]stamped{"a": {
		{"x", 1}, {"x", 12}, {"x", 13}, {"x", 4}, {"x", 30}, {"w", 31}, {"x", 14}, {"x", 32},
	}}, nil)).EventTime(at, engine.Watermarks{})
	win := engine.Slide(engine.KeyBy(s, func(s stamped) string { return s.K }), "count", engine.Sliding{Size: 10 * time.Second, Every: 5 * time.Second})
	var late enginetest.Collect[stamped]
	var out enginetest.Collect[string]
	engine.To(win.Late(), "late", &late)
	engine.To(engine.AggregateSliding(win, func(n *int, _ stamped) { *n++ }, func(into, from *int) { *into += *from },
		func(k string, sp engine.Span, n *int) string { return fmt.Sprintf("%s %d %d", k, sp.Start.Unix(), *n) }), "out", &out)
	run(t, p)
	// 4 is late for all its windows, [-5,5) and [0,10), and so is 14, for [5,15) and [10,20).
	if got := fmt.Sprint(late.Rows()); got != "[{x 4} {x 14}]" {
		t.Errorf("late: %v", got)
	}
	got := map[string]int{}
	for _, r := range out.Rows() {
		got[r]++
	}
	want := map[string]int{"x -5 1": 1, "x 0 1": 1, "x 5 2": 1, "x 10 2": 1, "x 25 2": 1, "w 25 1": 1, "x 30 2": 1, "w 30 1": 1}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestSlidingMistakes(t *testing.T) {
	p := engine.New(engine.Config{Name: "mistakes"})
	k := engine.KeyBy(engine.From(p, "in", scripted(nil, nil)), func(s stamped) string { return s.K })
	engine.Slide(k, "gaps", engine.Sliding{Size: time.Second, Every: 2 * time.Second})
	engine.Slide(k, "fine", engine.Sliding{Size: time.Hour, Every: time.Minute + time.Microsecond})
	err := p.Check()
	if err == nil {
		t.Fatal("nothing was found wrong")
	}
	for _, want := range []string{"sliding_test.go:", `"gaps": Every must`, `"fine": Size 1h0m0s`, `"gaps" has no AggregateSliding`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error doesn't say %q:\n%v", want, errors.Unwrap(err))
		}
	}
}
