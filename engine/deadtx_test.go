package engine_test

import (
	"context"
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
	"github.com/weirline/weirline/internal/plain"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// choosing is an async destination that refuses each tenth number, some of them only when they are sent again.
func choosing(got *enginetest.Collect[int64]) async.Sink[int64] {
	var calls atomic.Int64
	return async.Sink[int64]{
		MaxBatch: 50, Linger: time.Millisecond, Retry: async.Retry{Base: time.Millisecond},
		Send: func(ctx context.Context, b []int64) error {
			if calls.Add(1)%3 == 0 {
				return fmt.Errorf("not now")
			}
			bad := map[int]error{}
			var good []int64
			for i, v := range b {
				if v%10 == 3 {
					bad[i] = fmt.Errorf("number %d is refused", v)
				} else {
					good = append(good, v)
				}
			}
			if err := got.Write(ctx, good); err != nil {
				return err
			}
			if len(bad) > 0 {
				return &sink.Rejected{Errs: bad}
			}
			return nil
		},
	}
}

// TestDeadLettersExactlyOnce has an async sink refuse records while tasks die and checkpoints complete: with a two-phase sink of
// dead letters each refused record is there once, with all that is known of it.
func TestDeadLettersExactlyOnce(t *testing.T) {
	const n = 6000
	var got enginetest.Collect[int64]
	dead := enginetest.NewTx[engine.DeadLetter]()
	var seen atomic.Int64
	cfg := engine.Config{Name: "letters", Parallelism: 2, Poison: engine.Poison{Policy: engine.PoisonDeadLetter, Budget: -1}}
	began := time.Now()
	enginetest.Run(t, cfg, func(p *engine.Pipeline) {
		s := engine.From(p, "numbers", gen.Source[int64]{Make: func(i int64) int64 { return i }, Count: n, Splits: 4, PerSecond: 20_000})
		s = engine.Map(s, "trip", func(v int64) int64 {
			if c := seen.Add(1); c == 1500 || c == 4000 {
				panic("planted")
			}
			return v
		})
		engine.To(s, "out", choosing(&got))
		p.DeadLettersTx(dead)
	})
	once := map[int64]int{}
	most := 0
	for _, l := range dead.Rows() {
		v, err := plain.Decode[int64](l.Record)
		if err != nil {
			t.Fatal(err)
		}
		once[v]++
		most = max(most, l.Attempts)
		if l.Operator != "out" || l.Job != "letters" || l.Cause != fmt.Sprintf("number %d is refused", v) || l.Value != fmt.Sprint(v) ||
			l.Attempts < 1 || l.Epoch == 0 || l.Found.Before(began.Add(-time.Second)) || l.Found.After(time.Now()) || l.Task > 1 {
			t.Fatalf("dead letter %+v", l)
		}
	}
	for v := int64(3); v < n; v += 10 {
		if once[v] != 1 {
			t.Errorf("number %d has %d dead letters", v, once[v])
		}
	}
	rows := got.Rows()
	slices.Sort(rows)
	if all := len(slices.Compact(rows)); all != n-n/10 || len(once) != n/10 || most < 2 {
		t.Errorf("%d numbers were written, want %d; %d were refused, after %d attempts at most", all, n-n/10, len(once), most)
	}
}

// TestBudgetOfRefusedRecords holds the budget for records that are refused behind an async sink's back.
func TestBudgetOfRefusedRecords(t *testing.T) {
	for _, budget := range []int{20, -1} {
		var got enginetest.Collect[int64]
		var dead enginetest.Collect[engine.DeadLetter]
		p := engine.New(engine.Config{
			Name: "budget", Dir: t.TempDir(), Parallelism: 1, CheckpointEvery: 5 * time.Millisecond,
			Poison: engine.Poison{Policy: engine.PoisonDeadLetter, Budget: budget},
		})
		engine.To(engine.From(p, "numbers", gen.Source[int64]{Make: func(i int64) int64 { return i }, Count: 3000}), "out", choosing(&got))
		p.DeadLetters(&dead)
		err := p.Run(t.Context())
		if budget < 0 && err != nil {
			t.Errorf("without a budget: %v", err)
		}
		if budget > 0 {
			for _, want := range []string{"WL1212", "operator out", "more than 20 bad records", "Poison.Budget", "is refused", "; fix: ", "raise the budget"} {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("the error lacks %q: %v", want, err)
				}
			}
		}
	}
}

