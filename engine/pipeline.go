package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"

	"github.com/weirline/weirline/deadletter"
	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/flight"
)

// Pipeline is a graph under construction. Building never fails at once: mistakes are collected with the file and line of
// the call and returned together by Check and Run. Not safe for concurrent use.
type Pipeline struct {
	cfg      Config
	vertices []*vertex
	byName   map[string]*vertex
	errs     []error
	dead     *vertex // dead letter sink
	groups   map[string]*alignGroup

	mu        sync.Mutex
	job       *job      // once it runs
	stopEarly store.End // asked for before that
}

// vertex is an operator of the graph. Its name is the address of its state.
type vertex struct {
	name        string
	kind        string // for plans: "source", "map", "sink", ...
	line        string // where the user made it
	parallelism int    // 0 = the job's
	inputs      []*link
	outs        []*link
	borrowed    bool // its output points into recycled memory
	canPoison   bool
	errors      bool   // its bad records are a stream, whatever the policy
	aside       bool   // its broadcast inputs are of another type, for task.aside
	missing     string // what the user has still to call

	// build makes the operator's node in one task; the result is a node[I]. It builds what follows first.
	build func(b *builder) (any, error)
	// receive makes the function that takes the payloads of a task's channels and feeds them to node n, a node[I].
	receive func(j *job, n any) func(payload any) error

	source           *sourceVertex // set for sources
	commit           committerMaker
	outlet           deadletter.Outlet                 // of a sink
	check            []func(ctx context.Context) error // preflights
	sinkOK, why, fix string                            // guarantee of a sink, for plans: one of sink's; what a sink.Qualified says of it

	// Filled by plan.
	tasks int
	head  *vertex // first operator of the task this one runs in

	region *region // filled by regions
}

// linkKind says how records go from one operator to the next.
type linkKind int

const (
	linkForward   linkKind = iota // task i to task i; fused when the receiver has one input
	linkHash                      // to the owner of the key
	linkRebalance                 // round robin
	linkBroadcast                 // to all
)

func (k linkKind) String() string { return [...]string{"forward", "hash", "rebalance", "broadcast"}[k] }

// link joins a port of one operator to another operator.
type link struct {
	from, to *vertex
	port     string // "" for the main output
	kind     linkKind
	fused    bool
	turned   bool // from forward to rebalance, since the parallelisms differ
	stored   bool // the checkpoint that the job resumes has records on their way here: not to be fused
	connect  connector
	flight   func() (flight.Codec, error)
	codec    flight.Codec // nil if its records are never stored
}

// New begins a pipeline.
func New(cfg Config) *Pipeline {
	p := &Pipeline{cfg: cfg.withDefaults(), byName: map[string]*vertex{}, groups: map[string]*alignGroup{}}
	p.errs = p.cfg.validate()
	return p
}

