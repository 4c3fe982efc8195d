package operators

import (
	"errors"
	"slices"
	"sort"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/state"
)

// Interval is how far the time of a right record may be from that of a left one: at least Lower after it and at most Upper,
// both inclusive. Negative values are before it.
type Interval struct{ Lower, Upper time.Duration }

// IntervalJoin pairs each record of a with those of b that have the same key and a time between a's plus Lower and a's plus
// Upper. A pair is emitted once, when the second of the two comes, with the later time of the two. join is called by all tasks
// at once.
//
// A record is kept until event time says that nothing it could be paired with will come. late is the records at or before the
// watermark, which are not joined; they are counted as late, as those of windows are. A record without event time is poison.
func IntervalJoin[K comparable, A, B, O any](
	name string, a Input[K, A], b Input[K, B], in Interval, join func(a A, b B) O,
) (joined engine.Stream[O], late engine.Stream[Either[A, B]]) {
	out := engine.Process(keyed(name, a, b), name, func() *intervals[K, A, B, O] {
		return &intervals[K, A, B, O]{join: join, lower: in.Lower.Microseconds(), upper: in.Upper.Microseconds()}
	})
	return Split(name+".out", out)
}

// timed is a record with its event time in microseconds.
type timed[T any] struct {
	At int64
	V  T
}

// intervals keeps both sides by time.
type intervals[K comparable, A, B, O any] struct {
	join         func(A, B) O
	lower, upper int64
	left         state.Value[[]timed[A]] // sorted by time
	right        state.Value[[]timed[B]]
}

func (p *intervals[K, A, B, O]) Open(s *engine.Setup[K]) error {
	if p.lower > p.upper {
		return errors.New("the interval's Lower is greater than its Upper")
	}
	p.left, p.right = state.NewValue[[]timed[A]](s, "left"), state.NewValue[[]timed[B]](s, "right")
	return nil
}

var errNoTime = errors.New("the record has no event time; call EventTime before the join")

func (p *intervals[K, A, B, O]) Process(ctx *engine.Ctx[K], e Either[A, B], out *engine.Out[Either[O, Either[A, B]]]) error {
	when, ok := ctx.Time()
	if !ok {
		return errNoTime
	}
	mark, started := ctx.Watermark()
	if started && !when.After(mark) {
		ctx.CountLate()
		out.Emit(Either[O, Either[A, B]]{Right: e, IsRight: true})
		return nil
	}
	at := when.UnixMicro()
	emit := func(a A, b B, other int64) {
		out.EmitAt(Either[O, Either[A, B]]{Left: p.join(a, b)}, time.UnixMicro(max(at, other)))
	}
	if e.IsRight {
		as, _ := p.left.Get()
		for _, a := range between(as, at-p.upper, at-p.lower) {
			emit(a.V, e.Right, a.At)
		}
		return keep(ctx, p.right, timed[B]{at, e.Right}, -p.lower)
	}
	bs, _ := p.right.Get()
	for _, b := range between(bs, at+p.lower, at+p.upper) {
		emit(e.Left, b.V, b.At)
	}
	return keep(ctx, p.left, timed[A]{at, e.Left}, p.upper)
}

// OnTimer forgets what can't be paired any more.
func (p *intervals[K, A, B, O]) OnTimer(ctx *engine.Ctx[K], _ time.Time, _ *engine.Out[Either[O, Either[A, B]]]) error {
	slack := (p.upper - p.lower) / 8 // forget several at a time
	forget(ctx, p.left, p.upper, slack)
	forget(ctx, p.right, -p.lower, slack)
	return nil
}

// between is the records from lo to hi, both inclusive.
func between[T any](s []timed[T], lo, hi int64) []timed[T] {
	from := sort.Search(len(s), func(i int) bool { return s[i].At >= lo })
	to := from + sort.Search(len(s)-from, func(i int) bool { return s[from+i].At > hi })
	return s[from:to]
}

// keep stores a record until event time has reached its own time plus horizon.
func keep[K comparable, T any](ctx *engine.Ctx[K], side state.Value[[]timed[T]], r timed[T], horizon int64) error {
	until := time.UnixMicro(r.At + horizon)
	if mark, ok := ctx.Watermark(); ok && !until.After(mark) {
		return nil
	}
	s := side.Ref()
	i := len(*s)
	for i > 0 && (*s)[i-1].At > r.At {
		i--
	}
	*s = slices.Insert(*s, i, r)
	if i == 0 {
		ctx.At(until)
	}
	return nil
}

// forget drops the records whose horizon event time has reached, and comes back for the next.
func forget[K comparable, T any](ctx *engine.Ctx[K], side state.Value[[]timed[T]], horizon, slack int64) {
	s, ok := side.Get()
	mark, started := ctx.Watermark()
	if !ok || !started {
		return
	}
	n := sort.Search(len(s), func(i int) bool { return time.UnixMicro(s[i].At + horizon).After(mark) })
	if n == len(s) {
		side.Clear()
		return
	}
	if n > 0 {
		side.Set(slices.Delete(s, 0, n))
	}
	ctx.At(time.UnixMicro(s[0].At + horizon + slack))
}
