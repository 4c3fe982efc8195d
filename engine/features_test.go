package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/hybrid"
	"github.com/weirline/weirline/state"
)

type stamped struct {
	K  string
	At int64 // seconds
}

// scripted reads the given records split by split, one record a read, so that the clock moves after each; a split that is
// open doesn't end.
func scripted(splits map[string][]stamped, open map[string]bool) *enginetest.Script[stamped] {
	s := &enginetest.Script[stamped]{Splits: map[string][]enginetest.Step[stamped]{}}
	for name, rs := range splits {
		s.Splits[name] = enginetest.Recs(rs...)
		if open[name] {
			s.Splits[name] = append(s.Splits[name], enginetest.Stay[stamped]())
		}
	}
	return s
}

func at(s stamped) time.Time { return time.Unix(s.At, 0) }

func countByKey(s engine.Stream[stamped], w engine.Tumbling) (engine.Windowed[string, stamped], engine.Stream[string]) {
	win := engine.Window(engine.KeyBy(s, func(s stamped) string { return s.K }), "count", w)
	return win, engine.Aggregate(win, func(n *int, _ stamped) { *n++ },
		func(k string, sp engine.Span, n *int) string { return fmt.Sprintf("%s %d %d", k, sp.Start.Unix(), *n) })
}

func run(t *testing.T, p *engine.Pipeline) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := p.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatal("the job didn't end by itself")
	}
}

func TestLateRecordsAndLateness(t *testing.T) {
	p := engine.New(engine.Config{Name: "late", Parallelism: 1, BatchSize: 1})
	s := engine.From(p, "in", scripted(map[string][]stamped{"a": {
		{"x", 1}, {"x", 12}, {"x", 14}, {"x", 3}, {"x", 30}, {"w", 30}, {"x", 2}, {"x", 31},
	}}, nil)).EventTime(at, engine.Watermarks{})
	win, res := countByKey(s, engine.Tumbling{Size: 10 * time.Second, Lateness: 10 * time.Second})
	var out enginetest.Collect[string]
	var late enginetest.Collect[stamped]
	engine.To(res, "out", &out)
	engine.To(win.Late(), "late", &late)
	run(t, p)
	got := slices.Sorted(slices.Values(out.Rows()))
	if want := []string{"w 30 1", "x 0 1", "x 0 2", "x 10 2", "x 30 2"}; !slices.Equal(got, want) {
		t.Errorf("results: %v", out.Rows())
	}
	if want := []stamped{{"x", 2}}; !slices.Equal(late.Rows(), want) {
		t.Errorf("late: %v", late.Rows())
	}
}

func TestUnstartedSplitsHoldTheClock(t *testing.T) {
	// One reader takes the splits one after another; the second holds earlier records than the first has ended with.
	splits := map[string][]stamped{
		"a": {{"x", 5}, {"x", 500}},
		"b": {{"x", 6}, {"x", 400}},
		"c": {{"x", 7}, {"x", 300}},
	}
	for _, par := range []int{1, 2} {
		p := engine.New(engine.Config{Name: "hold", Parallelism: par, BatchSize: 1})
		s := engine.From(p, "in", scripted(splits, nil)).EventTime(at, engine.Watermarks{})
		win, res := countByKey(s, engine.Tumbling{Size: 10 * time.Second})
		var out enginetest.Collect[string]
		var late enginetest.Collect[stamped]
		engine.To(res, "out", &out)
		engine.To(win.Late(), "late", &late)
		run(t, p)
		got := slices.Sorted(slices.Values(out.Rows()))
		if want := []string{"x 0 3", "x 300 1", "x 400 1", "x 500 1"}; !slices.Equal(got, want) || len(late.Rows()) > 0 {
			t.Errorf("parallelism %d: %v, late %v", par, out.Rows(), late.Rows())
		}
	}
}

