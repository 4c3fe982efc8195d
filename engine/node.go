package engine

import (
	"context"
	"errors"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/source"
)

// node is an operator inside a task, typed by its input. All calls come from the task's goroutine.
type node[I any] interface {
	lifecycle

	// push processes a batch. The node may change it in place; the caller recycles it afterwards.
	push(b *source.Batch[I]) error
}

// lifecycle is the part of a node that needs no types.
type lifecycle interface {
	// advance moves event time to w, everything before it having been pushed. The node passes it on when its own work that
	// w allows is done.
	advance(c clock) error
}

// Out takes what a function emits. It belongs to the engine and is valid during the call only. Emit never blocks: what is
// emitted is handed over after the input batch.
type Out[O any] struct {
	b     *source.Batch[O]
	at    int64
	timed bool
}

// Emit sends a record on, with the event time of the record that caused it.
func (o *Out[O]) Emit(v O) {
	o.b.Values = append(o.b.Values, v)
	if o.timed {
		o.b.Times = append(o.b.Times, o.at)
	}
}

// EmitAt sends a record on with an event time of its own. It must not lie before the watermark, or the record is late.
func (o *Out[O]) EmitAt(v O, at time.Time) {
	o.b.AddMicros(v, at.UnixMicro())
	o.timed = true
}

// begin prepares for the outputs of one input batch.
func (o *Out[O]) begin(timed bool) {
	if o.b == nil {
		o.b = new(source.Batch[O])
	}
	o.b.Reset()
	o.timed = timed
}

// timeOf is the event time of record i of b.
func timeOf[T any](b *source.Batch[T], i int) int64 {
	if len(b.Times) == 0 {
		return source.NoTime
	}
	return b.Times[i]
}

// mapNode is Map with different types.
type mapNode[I, O any] struct {
	f    func(I) O
	out  source.Batch[O]
	next node[O]
}

func (n *mapNode[I, O]) push(b *source.Batch[I]) error {
	n.out.Values = n.out.Values[:0]
	for _, v := range b.Values {
		n.out.Values = append(n.out.Values, n.f(v))
	}
	n.out.Times = b.Times
	return n.next.push(&n.out)
}

func (n *mapNode[I, O]) advance(c clock) error { return n.next.advance(c) }

// sameNode is Map where input and output have one type: in place.
type sameNode[T any] struct {
	f    func(T) T
	next node[T]
}

func (n *sameNode[T]) push(b *source.Batch[T]) error {
	f, vs := n.f, b.Values
	for i := range vs {
		vs[i] = f(vs[i])
	}
	return n.next.push(b)
}

func (n *sameNode[T]) advance(c clock) error { return n.next.advance(c) }

// filterNode keeps what f likes, in place.
type filterNode[T any] struct {
	f    func(T) bool
	next node[T]
}

func (n *filterNode[T]) push(b *source.Batch[T]) error {
	f, kept := n.f, 0
	if len(b.Times) == 0 {
		vs := b.Values
		for _, v := range vs {
			vs[kept] = v
			kept += one(f(v))
		}
	} else {
		for i, v := range b.Values {
			b.Values[kept], b.Times[kept] = v, b.Times[i]
			kept += one(f(v))
		}
		b.Times = b.Times[:kept]
	}
	b.Values = b.Values[:kept]
	if kept == 0 {
		return nil
	}
	return n.next.push(b)
}

// one is 1 for true. It compiles to an instruction: a branch on what a filter says would often be mispredicted.
func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (n *filterNode[T]) advance(c clock) error { return n.next.advance(c) }

// flatNode is FlatMap and TryMap: any number of outputs, and errors that are poison.
type flatNode[I, O any] struct {
	f    func(I, *Out[O]) error
	bad  *poisoner
	out  Out[O]
	next node[O]
}

func (n *flatNode[I, O]) push(b *source.Batch[I]) error {
	n.out.begin(len(b.Times) > 0)
	for i, v := range b.Values {
		n.out.at = timeOf(b, i)
		had := len(n.out.b.Values)
		if err := n.f(v, &n.out); err != nil {
			n.out.b.Values = n.out.b.Values[:had] // what a failed record emitted is not kept
			if n.out.timed && len(n.out.b.Times) > had {
				n.out.b.Times = n.out.b.Times[:had]
			}
			if err := n.bad.record(v, n.out.at, 0, err); err != nil {
				return err
			}
		}
	}
	if len(n.out.b.Values) == 0 {
		return nil
	}
	return n.next.push(n.out.b)
}

func (n *flatNode[I, O]) advance(c clock) error { return n.next.advance(c) }

// teeNode gives every consumer of a stream its own copy, since nodes work in place.
type teeNode[T any] struct {
	nexts []node[T]
	copy  source.Batch[T]
}

func (n *teeNode[T]) push(b *source.Batch[T]) error {
	last := len(n.nexts) - 1
	for _, next := range n.nexts[:last] {
		n.copy.Values = append(n.copy.Values[:0], b.Values...)
		n.copy.Times = append(n.copy.Times[:0], b.Times...)
		if err := next.push(&n.copy); err != nil {
			return err
		}
	}
	return n.nexts[last].push(b)
}

func (n *teeNode[T]) advance(c clock) error {
	for _, next := range n.nexts {
		if err := next.advance(c); err != nil {
			return err
		}
	}
	return nil
}

// dropNode ends a stream that nobody consumes.
type dropNode[T any] struct{}

func (dropNode[T]) push(*source.Batch[T]) error { return nil }
func (dropNode[T]) advance(clock) error         { return nil }

// userError gives an error of user code its code and operator, unless it already has one or is a cancellation.
func userError(op string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || fault.CodeOf(err) != "" {
		return err
	}
	return fault.Wrap(fault.UserError, err, "a function returned an error").At("operator " + op)
}
