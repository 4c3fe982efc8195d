package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirline/weirline/deadletter"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/flight"
	"github.com/weirline/weirline/internal/groups"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/source"
	"github.com/weirline/weirline/state"
)

// To writes a stream to a plain sink: at least once, or exactly once in effect if the sink is idempotent, unless the sink says
// otherwise (sink.Qualified).
func To[T any](s Stream[T], name string, to sink.Sink[T]) { plainSink(s, name, to, nil) }

// ToKeyed is To for a keyed stream: all records of a key go through one writer, and what that hasn't delivered at a checkpoint is stored
// in the key's group (sink.Grouped). After a restore at any parallelism it is given to the task that has the group before any new record
// of it. So the order of a key's records, as far as the sink keeps it, outlives a rescale: give an async.Sink the same key.
func ToKeyed[K comparable, T any](k Keyed[K, T], name string, to sink.Sink[T]) {
	plainSink(k.s, name, to, func(v any) int { return state.Group(k.hash.Hash(k.key(v.(T))), k.s.p.cfg.KeyGroups) })
}

// plainSink is To; group is the key group of a record, nil for a stream without keys.
func plainSink[T any](s Stream[T], name string, to sink.Sink[T], group func(any) int) {
	promise := sink.AtLeastOnce
	if i, ok := sink.As[sink.Idempotent](to); ok && i.Idempotent() {
		promise = sink.Repeatable
	}
	v := addSink(s, name, to, promise)
	v.outlet = deadletter.Plain(to)
	v.build = func(b *builder) (any, error) {
		bad, err := b.poisoner(v)
		if err != nil {
			return nil, err
		}
		w, err := to.Writer(b.t.ctx, b.t.sinkTask(v))
		if err != nil {
			return nil, fmt.Errorf("open sink %q: %w", v.name, err)
		}
		n := &writerNode[T]{t: b.t, op: v.name, w: w, bad: bad, group: group}
		return guard[T](b, v, n), n.open(v)
	}
}

// addSink makes the operator of a sink, which promises that unless it says otherwise, and finds mistakes in its settings.
func addSink[T any](s Stream[T], name string, to any, promise string) *vertex {
	v := add[T](s, name, "sink")
	v.canPoison, v.sinkOK = true, promise
	if q, ok := sink.As[sink.Qualified](to); ok {
		v.sinkOK, v.why, v.fix = q.Promise()
	}
	s.p.checkSink(v, to)
	return v
}

// DeadLetters says where bad records go under the dead letter policy. They are written by one task, in the epoch of the
// record that caused them.
func (p *Pipeline) DeadLetters(to sink.Sink[DeadLetter]) {
	p.deadLetters(func(s Stream[DeadLetter], name string) { To(s, name, to) })
}

// DeadLettersTx is DeadLetters with a two-phase sink: each bad record of a complete epoch is there exactly once.
func (p *Pipeline) DeadLettersTx(to sink.TwoPhase[DeadLetter]) {
	p.deadLetters(func(s Stream[DeadLetter], name string) { ToTx(s, name, to) })
}

func (p *Pipeline) deadLetters(add func(s Stream[DeadLetter], name string)) {
	if p.dead != nil {
		p.errorf("the sink of dead letters was set before, at %s", p.dead.line)
		return
	}
	add(Stream[DeadLetter]{p: p}, "dead-letters")
	p.dead = p.vertices[len(p.vertices)-1]
	p.dead.parallelism, p.dead.canPoison = 1, false
}

// linkDeadLetters joins every operator that may meet a bad record to the dead letter sink, once the graph is whole.
func (p *Pipeline) linkDeadLetters() {
	if p.dead == nil || p.cfg.Poison.Policy != PoisonDeadLetter || len(p.dead.inputs) > 0 {
		return
	}
	for _, v := range p.vertices {
		if v == p.dead || !v.canPoison || v.errors {
			continue
		}
		l := &link{from: v, to: p.dead, port: portDead, kind: linkRebalance, connect: connectPlain[DeadLetter], flight: flight.Of[DeadLetter]}
		v.outs = append(v.outs, l)
		p.dead.inputs = append(p.dead.inputs, l)
	}
}

// checkSink looks for mistakes in a sink's settings now, and has it checked against the live system at start.
func (p *Pipeline) checkSink(v *vertex, to any) {
	if c, ok := sink.As[interface{ Validate() error }](to); ok {
		if err := c.Validate(); err != nil {
			p.typeErrorf(err, "sink %q", v.name)
		}
	}
	if c, ok := sink.As[sink.Timed](to); ok {
		v.check = append(v.check, func(context.Context) error { return c.Fits(p.cfg.times()) })
	}
	if c, ok := sink.As[sink.Preflight](to); ok {
		v.check = append(v.check, c.Preflight)
	}
}