func TestIdleSplitsDontHoldTheClock(t *testing.T) {
	p := engine.New(engine.Config{Name: "idle", Parallelism: 2})
	src := scripted(map[string][]stamped{"a": {{"x", 5}, {"x", 100}}, "silent": {{"x", 6}}}, map[string]bool{"a": true, "silent": true})
	s := engine.From(p, "in", src).EventTime(at, engine.Watermarks{Idle: 50 * time.Millisecond})
	_, res := countByKey(s, engine.Tumbling{Size: 10 * time.Second})
	done := make(chan struct{})
	engine.To(engine.Map(res, "seen", func(r string) string {
		if r == "x 0 2" {
			close(done)
		}
		return r
	}), "out", &enginetest.Collect[string]{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	go func() {
		select {
		case <-done:
			p.Stop(engine.Suspend)
		case <-ctx.Done():
		}
	}()
	if err := p.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Error("the silent split held the window for ever")
	}
}

func TestUnionTakesTheLowestClock(t *testing.T) {
	p := engine.New(engine.Config{Name: "union", Parallelism: 2})
	w := engine.Watermarks{}
	a := engine.From(p, "a", scripted(map[string][]stamped{"a": {{"x", 1}, {"x", 900}}}, nil)).EventTime(at, w)
	b := engine.From(p, "b", scripted(map[string][]stamped{"b": {{"x", 2}, {"y", 3}}}, nil)).EventTime(at, w)
	u := engine.Union(a, b).Filter("all", func(stamped) bool { return true })
	_, res := countByKey(u, engine.Tumbling{Size: 10 * time.Second})
	var out enginetest.Collect[string]
	engine.To(res, "out", &out)
	run(t, p)
	got := slices.Sorted(slices.Values(out.Rows()))
	if want := []string{"x 0 2", "x 900 1", "y 0 1"}; !slices.Equal(got, want) {
		t.Errorf("got %v", out.Rows())
	}
}

// session emits a key's count when it has been silent for ten seconds.
type session struct {
	n    state.Value[int]
	seen state.Map[string, int]
	list state.List[int64]
}

func (s *session) Open(b *engine.Setup[string]) error {
	s.n = state.NewValue[int](b, "n")
	s.seen = state.NewMap[string, int](b, "seen")
	s.list = state.NewList[int64](b, "times")
	return nil
}

func (s *session) Process(ctx *engine.Ctx[string], v stamped, _ *engine.Out[string]) error {
	*s.n.Ref()++
	n, _ := s.seen.Get("all")
	s.seen.Put("all", n+1)
	s.list.Add(v.At)
	when, _ := ctx.Time()
	ctx.At(when.Add(10 * time.Second))
	return nil
}

func (s *session) OnTimer(ctx *engine.Ctx[string], at time.Time, out *engine.Out[string]) error {
	n, _ := s.n.Get()
	all, _ := s.seen.Get("all")
	times := 0
	last := int64(0)
	for _, v := range s.list.All() {
		times++
		last = max(last, v)
	}
	if time.Unix(last, 0).Add(10 * time.Second).After(at) {
		return nil // a later timer will come
	}
	out.Emit(fmt.Sprintf("%s %d %d %d", ctx.Key(), n, all, times))
	s.n.Clear()
	s.seen.Clear()
	s.list.Clear()
	return nil
}

func TestTimersAndStateKinds(t *testing.T) {
	p := engine.New(engine.Config{Name: "timers", Parallelism: 1, BatchSize: 1, Dir: t.TempDir(), CheckpointEvery: time.Millisecond})
	s := engine.From(p, "in", scripted(map[string][]stamped{"a": {
		{"x", 1}, {"x", 5}, {"y", 6}, {"w", 20}, {"w", 21}, {"x", 30}, {"y", 90}, {"z", 100},
	}}, nil)).EventTime(at, engine.Watermarks{})
	var out enginetest.Collect[string]
	engine.To(engine.Process(engine.KeyBy(s, func(s stamped) string { return s.K }), "session", func() *session { return &session{} }), "out", &out)
	run(t, p)
	got := slices.Sorted(slices.Values(out.Rows()))
	if want := []string{"w 2 2 2", "x 1 1 1", "x 2 2 2", "y 1 1 1", "y 1 1 1", "z 1 1 1"}; !slices.Equal(got, want) {
		t.Errorf("got %v", out.Rows())
	}
}

func TestBuildErrorsNameTheLine(t *testing.T) {
	p := engine.New(engine.Config{Name: "errors"})
	s := engine.From(p, "in", scripted(nil, nil))
	engine.KeyBy(s, func(s stamped) *int { return nil })
	engine.Map(s, "in", func(s stamped) int { return 0 })
	engine.Map(s, "1bad", func(s stamped) int { return 0 })
	engine.Window(engine.KeyBy(s, func(s stamped) float64 { return math.NaN() }), "half", engine.Tumbling{Size: time.Second})
	type hidden struct{ n int }
	w := engine.Window(engine.KeyBy(s, func(s stamped) string { return "" }), "drops", engine.Tumbling{Size: time.Second})
	engine.Aggregate(w, func(h *hidden, _ stamped) { h.n++ }, func(string, engine.Span, *hidden) int { return 0 })
	err := p.Check()
	if err == nil {
		t.Fatal("nothing was found wrong")
	}
	for _, want := range []string{"features_test.go:", "can't be a key", `"in" is taken`, `"1bad"`, `"half" has no Aggregate`, "unexported"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error doesn't say %q:\n%v", want, err)
		}
	}
}

