package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/internal/fault"
)

var rewrite = flag.Bool("rewrite", false, "write golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; run the test with -rewrite if that is meant. Got:\n%s", file, got)
	}
}

// upserts is a sink where writing twice is writing once.
type upserts[T any] struct{ enginetest.Collect[T] }

func (*upserts[T]) Idempotent() bool { return true }

// picky is a sink whose settings are wrong.
type picky[T any] struct{ enginetest.Collect[T] }

func (*picky[T]) Preflight(context.Context) error { return errors.New("no such table") }

// planned has every kind of link, sink and source.
func planned(cfg engine.Config) *engine.Pipeline {
	p := engine.New(cfg)
	a := engine.From(p, "numbers", gen.Source[event]{Make: makeEvent, Count: 10})
	b := engine.From(p, "more", gen.Source[event]{Make: makeEvent}).Parallel(1)
	timed := engine.Union(a, b).Filter("some", func(e event) bool { return e.Key > 1 }).
		EventTime(func(e event) time.Time { return e.At }, engine.Watermarks{})
	type acc struct{ N int64 }
	counts := engine.Aggregate(engine.Window(engine.KeyBy(timed, func(e event) int64 { return e.Key }), "count", engine.Tumbling{Size: time.Second}),
		func(a *acc, _ event) { a.N++ },
		func(k int64, _ engine.Span, a *acc) keyCount { return keyCount{Key: k, Count: a.N} })
	engine.To(counts, "table", &upserts[keyCount]{})
	engine.ToTx(counts.Rebalance(), "ledger", enginetest.NewTx[keyCount]())
	engine.To(b, "raw", &enginetest.Collect[event]{})
	p.DeadLetters(&enginetest.Collect[engine.DeadLetter]{})
	return p
}

func planConfig(dir string) engine.Config {
	return engine.Config{Name: "planned", Dir: dir, Parallelism: 2, Poison: engine.Poison{Policy: engine.PoisonDeadLetter}}
}

func TestPlanGolden(t *testing.T) {
	p := planned(planConfig("state"))
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	pl := p.Plan()
	text, err := json.MarshalIndent(pl, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "plan.json", string(text)+"\n")
	if again := p.Plan(); !reflect.DeepEqual(again, pl) {
		t.Errorf("a second Plan differs: %+v", again)
	}
	if other := planned(planConfig("state")).Plan(); !reflect.DeepEqual(other, pl) {
		t.Errorf("the plan of the same program differs: %+v", other)
	}
	var back engine.Plan
	if err := json.Unmarshal(text, &back); err != nil || !reflect.DeepEqual(back, pl) {
		t.Errorf("the plan doesn't come back from JSON: %v", err)
	}
}

func TestPlanGuarantees(t *testing.T) {
	both, more := []string{"numbers", "more"}, []string{"more"}
	for _, c := range []struct {
		dir  string
		want map[string]string
	}{
		{"state", map[string]string{
			"table": engine.PromiseInEffect, "ledger": engine.PromiseExactlyOnce, "raw": engine.PromiseAtLeastOnce,
			"dead-letters": engine.PromiseAtLeastOnce,
		}},
		{"", map[string]string{
			"table": engine.PromiseNone, "ledger": engine.PromiseNone, "raw": engine.PromiseNone, "dead-letters": engine.PromiseNone,
		}},
	} {
		got := map[string]string{}
		for _, g := range planned(planConfig(c.dir)).Plan().Guarantees {
			got[g.Sink] = g.Promise
			want := both
			if g.Sink == "raw" {
				want = more
			}
			if !reflect.DeepEqual(g.Sources, want) {
				t.Errorf("sources of %s: %v, want %v", g.Sink, g.Sources, want)
			}
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("with state %q: %v, want %v", c.dir, got, c.want)
		}
	}
}

// TestPlanIsTheLayoutThatRuns compares the plan with the tasks of a real run.
func TestPlanIsTheLayoutThatRuns(t *testing.T) {
	var out enginetest.Collect[keyCount]
	p := windowed(engine.Config{Name: "windows", Parallelism: 2}, 1000, &out)
	want := map[string]int{}
	for _, op := range p.Plan().Operators {
		if op.Task == op.Name {
			want[op.Name] = op.Parallelism
		}
	}
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, task := range p.Status().Tasks {
		got[task.Name]++
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("tasks that ran: %v, planned: %v", got, want)
	}
}

func TestPreflight(t *testing.T) {
	p := engine.New(engine.Config{Name: "picky"})
	engine.To(engine.From(p, "numbers", gen.Source[event]{Make: makeEvent, Count: 10}), "out", &picky[event]{})
	err := p.Preflight(t.Context())
	if fault.CodeOf(err) != fault.Preflight.ID || !strings.Contains(err.Error(), "operator out") {
		t.Errorf("Preflight: %v, want %s at operator out", err, fault.Preflight.ID)
	}
	if err := p.Run(t.Context()); fault.CodeOf(err) != fault.Preflight.ID {
		t.Errorf("Run: %v, want the same", err)
	}
}
