package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/flight"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/source"
)

// To writes a stream to a plain sink: at least once, or exactly once in effect if the sink is idempotent.
func To[T any](s Stream[T], name string, to sink.Sink[T]) {
	v := add[T](s, name, "sink")
	v.canPoison = true
	v.sinkOK = sink.AtLeastOnce
	if i, ok := sink.As[sink.Idempotent](to); ok && i.Idempotent() {
		v.sinkOK = sink.Repeatable
	}
	s.p.checkSink(v, to)
	v.build = func(b *builder) (any, error) {
		bad, err := b.poisoner(v)
		if err != nil {
			return nil, err
		}
		w, err := to.Writer(b.t.ctx, b.t.sinkTask(v))
		if err != nil {
			return nil, fmt.Errorf("open sink %q: %w", v.name, err)
		}
		n := &writerNode[T]{t: b.t, op: v.name, w: w, bad: bad}
		return guard[T](b, v, n), n.open(v)
	}
}

// DeadLetters says where bad records go under the dead letter policy. They are written by one task, in the epoch of the
// record that caused them.
func (p *Pipeline) DeadLetters(to sink.Sink[DeadLetter]) {
	if p.dead != nil {
		p.errorf("DeadLetters was called before, at %s", p.dead.line)
		return
	}
	s := Stream[DeadLetter]{p: p}
	To(s, "dead-letters", to)
	p.dead = p.vertices[len(p.vertices)-1]
	p.dead.parallelism = 1
	p.dead.canPoison = false
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
}

func (n *writerNode[T]) open(v *vertex) error {
	part := n.t.addPart(v.name)
	n.stateful, _ = sink.As[sink.Stateful](n.w)
	n.failing, _ = sink.As[sink.Failing](n.w)
	n.rejecter, _ = sink.As[sink.Rejecter](n.w)
	if g, ok := sink.As[sink.Gated](n.w); ok {
		g.OnRoom(n.t.in.signal)
		n.t.gates = append(n.t.gates, gate{n.op, g.Room})
	}
	part.prepare, part.writer = n.prepare, n.snapshot
	n.t.checks = append(n.t.checks, n.collect)
	n.t.finishers = append(n.t.finishers, func() error { return n.fail(n.w.Flush(n.t.ctx), nil) })
	n.t.closers = append(n.t.closers, n.w.Close)
	if n.t.restore == nil || n.stateful == nil {
		return nil
	}
	if states := n.t.restore.writers(v.name, n.t.index, v.tasks); len(states) > 0 {
		if err := n.stateful.Restore(states); err != nil {
			return fault.Wrap(fault.BadState, err, "the sink can't take back its stored records").At("operator " + v.name)
		}
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
			if err := n.bad.record(r.Value, source.NoTime, "", r.Err); err != nil {
				return err
			}
		}
	}
	if n.failing != nil {
		return n.fail(n.failing.Err(), nil)
	}
	return nil
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
