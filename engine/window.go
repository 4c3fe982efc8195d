package engine

import (
	"errors"
	"reflect"
	"time"

	"github.com/weirline/weirline/source"
	"github.com/weirline/weirline/state"
)

// Tumbling windows follow each other without gap or overlap, aligned to 1970-01-01 UTC plus Offset.
type Tumbling struct {
	// Size is the length of each window. Required.
	Size time.Duration

	// Offset shifts the windows. 0 = none.
	Offset time.Duration

	// Lateness is how long after its end a window takes late records: each makes it emit again. 0 = not at all.
	Lateness time.Duration
}

// Span is a window's time: Start inclusive, End exclusive, UTC.
type Span struct{ Start, End time.Time }

// Windowed is a keyed stream cut into windows of event time.
type Windowed[K comparable, I any] struct {
	k Keyed[K, I]
	w Tumbling
	v *vertex
}

// Window cuts a keyed stream into windows; Aggregate says what to do with them. Records without event time are poison.
func Window[K comparable, I any](k Keyed[K, I], name string, w Tumbling) Windowed[K, I] {
	if w.Size < time.Microsecond || w.Lateness < 0 || w.Offset < 0 || w.Offset >= max(w.Size, 1) {
		k.s.p.errorf("window %q: Size must be at least a microsecond, Lateness not negative, Offset between 0 and Size", name)
		w.Size = max(w.Size, time.Microsecond)
	}
	v := add[I](k.s, name, "window")
	v.canPoison = true
	v.missing = "Aggregate"
	return Windowed[K, I]{k: k, w: w, v: v}
}

// Late is the stream of records that came after their window was closed for good. Unless it is consumed they are counted
// and logged.
func (w Windowed[K, I]) Late() Stream[I] { return streamOf[I](w.k.s.p, w.v, portLate) }

// Aggregate keeps one accumulator a key and window, starting from its zero value. add takes a record in; emit makes the
// result when event time has passed the window's end, and again for each record within the allowed lateness. Both are
// called by all tasks at once, never at once for one key. emit must not keep the accumulator.
func Aggregate[K comparable, I, A, O any](w Windowed[K, I], add func(acc *A, v I), emit func(key K, span Span, acc *A) O) Stream[O] {
	v := w.v
	v.missing = ""
	if err := state.Check(reflect.TypeFor[A]()); err != nil {
		w.k.s.p.typeErrorf(err, "Aggregate: type %T can't be an accumulator", *new(A))
	}
	v.build = func(b *builder) (any, error) {
		bad, next, err := poisonAndNext[O](b, v)
		if err != nil {
			return nil, err
		}
		late, err := nextOf[I](b, v, portLate)
		if err != nil {
			return nil, err
		}
		n := &windowNode[K, I, A, O]{
			keyed: newKeyedOp(b, v, w.k.hash, w.k.key), add: add, emit: emit, bad: bad, next: next, late: late, t: b.t,
			size: w.w.Size.Microseconds(), offset: w.w.Offset.Microseconds(), lateness: w.w.Lateness.Microseconds(),
		}
		_, n.dropLate = late.(dropNode[I])
		n.panes = state.NewPanes[A, K](n.keyed.scope, "panes")
		n.mark = n.keyed.restored
		n.first, n.last = n.keyed.scope.Groups()
		b.t.works = append(b.t.works, n.work)
		b.t.deadEnds = append(b.t.deadEnds, late)
		return guard[I](b, v, n), n.keyed.declared(b.t)
	}
	return streamOf[O](w.k.s.p, v, "")
}

var errNoTime = errors.New("the record has no event time; call EventTime before the window")

// windowNode aggregates. Each window start has a table of its own, so that a window that is over is emitted table by table
// and dropped whole, without a timer for each key.
type windowNode[K comparable, I, A, O any] struct {
	keyed    *keyedOp[K, I]
	add      func(*A, I)
	emit     func(K, Span, *A) O
	bad      *poisoner
	next     node[O]
	late     node[I]
	dropLate bool
	t        *task

	size, offset, lateness int64 // microseconds
	first, last            int   // key groups of this task
	panes                  *state.Panes[K, A]
	mark                   int64 // event time reached
	target                 clock // event time to pass on when the windows it ends have been emitted
	firing                 []fire
	out                    Out[O]
	lates                  source.Batch[I]
}

// fire is a window being emitted, one key group at a time.
type fire struct {
	start int64
	group int
	drop  bool // its lateness is over: forget it
	emit  bool
}