func TestOneSinkOfDeadLetters(t *testing.T) {
	p := engine.New(engine.Config{Name: "two", Dir: t.TempDir()})
	engine.To(engine.From(p, "in", gen.Source[int64]{Make: func(i int64) int64 { return i }, Count: 1}), "out", &enginetest.Collect[int64]{})
	p.DeadLetters(&enginetest.Collect[engine.DeadLetter]{})
	p.DeadLettersTx(enginetest.NewTx[engine.DeadLetter]())
	if err := p.Check(); err == nil || !strings.Contains(err.Error(), "deadtx_test.go") {
		t.Errorf("a second sink of dead letters: %v", err)
	}
}

// TestNoWayToDeadLetters: a task that nothing sends to would wait for ever.
func TestNoWayToDeadLetters(t *testing.T) {
	p := engine.New(engine.Config{Name: "none", Dir: t.TempDir(), Poison: engine.Poison{Policy: engine.PoisonSkip}})
	engine.To(engine.From(p, "in", gen.Source[int64]{Make: func(i int64) int64 { return i }, Count: 1}), "out", &enginetest.Collect[int64]{})
	p.DeadLetters(&enginetest.Collect[engine.DeadLetter]{})
	if err := p.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "no bad record can come") || !strings.Contains(err.Error(), "deadtx_test.go") {
		t.Errorf("a sink of dead letters under another policy: %v", err)
	}
}

// takesNone is a sink of dead letters that takes none.
type takesNone struct {
	enginetest.Collect[engine.DeadLetter]
}

func (p *takesNone) Writer(context.Context, sink.Task) (sink.Writer[engine.DeadLetter], error) {
	return p, nil
}

func (*takesNone) Write(_ context.Context, b []engine.DeadLetter) error {
	return &sink.Rejected{Errs: map[int]error{0: errors.New("too large")}}
}

// TestDeadLetterIsRefused ends a job whose sink of dead letters refuses one, which would be lost.
func TestDeadLetterIsRefused(t *testing.T) {
	var got enginetest.Collect[int64]
	p := engine.New(engine.Config{Name: "picky", Dir: t.TempDir(), Parallelism: 1, Poison: engine.Poison{Policy: engine.PoisonDeadLetter}})
	engine.To(engine.From(p, "numbers", gen.Source[int64]{Make: func(i int64) int64 { return i }, Count: 100}), "out", choosing(&got))
	p.DeadLetters(&takesNone{})
	err := p.Run(t.Context())
	for _, want := range []string{"WL1203", "operator dead-letters", "too large", "3 is refused"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
}

// TestOutlets finds the ways back into sinks, under former names too.
func TestOutlets(t *testing.T) {
	p := engine.New(engine.Config{Name: "outlets", Dir: t.TempDir(), Renamed: map[string]string{"out": "was"}})
	s := engine.From(p, "in", gen.Source[int64]{Make: func(i int64) int64 { return i }, Count: 1})
	engine.To(s, "out", &enginetest.Collect[int64]{})
	engine.ToTx(s, "tx", enginetest.NewTx[int64]())
	for name, want := range map[string]string{"out": "out", "was": "out", "tx": "tx", "in": "", "none": ""} {
		if now, o := p.Outlet(name); (o != nil) != (want != "") || want != "" && now != want {
			t.Errorf("%s: %v, called %s", name, o, now)
		}
	}
}
