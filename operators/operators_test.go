package operators_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/operators"
	"github.com/weirline/weirline/state"
)

// view and click are what the tests join.
type (
	view  struct{ Key, ID, At int64 } // At in milliseconds
	click struct{ Who, N, At int64 }
)

// pair is a view's and a click's number; -1 = none.
type pair struct{ View, Click int64 }

const disorder = 300 // ms

func mix(seq, salt int64) uint64 {
	z := uint64(seq)*0x9E3779B97F4A7C15 + uint64(salt)*0xBF58476D1CE4E5B9
	z = (z ^ z>>30) * 0x94D049BB133111EB
	return z ^ z>>31
}

func makeView(seq int64) view {
	h := mix(seq, 1)
	return view{int64(h % 53), seq, 1_000_000 + 2*seq - int64(h>>20%disorder)}
}

func makeClick(seq int64) click {
	h := mix(seq, 2)
	return click{int64(h % 61), seq, 1_000_000 + 3*seq - int64(h>>20%disorder)}
}

func viewKey(v view) int64   { return v.Key }
func clickKey(c click) int64 { return c.Who }

func pairOf(v *view, c *click) pair {
	p := pair{-1, -1}
	if v != nil {
		p.View = v.ID
	}
	if c != nil {
		p.Click = c.N
	}
	return p
}

const (
	views  = 4000
	clicks = 3000
)

type (
	viewsBy  = operators.Input[int64, view]
	clicksBy = operators.Input[int64, click]
)

// inputs makes the two streams; trip is called for each view.
func inputs(p *engine.Pipeline, trip func() error) (viewsBy, clicksBy) {
	vs := engine.From(p, "views", gen.Source[view]{Make: makeView, Count: views, Splits: 3, PerSecond: 40_000})
	vs = engine.TryMap(vs, "trip", func(v view) (view, error) { return v, trip() })
	cs := engine.From(p, "clicks", gen.Source[click]{Make: makeClick, Count: clicks, Splits: 2, PerSecond: 30_000})
	w := engine.Watermarks{Delay: disorder * time.Millisecond}
	return operators.By(vs.EventTime(func(v view) time.Time { return time.UnixMilli(v.At) }, w), viewKey),
		operators.By(cs.EventTime(func(c click) time.Time { return time.UnixMilli(c.At) }, w), clickKey)
}

// job is a pipeline under test and what it must come to.
type job struct {
	name  string
	build func(v viewsBy, c clicksBy) engine.Stream[pair]
	want  []pair
}

func sorted(ps []pair) []pair {
	return slices.SortedFunc(slices.Values(ps), func(a, b pair) int { return cmp.Or(cmp.Compare(a.View, b.View), cmp.Compare(a.Click, b.Click)) })
}

const window = 500 // ms

// joins are all joins, with references made of two nested loops.
func joins() []job {
	var inner, left, outer, near []pair
	paired := map[int64]bool{}
	for i := range int64(views) {
		v, found := makeView(i), false
		for k := range int64(clicks) {
			c := makeClick(k)
			if v.Key != c.Who {
				continue
			}
			if v.At/window == c.At/window {
				inner, found, paired[k] = append(inner, pair{i, k}), true, true
			}
			if d := c.At - v.At; d >= -40 && d <= 200 {
				near = append(near, pair{i, k})
			}
		}
		if !found {
			left = append(left, pair{i, -1})
		}
	}
	left = append(left, inner...)
	outer = slices.Clone(left)
	for k := range int64(clicks) {
		if !paired[k] {
			outer = append(outer, pair{-1, k})
		}
	}
	byWindow := func(join func(operators.Group[int64, view, click], func(pair))) func(viewsBy, clicksBy) engine.Stream[pair] {
		return func(v viewsBy, c clicksBy) engine.Stream[pair] {
			out, _ := operators.WindowJoin("join", v, c, engine.Tumbling{Size: window * time.Millisecond}, join)
			return out
		}
	}
	type group = operators.Group[int64, view, click]
	return []job{
		{"inner", byWindow(func(g group, emit func(pair)) {
			for v, c := range g.Inner() {
				emit(pairOf(v, c))
			}
		}), inner},
		{"left", byWindow(func(g group, emit func(pair)) {
			for v, c := range g.LeftOuter() {
				emit(pairOf(v, c))
			}
		}), left},
		{"outer", byWindow(func(g group, emit func(pair)) {
			for v, c := range g.Outer() {
				emit(pairOf(v, c))
			}
		}), outer},
		{"interval", func(v viewsBy, c clicksBy) engine.Stream[pair] {
			out, _ := operators.IntervalJoin("join", v, c, operators.Interval{Lower: -40 * time.Millisecond, Upper: 200 * time.Millisecond},
				func(v view, c click) pair { return pairOf(&v, &c) })
			return out
		}, near},
		{"counts", func(v viewsBy, c clicksBy) engine.Stream[pair] {
			return operators.CoProcess("counts", v, c, func() *counter { return &counter{} })
		}, wantCounts()},
	}
}