// writerNode feeds a plain sink's writer.
type writerNode[T any] struct {
	t        *task
	op       string
	w        sink.Writer[T]
	stateful sink.Stateful
	failing  sink.Failing
	rejecter sink.Rejecter
	bad      *poisoner
	group    func(any) int // of a keyed stream's records; else nil
}

func (n *writerNode[T]) open(v *vertex) error {
	part := n.t.addPart(v.name)
	n.stateful, _ = sink.As[sink.Stateful](n.w)
	n.failing, _ = sink.As[sink.Failing](n.w)
	n.rejecter, _ = sink.As[sink.Rejecter](n.w)
	if g, ok := sink.As[sink.Gated](n.w); ok {
		g.OnRoom(n.t.tell)
		n.t.gates = append(n.t.gates, gate{n.op, g.Room})
	}
	part.prepare, part.writer = n.prepare, n.snapshot
	n.t.checks = append(n.t.checks, n.collect)
	n.t.finishers = append(n.t.finishers, n.drain)
	n.t.closers = append(n.t.closers, n.w.Close)
	if n.t.restore == nil {
		return nil
	}
	states, err := n.t.restore.writers(v, n.t.index, n.group != nil)
	switch {
	case err != nil || len(states) == 0:
	case n.stateful != nil:
		err = n.stateful.Restore(states)
	case !n.t.job.cfg.AllowDropped:
		return fault.New(fault.DroppedState, "the checkpoint has unsent records, which the sink can't take back").At("operator " + v.name)
	}
	if err != nil {
		return fault.Wrap(fault.BadState, err, "the sink can't take back its stored records").At("operator " + v.name)
	}
	return nil
}

func (n *writerNode[T]) push(b *source.Batch[T]) error {
	return n.fail(n.w.Write(n.t.ctx, b.Values), b)
}

func (n *writerNode[T]) advance(clock) error { return nil }

// collect asks a writer that works in the background for errors and rejected records.
func (n *writerNode[T]) collect() error {
	if n.rejecter != nil {
		for _, r := range n.rejecter.Rejects() {
			if err := n.bad.record(r.Value, source.NoTime, r.Attempts, r.Err); err != nil {
				return err
			}
		}
	}
	if n.failing != nil {
		return n.fail(n.failing.Err(), nil)
	}
	return nil
}

// drainPatience is how long the task of a Stateful writer waits for the destination at the end of input before it looks after barriers.
const drainPatience = 20 * time.Millisecond

var errUndelivered = errors.New("not all is delivered yet")

// drain is called at the end of input, again and again as long as its error is errUndelivered.
func (n *writerNode[T]) drain() error {
	ctx := n.t.ctx
	if n.stateful != nil {
		limited, cancel := context.WithTimeoutCause(ctx, drainPatience, errUndelivered)
		defer cancel()
		ctx = limited
		n.t.stats.gate.Store(&n.op)
		n.t.stats.state.Store(stateRoom)
		defer n.t.stats.state.Store(stateWorking)
	}
	err := n.w.Flush(ctx)
	if late := context.Cause(ctx); late == errUndelivered && (errors.Is(err, late) || errors.Is(err, context.DeadlineExceeded)) { //nolint:errorlint // set above
		return errUndelivered
	}
	return n.fail(err, nil)
}

// prepare is called before a barrier goes on: what is rejected until now belongs to the epoch.
func (n *writerNode[T]) prepare(uint64) error {
	if n.stateful == nil {
		if err := n.fail(n.w.Flush(n.t.ctx), nil); err != nil {
			return err
		}
	}
	return n.collect()
}

func (n *writerNode[T]) snapshot() ([]byte, error) {
	if g, ok := sink.As[sink.Grouped](n.w); ok && n.group != nil {
		parts, err := g.SnapshotBy(n.group)
		return groups.Pack(parts), err
	}
	if n.stateful == nil {
		return nil, nil
	}
	return n.stateful.Snapshot()
}

// fail turns a writer's error into poison, for refused records, or into a task error.
func (n *writerNode[T]) fail(err error, b *source.Batch[T]) error {
	if err == nil {
		return nil
	}
	if r, ok := errors.AsType[*sink.Rejected](err); ok && b != nil {
		return rejected(n.bad, b, r)
	}
	return sinkError(n.op, err)
}

func sinkError(op string, err error) error {
	if errors.Is(err, context.Canceled) || fault.CodeOf(err) != "" {
		return err
	}
	return fault.Wrap(fault.SinkFailed, err, "write").At("operator " + op)
}