func TestNaNKeysArePoison(t *testing.T) {
	p := engine.New(engine.Config{Name: "nan", Poison: engine.Poison{Policy: engine.PoisonDeadLetter}})
	s := engine.From(p, "in", scripted(map[string][]stamped{"a": {{"x", 1}, {"y", 2}}}, nil)).EventTime(at, engine.Watermarks{})
	w := engine.Window(engine.KeyBy(s, func(s stamped) float64 {
		if s.K == "x" {
			return math.NaN()
		}
		return 1
	}), "count", engine.Tumbling{Size: time.Second})
	var out enginetest.Collect[int]
	var dead enginetest.Collect[engine.DeadLetter]
	engine.To(engine.Aggregate(w, func(n *int, _ stamped) { *n++ }, func(_ float64, _ engine.Span, n *int) int { return *n }), "out", &out)
	p.DeadLetters(&dead)
	run(t, p)
	if len(dead.Rows()) != 1 || !strings.Contains(dead.Rows()[0].Cause, "NaN") || !slices.Equal(out.Rows(), []int{1}) {
		t.Errorf("dead letters %v, results %v", dead.Rows(), out.Rows())
	}
}

// tagger numbers the records of its task and remembers them in an operator list.
type tagger struct{ seen *state.OperatorList[int64] }

func (g *tagger) Open(b *engine.Setup[string]) error {
	g.seen = state.NewOperatorList[int64](b, "seen")
	return nil
}

func (g *tagger) Process(_ *engine.Ctx[string], v stamped, out *engine.Out[int]) error {
	g.seen.Add(v.At)
	out.Emit(len(g.seen.All()))
	return nil
}

func TestOperatorListsAreDealtOnRescale(t *testing.T) {
	dir := t.TempDir()
	src := scripted(map[string][]stamped{"a": {{"x", 1}, {"y", 2}, {"z", 3}, {"u", 4}}}, map[string]bool{"a": true})
	var out enginetest.Collect[int]
	runUntil := func(par, rows int, rename string) error {
		p := engine.New(engine.Config{Name: "lists", Dir: dir, Parallelism: par})
		s := engine.From(p, "in", src)
		engine.To(engine.Process(engine.KeyBy(s, func(s stamped) string { return s.K }), rename, func() *tagger { return &tagger{} }), "out", &out)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		go func() {
			for ctx.Err() == nil && len(out.Rows()) < rows {
				<-time.After(time.Millisecond)
			}
			p.Stop(engine.Suspend)
		}()
		return p.Run(ctx)
	}
	if err := runUntil(3, 4, "tag"); err != nil {
		t.Fatal(err)
	}
	src.Splits["a"] = append(enginetest.Recs([]stamped{{"x", 1}, {"y", 2}, {"z", 3}, {"u", 4}, {"x", 5}}...), enginetest.Stay[stamped]())
	if err := runUntil(1, 5, "tag"); err != nil {
		t.Fatal(err)
	}
	if rows := out.Rows(); len(rows) != 5 || rows[4] != 5 {
		t.Errorf("after the rescale the task counted %v, want 5 last", rows)
	}
}