// counter counts both sides by key and emits at the end of time.
type counter struct{ n state.Value[pair] }

func (c *counter) Open(s *engine.Setup[int64]) error {
	c.n = state.NewValue[pair](s, "n")
	return nil
}

func (c *counter) ProcessLeft(ctx *engine.Ctx[int64], _ view, _ *engine.Out[pair]) error {
	c.n.Ref().View++
	ctx.At(time.Unix(1e10, 0))
	return nil
}

func (c *counter) ProcessRight(ctx *engine.Ctx[int64], _ click, _ *engine.Out[pair]) error {
	c.n.Ref().Click++
	ctx.At(time.Unix(1e10, 0))
	return nil
}

func (c *counter) OnTimer(_ *engine.Ctx[int64], _ time.Time, out *engine.Out[pair]) error {
	out.Emit(*c.n.Ref())
	return nil
}

func wantCounts() (out []pair) {
	byKey := map[int64]pair{}
	for i := range int64(views) {
		n := byKey[makeView(i).Key]
		n.View++
		byKey[makeView(i).Key] = n
	}
	for i := range int64(clicks) {
		n := byKey[makeClick(i).Who]
		n.Click++
		byKey[makeClick(i).Who] = n
	}
	for _, n := range byKey {
		out = append(out, n)
	}
	return out
}

func check(t *testing.T, got, want []pair) {
	t.Helper()
	if got, want = sorted(got), sorted(want); !slices.Equal(got, want) {
		t.Errorf("%d results, want %d, or other ones", len(got), len(want))
	}
}

func config(dir string, par int) engine.Config {
	return engine.Config{
		Name: "joins", Dir: dir, Parallelism: par, CheckpointEvery: 3 * time.Millisecond, Restart: engine.Restart{Delay: -1, Attempts: 100},
	}
}

func TestJoinsAtAnyParallelism(t *testing.T) {
	for _, j := range joins() {
		if len(j.want) < 50 {
			t.Fatalf("%s: only %d results expected", j.name, len(j.want))
		}
		for _, par := range []int{1, 2, 4} {
			t.Run(fmt.Sprintf("%s x %d", j.name, par), func(t *testing.T) {
				db := enginetest.NewTx[pair]()
				p := engine.New(config(t.TempDir(), par))
				engine.ToTx(j.build(inputs(p, func() error { return nil })), "out", db)
				if err := p.Run(t.Context()); err != nil {
					t.Fatal(err)
				}
				check(t, db.Rows(), j.want)
			})
		}
	}
}

func seeded(t *testing.T) *rand.Rand {
	s := rand.Uint64()
	if v, err := strconv.ParseUint(os.Getenv("WEIRLINE_SEED"), 10, 64); err == nil {
		s = v
	}
	t.Logf("WEIRLINE_SEED=%d", s)
	return rand.New(rand.NewPCG(s, 1))
}

