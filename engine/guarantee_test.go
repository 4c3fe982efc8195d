package engine_test

import (
	"strings"
	"testing"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/hybrid"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/source"
)

// socket is a source that can't go back.
type socket struct{ gen.Source[event] }

func (socket) Replayable() bool { return false }

// behind is a two-phase sink whose promise rests on what is behind it.
type behind struct {
	sink.TwoPhase[event]
	promise, fix string
}

func (b behind) Promise() (promise, why, fix string) { return b.promise, "rows wait", b.fix }

// posts is a plain sink that says itself what it promises.
type posts struct {
	enginetest.Collect[event]
	promise, fix string
}

func (s *posts) Promise() (promise, why, fix string) { return s.promise, "requests have no key", s.fix }

// TestGuaranteeFromEndToEnd works out what source, pipeline and sink come to, and what of them limits it; asked for exactly once, the
// pipeline is refused with that, or not at all.
func TestGuaranteeFromEndToEnd(t *testing.T) {
	log := gen.Source[event]{Make: makeEvent, Count: 10}
	from := func(src source.Source[event, gen.Split]) func(p *engine.Pipeline) engine.Stream[event] {
		return func(p *engine.Pipeline) engine.Stream[event] { return engine.From(p, "in", src) }
	}
	chain := func(p *engine.Pipeline) engine.Stream[event] {
		return engine.From(p, "in", hybrid.Of(hybrid.First[event](log), hybrid.Then[event](socket{log})))
	}
	both := func(p *engine.Pipeline) engine.Stream[event] {
		return engine.Union(engine.From(p, "in", log), engine.From(p, "wire", socket{log}))
	}
	tx := func(s engine.Stream[event]) { engine.ToTx(s, "out", enginetest.NewTx[event]()) }
	before := func(promise, fix string) func(s engine.Stream[event]) {
		return func(s engine.Stream[event]) { engine.ToTx(s, "out", behind{enginetest.NewTx[event](), promise, fix}) }
	}
	upsert := func(s engine.Stream[event]) { engine.To(s, "out", &upserts[event]{}) }
	plain := func(s engine.Stream[event]) { engine.To(s, "out", &enginetest.Collect[event]{}) }
	says := func(promise, fix string) func(s engine.Stream[event]) {
		return func(s engine.Stream[event]) { engine.To(s, "out", &posts{promise: promise, fix: fix}) }
	}
	for _, c := range []struct {
		what    string
		cfg     engine.Config
		from    func(p *engine.Pipeline) engine.Stream[event]
		to      func(s engine.Stream[event])
		promise string
		limit   string
	}{
		{"two-phase", engine.Config{Dir: "state"}, from(log), tx, engine.PromiseExactlyOnce, ""},
		{"two-phase, unaligned", engine.Config{Dir: "state", Unaligned: true}, from(log), tx, engine.PromiseExactlyOnce, ""},
		{"two-phase, before a ledger", engine.Config{Dir: "state"}, from(log), before(sink.ExactlyOnce, ""), engine.PromiseExactlyOnce, ""},
		{"two-phase, before upserts", engine.Config{Dir: "state"}, from(log), before(sink.Repeatable, ""), engine.PromiseInEffect, ""},
		{"plain, with a key", engine.Config{Dir: "state"}, from(log), says(sink.Repeatable, ""), engine.PromiseInEffect, ""},
		{"plain, without a key", engine.Config{Dir: "state"}, from(log), says(sink.AtLeastOnce, "another"), engine.PromiseAtLeastOnce, "out"},
		{"two-phase, before a plain sink", engine.Config{Dir: "state"}, from(log), before(sink.AtLeastOnce, "another"), engine.PromiseAtLeastOnce, "out"},
		{"idempotent", engine.Config{Dir: "state"}, from(log), upsert, engine.PromiseInEffect, ""},
		{"plain", engine.Config{Dir: "state"}, from(log), plain, engine.PromiseAtLeastOnce, "out"},
		{"nothing stored", engine.Config{}, from(log), upsert, engine.PromiseNone, "Config.Dir"},
		{"barriers overtaken", engine.Config{Dir: "state", AtLeastOnce: true}, from(log), upsert, engine.PromiseAtLeastOnce, "Config.AtLeastOnce"},
		{"a source that can't go back", engine.Config{Dir: "state"}, from(socket{log}), tx, engine.PromiseNone, "in"},
		{"such a stage of a hybrid", engine.Config{Dir: "state"}, chain, tx, engine.PromiseNone, "in"},
		{"such a source of two", engine.Config{Dir: "state"}, both, tx, engine.PromiseNone, "wire"},
	} {
		t.Run(c.what, func(t *testing.T) {
			build := func(strict bool) *engine.Pipeline {
				cfg := c.cfg
				cfg.Name, cfg.ExactlyOnce = "guarantee", strict
				p := engine.New(cfg)
				c.to(c.from(p))
				return p
			}
			p := build(false)
			if err := p.Check(); err != nil {
				t.Fatal(err)
			}
			g := p.Plan().Guarantees[0]
			if strings.Contains(c.what, "before") && (g.Why != "rows wait" || c.limit != "" && g.Fix != "another") {
				t.Errorf("%+v doesn't say what the sink says", g)
			}
			if strings.Contains(c.what, "plain, with") && (g.Why != "requests have no key" || c.limit != "" && g.Fix != "another") {
				t.Errorf("%+v doesn't say what the sink says", g)
			}
			if g.Promise != c.promise || g.Limit != c.limit || g.Why == "" || (g.Fix == "") != (c.limit == "") {
				t.Errorf("%+v, want %s, limited by %q", g, c.promise, c.limit)
			}
			err := build(true).Check()
			if c.limit == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if err == nil {
				t.Fatal("not refused")
			}
			for _, want := range []string{fault.NotIdempotent.ID, "limited by " + c.limit, g.Fix, "guarantee_test.go"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("refused with %v, which lacks %q", err, want)
				}
			}
		})
	}
}
