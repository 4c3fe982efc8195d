package engine_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/sink"
)

// errorsJob counts the bad records of an operator in windows of their own event time.
func errorsJob(cfg engine.Config, n int64, good *enginetest.Tx[event], bad *enginetest.Tx[string], trip func()) *engine.Pipeline {
	p := engine.New(cfg)
	s := engine.From(p, "numbers", gen.Source[event]{Make: makeEvent, Count: n, Splits: 2, PerSecond: 100_000})
	timed := s.EventTime(func(e event) time.Time { return e.At }, engine.Watermarks{Delay: 200 * time.Millisecond})
	odd := engine.TryMap(timed, "odd", func(e event) (event, error) {
		trip()
		if e.Value%10 == 0 {
			return e, errors.New("a multiple of ten")
		}
		return e, nil
	})
	engine.ToTx(odd, "good", good)
	win := engine.Window(engine.KeyBy(odd.Errors(), func(d engine.DeadLetter) string { return d.Operator }), "per-second", engine.Tumbling{Size: time.Second})
	engine.ToTx(engine.Aggregate(win, func(n *int, _ engine.DeadLetter) { *n++ }, func(op string, sp engine.Span, n *int) string {
		return fmt.Sprint(op, " ", sp.Start.Unix(), " ", *n)
	}), "bad", bad)
	return p
}

func TestErrorsAreAStream(t *testing.T) {
	const n = 10_000
	perSecond := map[int64]int{}
	for seq := int64(0); seq < n; seq += 10 {
		perSecond[makeEvent(seq).At.Unix()]++
	}
	var want []string
	for at, n := range perSecond {
		want = append(want, fmt.Sprint("odd ", at, " ", n))
	}
	slices.Sort(want)
	for _, par := range []int{1, 2, 4} {
		good, bad := enginetest.NewTx[event](), enginetest.NewTx[string]()
		cfg := engine.Config{
			Name: "errors", Dir: t.TempDir(), Parallelism: par, CheckpointEvery: 3 * time.Millisecond,
			Restart: engine.Restart{Delay: -1, Attempts: 100}, Poison: engine.Poison{Budget: -1},
		}
		var seen atomic.Int64
		p := errorsJob(cfg, n, good, bad, func() {
			if seen.Add(1) == n/2 {
				panic("planted")
			}
		})
		if err := p.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := slices.Sorted(slices.Values(bad.Rows())); !slices.Equal(got, want) {
			t.Errorf("parallelism %d: %q, want %q", par, got, want)
		}
		if got := len(good.Rows()); got != n-n/10 {
			t.Errorf("parallelism %d: %d good records, want %d", par, got, n-n/10)
		}
	}
}

// TestErrorsHaveAClock has a window on errors close while the job goes on.
func TestErrorsHaveAClock(t *testing.T) {
	p := engine.New(engine.Config{Name: "clock", Parallelism: 1, BatchSize: 1})
	s := engine.From(p, "in", scripted(map[string][]stamped{"a": {{"x", 5}, {"x", 100}}}, map[string]bool{"a": true})).EventTime(at, engine.Watermarks{})
	bad := engine.TryMap(s, "bad", func(s stamped) (stamped, error) { return s, errors.New("bad") }).Errors()
	win := engine.Window(engine.KeyBy(bad, func(d engine.DeadLetter) string { return d.Cause }), "count", engine.Tumbling{Size: time.Second})
	res := engine.Aggregate(win, func(n *int, _ engine.DeadLetter) { *n++ }, func(_ string, sp engine.Span, _ *int) int64 { return sp.Start.Unix() })
	var out enginetest.Collect[int64]
	engine.To(engine.Map(res, "stop", func(n int64) int64 { go p.Stop(engine.Suspend); return n }), "out", &out)
	run(t, p)
	if got := out.Rows(); !slices.Equal(got, []int64{5}) {
		t.Errorf("windows of errors: %v", got)
	}
}

