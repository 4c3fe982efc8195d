package engine

import (
	"fmt"
	"sync/atomic"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/source"
)

// guardNode stands before every operator: it counts its input and remembers which operator runs, so that a panic in user
// code can be given its name. Its cost is one call a batch.
type guardNode[T any] struct {
	t     *task
	op    *opStats
	next  node[T]
	sides []lifecycle // the operator's side outputs
}

// opStats is what is counted of one operator in one task. Written by the task, read by anybody.
type opStats struct {
	name string
	in   atomic.Int64

	poison, late atomic.Int64
}

// op is the statistics of an operator of this task.
func (t *task) op(name string) *opStats {
	for _, o := range t.ops {
		if o.name == name {
			return o
		}
	}
	o := &opStats{name: name}
	t.ops = append(t.ops, o)
	return o
}

func guard[T any](b *builder, v *vertex, n node[T]) node[T] {
	return &guardNode[T]{t: b.t, op: b.t.op(v.name), next: n, sides: b.sides[v]}
}

func (n *guardNode[T]) push(b *source.Batch[T]) error {
	n.t.stats.running.Store(n.op)
	n.op.in.Add(int64(len(b.Values)))
	return n.next.push(b)
}

func (n *guardNode[T]) advance(c clock) error {
	err := n.next.advance(c)
	for i := 0; i < len(n.sides) && err == nil; i++ {
		err = n.sides[i].advance(c)
	}
	return err
}

// recovered turns a panic into a task error with the stack.
func (t *task) recovered(r any) error {
	if err, ok := r.(*fault.Error); ok {
		return err.At("operator " + t.doing()) // a disk behind keyed state failed, or a timer was refused
	}
	return panicError("operator "+t.doing(), r)
}

// place is what the task is called in messages.
func (t *task) place() string { return fmt.Sprintf("%s/%d", t.name, t.index) }

// doing is the operator whose code runs, or ran last.
func (t *task) doing() string {
	if op := t.stats.running.Load(); op != nil {
		return op.name
	}
	return t.name
}