func TestJoinsAcrossRestartsAndRescales(t *testing.T) {
	rnd := seeded(t)
	for _, j := range joins() {
		db := enginetest.NewTx[pair]()
		dir := t.TempDir()
		runs := 0
		for done := false; !done; runs++ {
			ctx, cancel := context.WithCancel(t.Context())
			var read atomic.Int64
			stopAt, panicAt := 300+rnd.Int64N(2500), 200+rnd.Int64N(1500)
			p := engine.New(config(dir, 1+rnd.IntN(4)))
			engine.ToTx(j.build(inputs(p, func() error {
				switch read.Add(1) {
				case stopAt:
					cancel()
				case panicAt:
					panic("planted")
				}
				return nil
			})), "out", db)
			err := p.Run(ctx)
			if err != nil && !strings.Contains(err.Error(), "planted") { // that is how a job ends that fails while it stops
				t.Fatal(err)
			}
			done = ctx.Err() == nil && err == nil
			cancel()
			if runs > 100 {
				t.Fatal("the job doesn't get to its end")
			}
		}
		if runs < 2 {
			t.Errorf("%s: the job was never stopped", j.name)
		}
		check(t, db.Rows(), j.want)
	}
}

// scripted is two inputs of one record a read, on one task. Before the view number wait all that can happen happens.
func scripted(p *engine.Pipeline, vs []view, wait int, cs []click) (viewsBy, clicksBy) {
	steps := slices.Insert(enginetest.Recs(vs...), wait, enginetest.Wait[view](time.Minute))
	v := &enginetest.Script[view]{Splits: map[string][]enginetest.Step[view]{"v": steps}}
	c := &enginetest.Script[click]{Splits: map[string][]enginetest.Step[click]{"c": enginetest.Recs(cs...)}}
	return operators.By(engine.From(p, "views", v).EventTime(func(v view) time.Time { return time.UnixMilli(v.At) }, engine.Watermarks{}), viewKey),
		operators.By(engine.From(p, "clicks", c).EventTime(func(c click) time.Time { return time.UnixMilli(c.At) }, engine.Watermarks{}), clickKey)
}

func TestLateRecordsOfJoins(t *testing.T) {
	for _, kind := range []string{"window", "interval"} {
		t.Run(kind, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) { testLate(t, kind) }) // so that waiting is deterministic
		})
	}
}

func testLate(t *testing.T, kind string) {
	vs := []view{{1, 0, 1000}, {1, 1, 9000}, {1, 2, 9001}, {1, 3, 1001}, {1, 4, 9002}} // the fourth is late
	cs := []click{{1, 0, 1000}, {1, 1, 9000}, {1, 2, 9001}}
	p := engine.New(engine.Config{Name: "late", Parallelism: 1, BatchSize: 1})
	v, c := scripted(p, vs, 3, cs)
	var out engine.Stream[pair]
	var late engine.Stream[operators.Either[view, click]]
	if kind == "window" {
		out, late = operators.WindowJoin("join", v, c, engine.Tumbling{Size: time.Second}, func(g operators.Group[int64, view, click], emit func(pair)) {
			for v, c := range g.Inner() {
				emit(pairOf(v, c))
			}
		})
	} else {
		out, late = operators.IntervalJoin("join", v, c, operators.Interval{}, func(v view, c click) pair { return pairOf(&v, &c) })
	}
	var lates enginetest.Collect[operators.Either[view, click]]
	var rows enginetest.Collect[pair]
	engine.To(out, "out", &rows)
	engine.To(late, "late", &lates)
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := lates.Rows()
	if len(got) != 1 || got[0].IsRight || got[0].Left != vs[3] {
		t.Errorf("%s: late are %+v", kind, got)
	}
	want := []pair{{0, 0}, {1, 1}, {2, 2}}
	if kind == "window" {
		want = []pair{{0, 0}, {1, 1}, {1, 2}, {2, 1}, {2, 2}, {4, 1}, {4, 2}}
	}
	check(t, rows.Rows(), want)
	var counted int64
	for _, task := range p.Status().Tasks {
		counted += task.Late
	}
	if counted != 1 {
		t.Errorf("%s: %d records are counted as late, want 1", kind, counted)
	}
}