func TestErrorsBesideDeadLetters(t *testing.T) {
	p := engine.New(engine.Config{Name: "beside", Parallelism: 1, Poison: engine.Poison{Policy: engine.PoisonDeadLetter}})
	s := engine.From(p, "in", scripted(map[string][]stamped{"a": {{"x", 1}, {"y", 2}}}, nil))
	refuse := func(k string) func(stamped) (stamped, error) {
		return func(s stamped) (stamped, error) {
			if s.K == k {
				return s, errors.New("no " + k)
			}
			return s, nil
		}
	}
	one := engine.TryMap(s, "one", refuse("x"))
	two := engine.TryMap(one, "two", refuse("y"))
	var out enginetest.Collect[stamped]
	var own, dead enginetest.Collect[engine.DeadLetter]
	engine.To(two, "out", &out)
	engine.To(one.Errors(), "own", &own)
	p.DeadLetters(&dead)
	run(t, p)
	if len(out.Rows()) != 0 || len(own.Rows()) != 1 || len(dead.Rows()) != 1 || own.Rows()[0].Cause != "no x" || dead.Rows()[0].Operator != "two" {
		t.Errorf("out %v, errors of one %v, dead letters %v", out.Rows(), own.Rows(), dead.Rows())
	}
}

func TestBatchComesToTheSame(t *testing.T) {
	const n = 20_000
	for _, par := range []int{1, 2, 4} {
		// No delay: as a stream, many of these records would be late.
		p := engine.New(engine.Config{Name: "batch", Parallelism: par, Batch: true})
		s := engine.From(p, "numbers", gen.Source[event]{Make: makeEvent, Count: n, Splits: 4})
		timed := s.EventTime(func(e event) time.Time { return e.At }, engine.Watermarks{Idle: time.Nanosecond})
		win := engine.Window(engine.KeyBy(timed, func(e event) int64 { return e.Key }), "count", engine.Tumbling{Size: time.Second, Lateness: time.Second})
		var out enginetest.Collect[keyCount]
		engine.To(engine.Aggregate(win, func(a *slideAcc, e event) { a.N++; a.Sum += e.Value },
			func(k int64, sp engine.Span, a *slideAcc) keyCount {
				return keyCount{k, sp.Start.UnixMilli(), a.N, a.Sum}
			}), "out", &out)
		if err := p.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		checkWindows(t, out.Rows(), n)
		if e := p.Status().Epochs; e.Completed != 0 {
			t.Errorf("parallelism %d: %d checkpoints without a place for them", par, e.Completed)
		}
	}
}

func TestBatchCommitsOnce(t *testing.T) {
	const n = 20_000
	db := enginetest.NewTx[keyCount]()
	epochs := map[uint64]bool{}
	db.OnCommit = func(hs []sink.Handle) error {
		for _, h := range hs {
			epochs[h.Epoch] = true
		}
		return nil
	}
	dir := t.TempDir()
	p := exactly(engine.Config{Name: "once", Dir: dir, Parallelism: 2, Batch: true}, n, 0, db, func(event) error { return nil })
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkWindows(t, db.Rows(), n)
	if got := p.Status().Epochs.Completed; got != 1 || len(epochs) != 1 {
		t.Errorf("%d checkpoints, commits of epochs %v; want one", got, epochs)
	}
	err := exactly(engine.Config{Name: "once", Parallelism: 2, Batch: true}, n, 0, db, func(event) error { return nil }).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "state directory") {
		t.Errorf("a two-phase sink without a directory: %v", err)
	}
}

func TestBatchNeedsAnEnd(t *testing.T) {
	p := engine.New(engine.Config{Name: "endless", Batch: true})
	engine.To(engine.From(p, "numbers", gen.Source[event]{Make: makeEvent}), "out", &enginetest.Collect[event]{})
	err := p.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), `source "numbers" has no end`) || !strings.Contains(err.Error(), "sides_test.go:") {
		t.Errorf("got %v", err)
	}
}
