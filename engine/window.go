package engine

import (
	"errors"
	"reflect"
	"slices"
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
	return aggregate(w.k, w.v, Sliding{Size: w.w.Size, Every: w.w.Size, Offset: w.w.Offset, Lateness: w.w.Lateness}, add, nil, emit)
}

func aggregate[K comparable, I, A, O any](
	k Keyed[K, I], v *vertex, w Sliding, add func(*A, I), merge func(into, from *A), emit func(K, Span, *A) O,
) Stream[O] {
	v.missing = ""
	if err := state.Check(reflect.TypeFor[A]()); err != nil {
		k.s.p.typeErrorf(err, "Aggregate: type %T can't be an accumulator", *new(A))
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
			keyed: newKeyedOp(b, v, k.hash, k.key), add: add, emit: emit, bad: bad, next: next, late: late, t: b.t, spans: spansOf(w),
		}
		_, n.dropLate = late.(dropNode[I])
		n.panes = state.NewPanes[A, K](n.keyed.scope, "panes")
		if err := n.keyed.declared(b.t); err != nil {
			return nil, err
		}
		if merge != nil {
			n.ranges = state.NewRanges(n.panes, n.step, n.offset, n.count(), merge)
		}
		n.mark = n.keyed.restored
		n.first, n.last = n.keyed.scope.Groups()
		if b.t.restore != nil {
			n.keyed.part.ahead = b.t.restore.ahead(v.name, n.first, n.last, n.mark)
		}
		b.t.works = append(b.t.works, n.work)
		b.sides[v] = append(b.sides[v], late)
		return guard[I](b, v, n), nil
	}
	return streamOf[O](k.s.p, v, "")
}

var errNoTime = errors.New("the record has no event time; call EventTime before the window")

// windowNode aggregates. Each pane has a table of its own, so that a window that is over is emitted key group by key group
// and its panes are dropped whole, without a timer for each key. A tumbling window is one pane; a sliding one is merged from
// several when it fires.
type windowNode[K comparable, I, A, O any] struct {
	keyed    *keyedOp[K, I]
	add      func(*A, I)
	emit     func(K, Span, *A) O
	bad      *poisoner
	next     node[O]
	late     node[I]
	dropLate bool
	t        *task

	spans
	first, last int // key groups of this task
	panes       *state.Panes[K, A]
	ranges      *state.Ranges[K, A] // nil if windows don't overlap
	mark        int64               // event time reached
	target      clock               // event time to pass on when the windows it ends have been emitted
	firing      []fire
	out         Out[O]
	lates       source.Batch[I]
}

// fire is a window being emitted, one key group at a time.
type fire struct {
	start int64
	group int
	drop  bool // its lateness is over: forget what no later window needs
	emit  bool
}

func (n *windowNode[K, I, A, O]) push(b *source.Batch[I]) error {
	if len(b.Times) == 0 {
		return n.noTime(b)
	}
	ks, hs := n.keyed.keysOf(b)
	scope, panes, add := n.keyed.scope, n.panes, n.add
	n.out.begin(true)
	n.lates.Reset()
	lo, hi := int64(0), int64(0)    // bounds of the pane of the last record
	over, due := int64(0), int64(0) // last moments of the last and the first window it's part of
	closed := n.closed(n.mark)
	for i, v := range b.Values {
		at := b.Times[i]
		if at < lo || at >= hi {
			if at == source.NoTime {
				if err := n.bad.keyed(v, ks[i], at, errNoTime); err != nil {
					return err
				}
				continue
			}
			lo = n.pane(at)
			hi = lo + n.step
			over, due = n.end(n.lastOver(lo)), n.end(n.firstOver(lo))
		}
		closed, mark := closed, n.mark
		if ahead := n.keyed.part.ahead; ahead != nil {
			mark = max(mark, ahead[state.Group(hs[i], n.t.job.cfg.KeyGroups)-n.first])
			closed = n.closed(mark)
		}
		if over <= closed {
			n.lates.AddMicros(v, at)
			continue
		}
		scope.SetKey(ks[i], hs[i])
		add(panes.At(lo), v)
		if due <= mark {
			n.again(lo, closed, mark, ks[i], v)
		}
	}
	return n.after()
}

