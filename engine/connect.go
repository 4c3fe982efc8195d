package engine

import (
	"slices"

	"github.com/weirline/weirline/source"
)

// BroadcastProcessor is a Processor that has a second input beside the keyed one: a stream whose records go to all tasks,
// such as rules or rates. What it keeps of them belongs into a [state.Broadcast].
type BroadcastProcessor[K comparable, I, B, O any] interface {
	Processor[K, I, O]

	// ProcessBroadcast handles a record that all tasks get. It sees no key: keyed state and timers must not be touched. What
	// it emits has the record's event time, or the first moment after the watermark if that is later. An error makes the
	// record poison, in each task.
	ProcessBroadcast(m *Moment, v B, out *Out[O]) error
}

// Connect runs user code on a keyed stream and a stream that is broadcast to all its tasks. newP is called once a task; timers
// are as in Process.
//
// At a checkpoint all tasks have had the same records of all, and if one task made them (Parallel(1)), in the same order. How
// they mix with the keyed records isn't defined, and may be another way after a restart. Event time is that of the keyed
// stream alone; the broadcast one needs none.
func Connect[K comparable, I, B, O any, P BroadcastProcessor[K, I, B, O]](k Keyed[K, I], all Stream[B], name string, newP func() P) Stream[O] {
	v := &vertex{canPoison: true, aside: true}
	v.receive = func(j *job, n any) func(any) error { return receiveNode(j, n.(node[I])) }
	k.s.p.add(name, "connect", slices.Concat(k.s.ups, all.Broadcast().ups), v)
	v.build = func(b *builder) (any, error) {
		p := newP()
		n, err := newProcessNode[K, I, O](b, v, k, p)
		b.t.aside = receiveNode(b.t.job, guard[B](b, v, &asideNode[K, I, B, O]{processNode: n, process: p.ProcessBroadcast}))
		return guard[I](b, v, n), err
	}
	return streamOf[O](k.s.p, v, "")
}

// asideNode is the second input of a processNode.
type asideNode[K comparable, I, B, O any] struct {
	*processNode[K, I, O]
	process func(*Moment, B, *Out[O]) error
}

func (n *asideNode[K, I, B, O]) push(b *source.Batch[B]) error {
	m := Moment{watermark: n.ctx.watermark}
	n.out.begin(len(b.Times) > 0 || m.watermark != minTime)
	for i, v := range b.Values {
		m.at = timeOf(b, i)
		if n.out.at = m.at; m.watermark != minTime {
			n.out.at = max(m.at, m.watermark+1)
		}
		if err := n.process(&m, v, &n.out); err != nil {
			if err := n.bad.record(v, m.at, 0, err); err != nil {
				return err
			}
		}
	}
	return n.emit()
}
