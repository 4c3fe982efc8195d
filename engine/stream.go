package engine

import (
	"reflect"
	"time"

	"github.com/weirline/weirline/internal/flight"
	"github.com/weirline/weirline/internal/sizes"
	"github.com/weirline/weirline/source"
)

// Stream is a stream of records of one type: a place in the graph. It is a small value.
type Stream[T any] struct {
	p   *Pipeline
	ups []upstream
}

// upstream is one port a stream comes from and how its records travel.
type upstream struct {
	v       *vertex
	port    string
	kind    linkKind
	connect connector
	flight  func() (flight.Codec, error) // nil if records of this type or way are never stored
}

// connector makes the sending side of an exchange behind operator v in one task: a node[T], and the same thing as output.
type connector func(b *builder, v *vertex, chans []*channel) (any, output, error)

func streamOf[T any](p *Pipeline, v *vertex, port string) Stream[T] {
	return Stream[T]{p: p, ups: []upstream{{v: v, port: port, kind: linkForward, connect: connectPlain[T], flight: flight.Of[T]}}}
}

// connectPlain makes edges without a key: to the one receiver, or to all in turn.
func connectPlain[T any](b *builder, _ *vertex, chans []*channel) (any, output, error) {
	var r router[T] = oneRouter[T]{}
	if len(chans) > 1 {
		r = &turnRouter[T]{turn: b.t.index % len(chans)}
	}
	e := newEdge(b.t, r, chans)
	return e, e, nil
}

func newEdge[T any](t *task, r router[T], chans []*channel) *edge[T] {
	e := &edge[T]{
		router: r, parts: make([]target[T], len(chans)), pool: poolFor[T](t.job), flow: clock{at: minTime},
		weigh: sizes.Of[T](), most: batchOf[T](t.job.cfg.BatchSize), linger: t.job.cfg.Linger,
	}
	e.size = e.most
	for i, c := range chans {
		e.parts[i].ch, e.parts[i].sent = c, e.flow
	}
	return e
}

// maxBatchBytes bounds a batch by the size of its values, without what they point to.
const maxBatchBytes = 64 << 10

// batchOf is how many records of T go into a batch.
func batchOf[T any](most int) int {
	return max(1, min(most, maxBatchBytes/max(1, int(reflect.TypeFor[T]().Size()))))
}

// receiveNode takes batches from an exchange and feeds them to a node.
func receiveNode[T any](j *job, n node[T]) func(any) error {
	p := poolFor[T](j)
	return func(payload any) error {
		b := payload.(*source.Batch[T])
		err := n.push(b)
		p.put(b)
		return err
	}
}

// Map changes each record. f is called by all tasks at once, so it must not touch shared data without a lock. A panic in f
// fails the task; use TryMap if a record may be bad.
func Map[I, O any](s Stream[I], name string, f func(I) O) Stream[O] {
	v := add[I](s, name, "map")
	v.build = func(b *builder) (any, error) {
		next, err := nextOf[O](b, v, "")
		if err != nil {
			return nil, err
		}
		if same, ok := any(f).(func(I) I); ok {
			return guard[I](b, v, &sameNode[I]{f: same, next: next.(node[I])}), nil
		}
		return guard[I](b, v, &mapNode[I, O]{f: f, next: next}), nil
	}
	return streamOf[O](s.p, v, "")
}

// TryMap changes each record or says why it can't: the record is then poison and goes by Config.Poison. f is called by all
// tasks at once.
func TryMap[I, O any](s Stream[I], name string, f func(I) (O, error)) Stream[O] {
	return flat(s, name, "map", func(v I, out *Out[O]) error {
		o, err := f(v)
		if err == nil {
			out.Emit(o)
		}
		return err
	})
}

// FlatMap turns each record into any number of others. An error makes the record poison, and what it had emitted is not
// sent. f is called by all tasks at once.
func FlatMap[I, O any](s Stream[I], name string, f func(I, *Out[O]) error) Stream[O] {
	return flat(s, name, "flat-map", f)
}

func flat[I, O any](s Stream[I], name, kind string, f func(I, *Out[O]) error) Stream[O] {
	v := add[I](s, name, kind)
	v.canPoison = true
	v.build = func(b *builder) (any, error) {
		bad, next, err := poisonAndNext[O](b, v)
		if err != nil {
			return nil, err
		}
		return guard[I](b, v, &flatNode[I, O]{f: f, bad: bad, next: next}), nil
	}
	return streamOf[O](s.p, v, "")
}