// start is the start of the window that at lies in.
func (n *windowNode[K, I, A, O]) start(at int64) int64 {
	m := (at - n.offset) % n.size
	if m < 0 {
		m += n.size
	}
	return at - m
}

func (n *windowNode[K, I, A, O]) push(b *source.Batch[I]) error {
	if len(b.Times) == 0 {
		return n.noTime(b)
	}
	ks, hs := n.keyed.keysOf(b)
	scope, panes, add := n.keyed.scope, n.panes, n.add
	n.out.begin(true)
	n.lates.Reset()
	lo, hi := int64(0), int64(0) // bounds of the window of the last record
	open := n.mark - n.lateness  // a window that ends at or before open+1 is closed for good
	if n.mark == minTime {
		open = minTime
	}
	for i, v := range b.Values {
		at := b.Times[i]
		if at < lo || at >= hi {
			if at == source.NoTime {
				if err := n.bad.keyed(v, ks[i], at, errNoTime); err != nil {
					return err
				}
				continue
			}
			lo = n.start(at)
			hi = lo + n.size
		}
		if hi-1 <= open {
			n.lates.AddMicros(v, at)
			continue
		}
		scope.SetKey(ks[i], hs[i])
		acc := panes.At(lo)
		add(acc, v)
		if hi-1 <= n.mark {
			n.out.at = hi - 1
			n.out.Emit(n.emit(ks[i], span(lo, n.size), acc))
		}
	}
	return n.after()
}

// after sends what the batch caused: results of late but allowed records, and records that are too late.
func (n *windowNode[K, I, A, O]) after() error {
	if k := len(n.lates.Values); k > 0 {
		n.t.lateRecords(n.bad.stats, k, n.dropLate)
		if err := n.late.push(&n.lates); err != nil {
			return err
		}
	}
	if len(n.out.b.Values) > 0 {
		return n.next.push(n.out.b)
	}
	return nil
}

func (n *windowNode[K, I, A, O]) noTime(b *source.Batch[I]) error {
	for i, v := range b.Values {
		if err := n.bad.record(v, timeOf(b, i), "", errNoTime); err != nil {
			return err
		}
	}
	return nil
}

// advance begins to emit the windows that c ends. The clock goes on when all is emitted, by work.
func (n *windowNode[K, I, A, O]) advance(c clock) error {
	if c.kind != clockActive && c.kind != clockFinished {
		return n.next.advance(c)
	}
	if c.kind == clockFinished {
		c.at = maxTime
	}
	if c.at <= n.mark && c.kind == clockActive {
		return n.next.advance(clock{kind: clockActive, at: n.mark})
	}
	c.at = max(c.at, n.mark)
	for _, start := range n.panes.Starts() {
		last := start + n.size - 1
		if last > c.at {
			break
		}
		f := fire{start: start, group: n.first, emit: last > n.mark, drop: last <= c.at-n.lateness}
		if f.emit || f.drop {
			n.firing = append(n.firing, f)
		}
	}
	n.mark, n.target = c.at, c
	return n.work()
}

// work emits what is due as long as what follows has room. The task takes no input before all is emitted.
func (n *windowNode[K, I, A, O]) work() error {
	for len(n.firing) > 0 {
		if !n.t.hasRoom() {
			n.t.busyWork = true
			return nil
		}
		f := &n.firing[0]
		if err := n.fireGroup(f); err != nil {
			return err
		}
		if f.group++; f.group > n.last {
			if f.drop {
				n.panes.Drop(f.start)
			}
			n.firing = n.firing[1:]
		}
	}
	if n.target.kind == clockNothing {
		return nil
	}
	c := n.target
	n.target = clock{}
	n.keyed.reached(c) // not before: what is restored at a time has emitted all that ended by then
	return n.next.advance(c)
}

func (n *windowNode[K, I, A, O]) fireGroup(f *fire) error {
	n.out.begin(true)
	sp := span(f.start, n.size)
	n.out.at = f.start + n.size - 1
	each := func(k K, acc *A) error {
		if f.emit {
			n.out.Emit(n.emit(k, sp, acc))
		}
		return nil
	}
	visit := n.panes.EachGroup
	if f.drop {
		visit = n.panes.FireGroup
	}
	if err := visit(f.start, f.group, each); err != nil {
		return err
	}
	if len(n.out.b.Values) == 0 {
		return nil
	}
	return n.next.push(n.out.b)
}

func span(start, size int64) Span {
	return Span{Start: time.UnixMicro(start).UTC(), End: time.UnixMicro(start + size).UTC()}
}
