package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/weirline/weirline/deadletter"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/source"
)

// ToTx writes a stream to a two-phase sink: exactly once, unless the sink says otherwise (sink.Qualified). It needs Config.Dir.
func ToTx[T any](s Stream[T], name string, to sink.TwoPhase[T]) {
	v := addSink(s, name, to, sink.ExactlyOnce)
	v.outlet = deadletter.TwoPhase(to)
	v.commit = func(ctx context.Context, t sink.Task) (sink.Committer, error) { return to.Committer(ctx, t) }
	v.build = func(b *builder) (any, error) {
		bad, err := b.poisoner(v)
		if err != nil {
			return nil, err
		}
		w, err := to.TxWriter(b.t.ctx, b.t.sinkTask(v))
		if err != nil {
			return nil, fmt.Errorf("open sink %q: %w", v.name, err)
		}
		n := &txNode[T]{t: b.t, op: v.name, w: w, bad: bad, slots: b.t.job.slotsOf(v, b.t.index)}
		part := b.t.addPart(v.name)
		part.prepare, part.handles, part.completed, part.freed = n.prepare, n.report, n.completed, n.freed
		part.declined = n.declined
		b.t.gates = append(b.t.gates, gate{v.name, n.room})
		if g, ok := sink.As[sink.Gated](w); ok {
			g.OnRoom(b.t.tell)
			b.t.gates = append(b.t.gates, gate{v.name, g.Room})
		}
		if n.failing, _ = sink.As[sink.Failing](w); n.failing != nil {
			b.t.checks = append(b.t.checks, n.failed)
		}
		b.t.closers = append(b.t.closers, w.Close)
		return guard[T](b, v, n), nil
	}
}

// Committer makes the committer of a two-phase sink, for tools that finish what a dead job left. t.Operator is the sink's name, or
// a former one (Config.Renamed). nil = the pipeline has no such sink. The caller closes it.
func (p *Pipeline) Committer(ctx context.Context, t sink.Task) (sink.Committer, error) {
	t.Operator = p.today(t.Operator)
	if v := p.byName[t.Operator]; v != nil && v.commit != nil {
		return v.commit(ctx, t)
	}
	return nil, nil
}

// Outlet is the way back into a sink, for tools that write dead letters again, and what the sink is called now: name may be a
// former one (Config.Renamed). nil = the pipeline has no such sink.
func (p *Pipeline) Outlet(name string) (now string, _ deadletter.Outlet) {
	now = p.today(name)
	if v := p.byName[now]; v != nil {
		return now, v.outlet
	}
	return now, nil
}

// today is what an operator is called now.
func (p *Pipeline) today(name string) string {
	for now, old := range p.cfg.Renamed {
		if old == name {
			return now
		}
	}
	return name
}

// committerMaker makes the one committer of an operator.
type committerMaker func(ctx context.Context, t sink.Task) (sink.Committer, error)

// txNode feeds a two-phase sink's writer. It takes a free slot for each transaction and keeps every handle in its acks until
// an epoch that carried it is complete, so handles of declined epochs ride with the next one.
type txNode[T any] struct {
	t   *task
	op  string
	w   sink.TxWriter[T]
	bad *poisoner

	failing sink.Failing // nil if it says nothing

	slots []sink.Slot // free; the one that was freed last is used next, so that few are
	open  bool
	used  sink.Slot     // of the open transaction
	sent  []sink.Handle // not yet in a complete epoch
	asked bool          // for an epoch, since no slot is free
}

// room is false while no slot is free: input waits, barriers pass. If some wait for an epoch, one is requested.
func (n *txNode[T]) room() bool {
	if n.open || len(n.slots) > 0 {
		return true
	}
	if len(n.sent) > 0 && !n.asked {
		n.asked = true
		n.t.att.coord.request()
	}
	return false
}

func (n *txNode[T]) push(b *source.Batch[T]) error {
	if !n.open {
		// room was asked before the input that caused this batch, so a slot is free, unless an upstream operator of this task
		// emits at a barrier; then the overdraft would have no transaction to go to.
		if len(n.slots) == 0 {
			return fault.New(fault.SinkFailed, "no transaction slot is free").At("operator " + n.op)
		}
		last := len(n.slots) - 1
		n.used, n.slots = n.slots[last], n.slots[:last]
		if err := n.w.Begin(n.t.ctx, n.used); err != nil {
			return sinkError(n.op, fmt.Errorf("begin transaction %s: %w", n.used.Name, err))
		}
		n.open = true
	}
	err := n.w.Write(n.t.ctx, b.Values)
	if r, ok := errors.AsType[*sink.Rejected](err); ok {
		return rejected(n.bad, b, r)
	}
	if err != nil {
		return sinkError(n.op, err)
	}
	return nil
}

func (n *txNode[T]) advance(clock) error { return nil }

// failed asks a writer that works in the background for errors.
func (n *txNode[T]) failed() error {
	if n.failing == nil {
		return nil
	}
	if err := n.failing.Err(); err != nil {
		return sinkError(n.op, err)
	}
	return nil
}

// prepare is called at each barrier. A transaction prepared before that has come to nothing since must not ride with the epoch.
func (n *txNode[T]) prepare(epoch uint64) error {
	if err := n.failed(); err != nil || !n.open {
		return err
	}
	h, err := n.w.Prepare(n.t.ctx, epoch)
	if err != nil {
		return sinkError(n.op, fmt.Errorf("prepare transaction %s: %w", n.used.Name, err))
	}
	h.Operator, h.Slot, h.Epoch = n.op, n.used, epoch
	n.open = false
	n.sent = append(n.sent, h)
	return nil
}

// report is every handle the ack of an epoch carries.
func (n *txNode[T]) report() []sink.Handle { return append([]sink.Handle(nil), n.sent...) }

// completed forgets the handles that a complete epoch carries: its record has them now.
func (n *txNode[T]) completed(epoch uint64) {
	kept := n.sent[:0]
	for _, h := range n.sent {
		if h.Epoch > epoch {
			kept = append(kept, h)
		}
	}
	n.sent, n.asked = kept, false
}

// declined fails the task if every slot waits for an epoch and none completes: a restart gives the transactions up. They would
// stay open for ever, and where streams meet the next barrier would wait behind records that nobody takes.
func (n *txNode[T]) declined() error {
	if len(n.sent) == n.t.job.slotsPerTask() {
		return fault.New(fault.SinkFailed, "all %d transactions wait for a checkpoint, and none completes", len(n.sent)).At("operator " + n.op)
	}
	return nil
}

// freed gives back the slot of a transaction whose commit is recorded.
func (n *txNode[T]) freed(s sink.Slot) { n.slots = append(n.slots, s) }