// Filter keeps the records f likes. f is called by all tasks at once.
func (s Stream[T]) Filter(name string, f func(T) bool) Stream[T] {
	v := add[T](s, name, "filter")
	v.borrowed = s.borrowed()
	v.build = func(b *builder) (any, error) {
		next, err := nextOf[T](b, v, "")
		if err != nil {
			return nil, err
		}
		return guard[T](b, v, &filterNode[T]{f: f, next: next}), nil
	}
	return streamOf[T](s.p, v, "")
}

// Union is all records of several streams, in no order among them. Its event time is the lowest of theirs.
func Union[T any](first Stream[T], others ...Stream[T]) Stream[T] {
	out := Stream[T]{p: first.p, ups: append([]upstream(nil), first.ups...)}
	for _, o := range others {
		out.ups = append(out.ups, o.ups...)
	}
	return out
}

// Rebalance deals the records of a stream evenly to all tasks of what follows; their order is lost.
func (s Stream[T]) Rebalance() Stream[T] {
	out := Stream[T]{p: s.p, ups: append([]upstream(nil), s.ups...)}
	for i := range out.ups {
		out.ups[i].kind = linkRebalance
		out.ups[i].connect = connectPlain[T]
	}
	return out
}

// Broadcast gives every record of a stream to all tasks of what follows, in the order of the task that sends it.
func (s Stream[T]) Broadcast() Stream[T] {
	s.p.checkExchange(reflect.TypeFor[T]())
	out := Stream[T]{p: s.p, ups: append([]upstream(nil), s.ups...)}
	for i := range out.ups {
		out.ups[i].kind, out.ups[i].flight = linkBroadcast, nil
		out.ups[i].connect = func(b *builder, _ *vertex, chans []*channel) (any, output, error) {
			e := newEdge(b.t, allRouter[T]{}, chans)
			return e, e, nil
		}
	}
	return out
}

// Parallel sets how many tasks the operator that made the stream has; operators after it follow the job's setting again
// unless they say otherwise.
func (s Stream[T]) Parallel(n int) Stream[T] {
	if n < 1 {
		s.p.errorf("Parallel(%d): use 1 or more", n)
		return s
	}
	for _, u := range s.ups {
		u.v.parallelism = n
	}
	return s
}

// Watermarks says how event time moves on.
type Watermarks struct {
	// Delay is how far out of order records of one split may be: a record that is older than the newest of its split by
	// more is late. 0 = in order.
	Delay time.Duration

	// Idle is after how long without records a split no longer holds the others back; the time it is paused or its task is
	// blocked doesn't count. 0 = never.
	Idle time.Duration

	// Align names a group of sources whose splits are read at about the same event time; "" = none. MaxDrift is how far a
	// split may be ahead of the group's slowest; 0 = 1 min.
	Align    string
	MaxDrift time.Duration
}

// EventTime gives each record its event time and makes watermarks from them, one clock per split. f = nil keeps the times
// the source gave. f is called by all tasks at once. Place it before any exchange: clocks are then the splits' own.
func (s Stream[T]) EventTime(f func(T) time.Time, w Watermarks) Stream[T] {
	name := "event-time"
	if len(s.ups) == 1 && s.ups[0].v != nil {
		name = s.ups[0].v.name + ".time"
	}
	v := add[T](s, name, "event-time")
	v.borrowed = s.borrowed()
	if w.Delay < 0 || w.Idle < 0 || w.MaxDrift < 0 {
		s.p.errorf("EventTime: Delay, Idle and MaxDrift can't be negative")
	}
	s.p.timed(v, w)
	v.build = func(b *builder) (any, error) {
		next, err := nextOf[T](b, v, "")
		if err != nil {
			return nil, err
		}
		n := &timeNode[T]{f: f, next: next, clocks: newClocks(w, next)}
		n.clocks.still = b.t.job.cfg.Batch
		b.t.addClocks(n.clocks)
		return guard[T](b, v, n), nil
	}
	return streamOf[T](s.p, v, "")
}

// add makes an operator that takes the stream's records.
func add[I any](s Stream[I], name, kind string) *vertex {
	v := &vertex{}
	if s.p == nil {
		panic("engine: operator " + name + " on a Stream that no pipeline made")
	}
	v.receive = func(j *job, n any) func(any) error { return receiveNode(j, n.(node[I])) }
	s.p.add(name, kind, s.ups, v)
	return v
}

func (s Stream[T]) borrowed() bool {
	for _, u := range s.ups {
		if u.v != nil && u.v.borrowed {
			return true
		}
	}
	return false
}
