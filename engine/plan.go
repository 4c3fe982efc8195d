package engine

import (
	"cmp"
	"context"
)

// Plan is a pipeline on paper: what runs where, what is joined how, and what is promised. It is a copy, in the order the
// pipeline was built, the same for the same program and settings.
type Plan struct {
	Job         string          `json:"job"`
	Parallelism int             `json:"parallelism"`
	Stored      bool            `json:"stored"`      // checkpoints are kept
	Poison      string          `json:"bad_records"` // "fail the job", "are skipped", "go to dead letters"
	Operators   []PlanOperator  `json:"operators"`
	Links       []PlanLink      `json:"links"`
	Guarantees  []PlanGuarantee `json:"guarantees"` // one a sink
}

// PlanOperator is one operator.
type PlanOperator struct {
	Name        string `json:"name"`
	Kind        string `json:"kind"` // "source", "map", "sink", ...
	Parallelism int    `json:"parallelism"`
	Task        string `json:"task"`                // first operator of the task this one runs in
	Input       string `json:"input,omitempty"`     // of a source: "bounded" or "unbounded"
	Guarantee   string `json:"guarantee,omitempty"` // of a sink alone: "exactly once", "idempotent", "at least once"
}

// PlanLink joins two operators.
type PlanLink struct {
	From string `json:"from"`
	To   string `json:"to"`
	Port string `json:"port,omitempty"` // "" = main output; "late", "dead"
	Kind string `json:"kind"`           // "fused" = in one task; "forward", "hash", "rebalance", "broadcast" = an exchange
}

// PlanGuarantee is what holds from the sources to one sink.
type PlanGuarantee struct {
	Sink    string   `json:"sink"`
	Sources []string `json:"sources"`
	Promise string   `json:"promise"` // one of the Promise constants
	Why     string   `json:"why"`
	Limit   string   `json:"limited_by,omitempty"` // the operator or setting without which it would be exactly once; "" = none
	Fix     string   `json:"fix,omitempty"`        // what to do about that
}

// What a pipeline can promise from end to end.
const (
	PromiseExactlyOnce = "exactly once"
	PromiseInEffect    = "exactly once in effect"
	PromiseAtLeastOnce = "at least once"
	PromiseNone        = "none across restarts"
)

// Plan lays the pipeline out as Run would. Call it when the pipeline is complete and not while Run runs.
func (p *Pipeline) Plan() Plan {
	p.linkDeadLetters()
	p.plan()
	pl := Plan{Job: p.cfg.Name, Parallelism: p.cfg.Parallelism, Stored: p.stored()}
	pl.Poison = map[PoisonPolicy]string{
		PoisonFail: "fail the job", PoisonSkip: "are skipped", PoisonDeadLetter: "go to dead letters",
	}[p.cfg.Poison.Policy]
	for _, v := range p.vertices {
		op := PlanOperator{Name: v.name, Kind: v.kind, Parallelism: v.tasks, Task: v.head.name, Guarantee: v.sinkOK}
		if v.source != nil {
			op.Input = map[bool]string{true: "bounded", false: "unbounded"}[v.source.bounded]
		}
		pl.Operators = append(pl.Operators, op)
		for _, l := range v.inputs {
			pl.Links = append(pl.Links, planLink(l))
		}
		if v.sinkOK != "" {
			pl.Guarantees = append(pl.Guarantees, p.guarantee(v))
		}
	}
	return pl
}

func (p *Pipeline) stored() bool { return p.cfg.Dir != "" || p.cfg.Store != nil }

func planLink(l *link) PlanLink {
	kind := l.kind.String()
	if l.fused {
		kind = "fused"
	}
	return PlanLink{From: l.from.name, To: l.to.name, Port: l.port, Kind: kind}
}

// guarantee works out the promise of one sink: whether positions are stored, whether the sources can go back to them, what the
// pipeline does with barriers, and what the destination does with a replay. The first that falls short is named.
func (p *Pipeline) guarantee(v *vertex) PlanGuarantee {
	g := PlanGuarantee{Sink: v.name, Sources: []string{}}
	once := ""
	for _, s := range p.sourcesOf(v) {
		g.Sources = append(g.Sources, s.name)
		if s.source.once && once == "" {
			once = s.name
		}
	}
	set := func(promise, why, limit, fix string) { g.Promise, g.Why, g.Limit, g.Fix = promise, why, limit, fix }
	switch {
	case !p.stored():
		set(PromiseNone, "without a state directory each run begins anew", "Config.Dir", "give the job a state directory (-state)")
	case once != "":
		set(PromiseNone, "a restart loses what source "+once+" has read since the last checkpoint", once, "read from something that keeps it, as a log does")
	case p.cfg.AtLeastOnce:
		set(PromiseAtLeastOnce, "records that overtake a barrier are in the checkpoint and are read again after a restart",
			"Config.AtLeastOnce", "leave it unset (-checkpoint-mode=exactly-once)")
	case v.sinkOK == PromiseExactlyOnce:
		set(PromiseExactlyOnce, cmp.Or(v.why, "positions and transactions belong to one checkpoint"), "", "")
	case v.sinkOK == "idempotent":
		set(PromiseInEffect, cmp.Or(v.why, "records since the last checkpoint may be written again, which changes nothing as long as they come out the same"), "", "")
	default:
		set(PromiseAtLeastOnce, cmp.Or(v.why, "records since the last checkpoint may be written again"), v.name,
			cmp.Or(v.fix, "use a two-phase sink (ToTx), or one that is idempotent"))
	}
	return g
}

// sourcesOf lists the sources a vertex gets records from, in the order of building.
func (p *Pipeline) sourcesOf(v *vertex) (out []*vertex) {
	seen := map[*vertex]bool{}
	var visit func(v *vertex)
	visit = func(v *vertex) {
		if seen[v] {
			return
		}
		seen[v] = true
		for _, l := range v.inputs {
			visit(l.from)
		}
	}
	visit(v)
	for _, u := range p.vertices {
		if seen[u] && u.source != nil {
			out = append(out, u)
		}
	}
	return out
}

// Preflight lets sources and sinks check their settings against the live systems, as Run does before it starts. The first
// error is returned.
func (p *Pipeline) Preflight(ctx context.Context) error {
	for _, v := range p.vertices {
		for _, check := range v.check {
			err := check(ctx)
			if ctx.Err() != nil {
				return ctx.Err() // stopped meanwhile, which is nobody's fault
			}
			if err != nil {
				return preflightError(v, err)
			}
		}
	}
	return nil
}