// again emits the windows anew that a late but allowed record belongs to and that have been emitted before.
func (n *windowNode[K, I, A, O]) again(pane, closed, mark int64, k K, v I) {
	if n.ranges != nil {
		n.ranges.Late(pane, func(a *A) { n.add(a, v) })
	}
	for w := n.firstOver(pane); w <= pane && n.end(w) <= mark; w += n.every {
		if n.end(w) <= closed {
			continue
		}
		acc := n.panes.At(pane)
		if n.ranges != nil {
			acc = n.ranges.Get(w, n.count())
		}
		n.out.at = n.end(w)
		n.out.Emit(n.emit(k, n.span(w), acc))
	}
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
		if err := n.bad.record(v, timeOf(b, i), 0, errNoTime); err != nil {
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
	if n.ends(n.mark, c.at) || n.ends(n.closed(n.mark), n.closed(c.at)) {
		n.collect(c.at)
	}
	n.mark, n.target = c.at, c
	return n.work()
}

// collect lists the windows that end, and those whose lateness ends, when event time moves to at.
func (n *windowNode[K, I, A, O]) collect(at int64) {
	closed, w := n.closed(at), int64(minTime)
	for _, pane := range n.panes.Starts() {
		for w = max(w, n.firstOver(pane)); w <= pane && n.end(w) <= at; w += n.every {
			f := fire{start: w, group: n.first, emit: n.end(w) > n.mark, drop: n.end(w) <= closed && w == n.lastOver(pane)}
			if f.emit || f.drop {
				n.firing = append(n.firing, f)
			}
		}
	}
}

// work emits what is due as long as what follows has room. The task takes no input before all is emitted.
func (n *windowNode[K, I, A, O]) work() error {
	for len(n.firing) > 0 {
		if !n.t.hasRoom() {
			n.t.busyWork = true
			return nil
		}
		f := &n.firing[0]
		if err := n.fireGroup(*f); err != nil {
			return err
		}
		if f.group++; f.group > n.last {
			n.dropPanes(f)
			n.firing = n.firing[1:]
		}
	}
	if n.target.kind == clockNothing {
		return nil
	}
	c := n.target
	n.target = clock{}
	if ahead := n.keyed.part.ahead; ahead != nil && slices.Max(ahead) <= n.mark {
		n.keyed.part.ahead = nil
	}
	n.keyed.reached(c) // not before: what is restored at a time has emitted all that ended by then
	return n.next.advance(c)
}

func (n *windowNode[K, I, A, O]) fireGroup(f fire) error {
	emit := f.emit
	if ahead := n.keyed.part.ahead; ahead != nil && n.end(f.start) <= ahead[f.group-n.first] {
		emit = false // it was, before the restore; the group is visited still: ranges merge for windows to come what they visit
	}
	n.out.begin(true)
	sp := n.span(f.start)
	n.out.at = n.end(f.start)
	each := func(k K, acc *A) error {
		if emit {
			n.out.Emit(n.emit(k, sp, acc))
		}
		return nil
	}
	if err := n.visit(&f, each); err != nil {
		return err
	}
	if len(n.out.b.Values) == 0 {
		return nil
	}
	return n.next.push(n.out.b)
}

// visit goes through the keys of a window's group, and empties the group of the panes that are over.
func (n *windowNode[K, I, A, O]) visit(f *fire, each func(K, *A) error) error {
	switch {
	case n.ranges != nil:
		if f.emit {
			if err := n.ranges.EachGroup(f.start, n.count(), f.group, each); err != nil {
				return err
			}
		}
		for pane := f.start; f.drop && pane < f.start+n.every; pane += n.step {
			n.ranges.ClearGroup(pane, f.group)
		}
		return nil
	case f.drop:
		return n.panes.FireGroup(f.start, f.group, each)
	}
	return n.panes.EachGroup(f.start, f.group, each)
}

// dropPanes removes the panes whose last window f was.
func (n *windowNode[K, I, A, O]) dropPanes(f *fire) {
	for pane := f.start; f.drop && pane < f.start+n.every; pane += n.step {
		if n.panes.Drop(pane); n.ranges != nil {
			n.ranges.Drop(pane)
		}
	}
}