// TestNoIdleGapBetweenStages has a stage end on one task while the next one begins on two: the second task must not look
// idle in between, or the first one's records close windows that the second's belong to.
func TestNoIdleGapBetweenStages(t *testing.T) {
	for range 100 {
		p := engine.New(engine.Config{Name: "stages", Parallelism: 2, Dir: t.TempDir(), BatchSize: 1})
		files := scripted(map[string][]stamped{"a": {{"x", 5}}}, nil)
		queue := &enginetest.Script[stamped]{Splits: map[string][]enginetest.Step[stamped]{
			"p": enginetest.Recs(stamped{"x", 100}, stamped{"x", 200}, stamped{"x", 300}),
			"q": {enginetest.Wait[stamped](time.Millisecond), enginetest.Rec(stamped{"x", 6})},
		}}
		s := engine.From(p, "in", hybrid.Of(hybrid.First[stamped](files), hybrid.Then[stamped](queue))).EventTime(at, engine.Watermarks{})
		win, res := countByKey(s, engine.Tumbling{Size: 10 * time.Second})
		var out enginetest.Collect[string]
		var late enginetest.Collect[stamped]
		engine.To(res, "out", &out)
		engine.To(win.Late(), "late", &late)
		run(t, p)
		got := slices.Sorted(slices.Values(out.Rows()))
		if want := []string{"x 0 2", "x 100 1", "x 200 1", "x 300 1"}; !slices.Equal(got, want) || len(late.Rows()) > 0 {
			t.Fatalf("%v, late %v", got, late.Rows())
		}
	}
}

// choosy refuses some of its records.
type choosy struct{}

func (choosy) Open(*engine.Setup[string]) error { return nil }

func (choosy) Process(_ *engine.Ctx[string], v stamped, out *engine.Out[string]) error {
	if v.At == 2 {
		return errors.New("refused")
	}
	out.Emit(v.K)
	return nil
}

func TestDeadLettersTellWhereTheyComeFrom(t *testing.T) {
	src := &enginetest.Script[stamped]{Splits: map[string][]enginetest.Step[stamped]{
		"a": {enginetest.Rec(stamped{"x", 1}), enginetest.Bad[stamped](), enginetest.Rec(stamped{"y", 2})},
	}}
	var out enginetest.Collect[string]
	var dead enginetest.Collect[engine.DeadLetter]
	enginetest.Run(t, engine.Config{Name: "letters", Poison: engine.Poison{Policy: engine.PoisonDeadLetter}}, func(p *engine.Pipeline) {
		s := engine.From(p, "in", src).EventTime(at, engine.Watermarks{})
		engine.To(engine.Process(engine.KeyBy(s, func(s stamped) string { return s.K }), "pick", func() choosy { return choosy{} }), "out", &out)
		p.DeadLetters(&dead)
	})
	byOp := map[string]engine.DeadLetter{}
	for _, d := range dead.Rows() {
		byOp[d.Operator] = d
	}
	read, picked := byOp["in"], byOp["pick"]
	if len(byOp) != 2 || string(read.Raw) != "bad" || read.At != "a step" || read.Cause != enginetest.ErrBad.Error() {
		t.Errorf("of the reader: %+v", read)
	}
	if picked.Key != "y" || !strings.Contains(picked.Value, "y") || !picked.Time.Equal(time.Unix(2, 0)) || picked.Epoch == 0 || picked.Cause != "refused" {
		t.Errorf("of the operator: %+v", picked)
	}
}