func TestIntervalJoinWithoutTimeIsPoison(t *testing.T) {
	p := engine.New(engine.Config{Name: "untimed", Parallelism: 1})
	vs := engine.From(p, "views", gen.Source[view]{Make: makeView, Count: 1})
	cs := engine.From(p, "clicks", gen.Source[click]{Make: makeClick, Count: 1})
	out, _ := operators.IntervalJoin("join", operators.By(vs, viewKey), operators.By(cs, clickKey), operators.Interval{},
		func(v view, c click) pair { return pairOf(&v, &c) })
	engine.To(out, "out", &enginetest.Collect[pair]{})
	err := p.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no event time") {
		t.Errorf("got %v", err)
	}
}

func TestSplitGivesBackBoth(t *testing.T) {
	p := engine.New(engine.Config{Name: "split", Parallelism: 2})
	v := engine.From(p, "views", gen.Source[view]{Make: makeView, Count: views})
	c := engine.From(p, "clicks", gen.Source[click]{Make: makeClick, Count: clicks})
	vs, cs := operators.Split("split", operators.Both("both", v, c))
	var gotV enginetest.Collect[view]
	var gotC enginetest.Collect[click]
	engine.To(vs, "views-out", &gotV)
	engine.To(cs, "clicks-out", &gotC)
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	seenV, seenC := map[view]bool{}, map[click]bool{}
	for _, v := range gotV.Rows() {
		seenV[v] = v == makeView(v.ID)
	}
	for _, c := range gotC.Rows() {
		seenC[c] = c == makeClick(c.N)
	}
	if len(seenV) != views || len(seenC) != clicks || len(gotV.Rows()) != views || len(gotC.Rows()) != clicks {
		t.Errorf("%d views, %d clicks", len(gotV.Rows()), len(gotC.Rows()))
	}
}

// TestIntervalJoinForgets joins a long stream with itself and looks at how much is left in the state at its end.
func TestIntervalJoinForgets(t *testing.T) {
	const n = 5000
	p := engine.New(engine.Config{Name: "forgets", Dir: t.TempDir(), Parallelism: 1, CheckpointEvery: -1})
	src := gen.Source[view]{Make: func(seq int64) view { return view{1, seq, 1000 * seq} }, PerSecond: 50_000, Splits: 1}
	v := engine.Map(engine.From(p, "views", src), "stop", func(v view) view {
		if v.ID == n {
			go p.Stop(engine.Suspend)
		}
		return v
	}).EventTime(func(v view) time.Time { return time.UnixMilli(v.At) }, engine.Watermarks{})
	c := engine.Map(v, "clicks", func(v view) click { return click{1, v.ID, v.At} })
	out, _ := operators.IntervalJoin("join", operators.By(v, viewKey), operators.By(c, clickKey), operators.Interval{Lower: -20 * time.Second, Upper: 0},
		func(v view, c click) pair { return pairOf(&v, &c) })
	var rows enginetest.Collect[pair]
	engine.To(out, "out", &rows)
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen := int64(0)
	for _, r := range rows.Rows() {
		seen = max(seen, r.View)
	}
	// A view comes after 20 clicks, and at most the first views are before clicks.
	if got, want := int64(len(rows.Rows())), 21*(seen+1)-20*21/2; seen < n || got != want {
		t.Errorf("%d pairs of views up to %d, want %d", got, seen, want)
	}
	if bytes := p.Status().Epochs.LastBytes; bytes == 0 || bytes > 20_000 {
		t.Errorf("%d bytes of state are left of %d records, of which at most some hundreds are needed", bytes, 2*seen)
	}
}