var nameRule = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9._-]{0,99}$`)

// add puts an operator into the graph.
func (p *Pipeline) add(name, kind string, ups []upstream, v *vertex) *vertex {
	v.name, v.kind, v.line = name, kind, userLine()
	switch {
	case !nameRule.MatchString(name):
		p.errorf("operator name %q: use a letter, then up to 99 letters, digits, dots, dashes or underscores", name)
	case p.byName[name] != nil:
		p.errorf("operator name %q is taken by the one at %s; names are the addresses of state and must differ", name, p.byName[name].line)
	default:
		p.byName[name] = v
	}
	for _, u := range ups {
		if u.v == nil {
			p.errorf("operator %q reads from a stream that was not made by this pipeline", name)
			continue
		}
		l := &link{from: u.v, to: v, port: u.port, kind: u.kind, connect: u.connect, flight: u.flight}
		v.inputs = append(v.inputs, l)
		u.v.outs = append(u.v.outs, l)
	}
	p.vertices = append(p.vertices, v)
	return v
}

// errorf collects a mistake with the user's file and line.
func (p *Pipeline) errorf(format string, args ...any) {
	p.errs = append(p.errs, fault.New(fault.BadPipeline, format, args...).At(userLine()))
}

// typeErrorf collects a type that can't be used where it stands.
func (p *Pipeline) typeErrorf(err error, format string, args ...any) {
	p.errs = append(p.errs, fault.Wrap(fault.BadType, err, format, args...).At(userLine()))
}

// userLine is the file and line of the first caller outside this package.
func userLine() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		f, more := frames.Next()
		inside := filepath.Dir(f.File) == engineDir && !strings.HasSuffix(f.File, "_test.go")
		if !inside && f.File != "" {
			return fmt.Sprintf("%s:%d", filepath.Base(filepath.Dir(f.File))+"/"+filepath.Base(f.File), f.Line)
		}
		if !more {
			return "unknown line"
		}
	}
}

// engineDir is where this package's files are. Names of functions wouldn't do: one that is inlined has its caller's.
var engineDir = func() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}()

// Check returns everything that is wrong with the pipeline without starting it; it does no I/O.
func (p *Pipeline) Check() error {
	errs := append([]error(nil), p.errs...)
	p.linkDeadLetters()
	if len(p.vertices) == 0 {
		errs = append(errs, fault.New(fault.BadPipeline, "the pipeline has no operator"))
	}
	if p.cfg.Poison.Policy == PoisonDeadLetter && p.dead == nil {
		errs = append(errs, fault.New(fault.BadPipeline, "the poison policy is dead letter, but there is no sink for dead letters").
			WithFix("call DeadLetters or DeadLettersTx with a sink"))
	}
	if p.dead != nil && len(p.dead.inputs) == 0 {
		errs = append(errs, fault.New(fault.BadPipeline, "no bad record can come to the sink for dead letters").
			At(p.dead.line).WithFix("set Config.Poison.Policy to PoisonDeadLetter and leave some operator without Errors, or leave the sink out"))
	}
	for _, v := range p.vertices {
		errs = append(errs, p.checkVertex(v)...)
	}
	for name, old := range p.cfg.Renamed {
		if p.byName[name] == nil || p.byName[old] != nil {
			errs = append(errs, fault.New(fault.BadPipeline,
				"Config.Renamed says that operator %q was %q: the first must be in the pipeline, the second must not", name, old))
		}
	}
	if p.cfg.Unaligned {
		errs = append(errs, p.checkFlights()...)
	}
	p.plan()
	if _, err := p.queueBytes(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (p *Pipeline) checkVertex(v *vertex) (errs []error) {
	if v.parallelism > p.cfg.KeyGroups {
		errs = append(errs, fault.New(fault.Parallelism, "operator %q wants parallelism %d, there are %d key groups",
			v.name, v.parallelism, p.cfg.KeyGroups))
	}
	if p.cfg.Batch && v.source != nil && !v.source.bounded {
		errs = append(errs, fault.New(fault.BadPipeline, "source %q has no end, which Config.Batch needs", v.name).
			At(v.line).WithFix("give the source an end, or leave Batch unset"))
	}
	if v.missing != "" {
		errs = append(errs, fault.New(fault.BadPipeline, "operator %q has no %s", v.name, v.missing).At(v.line))
	}
	if v.commit != nil && p.cfg.Dir == "" && p.cfg.Store == nil {
		errs = append(errs, fault.New(fault.BadPipeline, "operator %q commits in two phases, which needs a state directory", v.name).
			At(v.line).WithFix("set Config.Dir"))
	}
	if v.commit != nil && p.cfg.AtLeastOnce {
		errs = append(errs, fault.New(fault.BadPipeline, "operator %q commits in two phases, and Config.AtLeastOnce counts records twice", v.name).
			At(v.line).WithFix("leave AtLeastOnce unset, or use a plain sink"))
	}
	if g := p.guarantee(v); p.cfg.ExactlyOnce && v.sinkOK != "" && g.Limit != "" {
		errs = append(errs, fault.New(fault.NotIdempotent, "what sink %q gets isn't exactly once but %s, limited by %s: %s", v.name, g.Promise, g.Limit, g.Why).
			At(v.line).WithFix("%s; or leave Config.ExactlyOnce unset", g.Fix))
	}
	for _, l := range v.inputs {
		if l.from.borrowed && !(l.kind == linkForward && len(v.inputs) == 1) {
			errs = append(errs, fault.New(fault.BadType, "operator %q exchanges values that point into recycled memory", v.name).
				At(v.line).WithFix("copy the value in a Map before this operator"))
		}
	}
	return errs
}

// plan decides which operators share a task: neighbours of equal parallelism joined by a single forward link.
func (p *Pipeline) plan() (heads []*vertex) {
	for _, v := range p.vertices {
		v.tasks = v.parallelism
		if v.tasks == 0 {
			v.tasks = p.cfg.Parallelism
		}
		v.head = v
		for _, l := range v.inputs { // as built, whatever an earlier plan at another parallelism made of it
			if l.fused = false; l.turned {
				l.kind, l.turned = linkForward, false
			}
		}
		if v.source == nil && len(v.inputs) == 1 {
			l := v.inputs[0]
			if l.fused = l.kind == linkForward && !l.stored && l.from.tasks == v.tasks; l.fused {
				v.head = l.from.head
			}
		}
		if v.head == v {
			heads = append(heads, v)
		}
	}
	for _, v := range p.vertices {
		for _, l := range v.inputs {
			if l.kind == linkForward && !l.fused && l.from.tasks != v.tasks {
				l.kind, l.turned = linkRebalance, true
			}
		}
	}
	return heads
}

// builder makes the nodes of one task.
type builder struct {
	t     *task
	exits map[*link][]*channel
	sides map[*vertex][]lifecycle // side outputs: their clocks follow the main one
}

// nextOf builds what follows a port and returns one node for it.
func nextOf[O any](b *builder, v *vertex, port string) (node[O], error) {
	var nexts []node[O]
	for _, l := range v.outs {
		if l.port != port {
			continue
		}
		n, err := b.follow(v, l)
		if err != nil {
			return nil, err
		}
		nexts = append(nexts, n.(node[O]))
	}
	switch len(nexts) {
	case 0:
		return dropNode[O]{}, nil
	case 1:
		return nexts[0], nil
	}
	return &teeNode[O]{nexts: nexts}, nil
}

func (b *builder) follow(v *vertex, l *link) (any, error) {
	if !l.fused {
		n, out, err := l.connect(b, v, b.exits[l])
		if err != nil {
			return nil, err
		}
		b.t.outs = append(b.t.outs, out)
		b.t.edges[l] = out
		return n, nil
	}
	return l.to.build(b)
}

// poisoner is the poison handler of a vertex in the task being built.
func (b *builder) poisoner(v *vertex) (*poisoner, error) {
	if p := b.t.poisoners[v]; p != nil {
		return p, nil
	}
	p := &poisoner{op: v.name, stats: b.t.op(v.name), policy: b.t.job.cfg.Poison, log: b.t.log, task: b.t}
	b.t.poisoners[v] = p
	if v.errors {
		p.policy.Policy = PoisonDeadLetter
	} else if v == b.t.job.p.dead { // what refuses a dead letter loses it
		p.policy.Policy = PoisonFail
	}
	if p.policy.Policy == PoisonDeadLetter {
		dead, err := nextOf[DeadLetter](b, v, portDead)
		if err != nil {
			return nil, err
		}
		p.dead = dead
		b.sides[v] = append(b.sides[v], dead)
	}
	return p, nil
}

// poisonAndNext builds what most operators need: their poison handler and what follows.
func poisonAndNext[O any](b *builder, v *vertex) (*poisoner, node[O], error) {
	bad, err := b.poisoner(v)
	if err != nil {
		return nil, nil, err
	}
	next, err := nextOf[O](b, v, "")
	return bad, next, err
}

// The ports beside the main one.
const (
	portLate = "late"
	portDead = "dead"
)
