package operators

import (
	"iter"

	"github.com/weirline/weirline/engine"
)

// Group is what two streams have of one key in one window. Either side may be empty, not both.
type Group[K comparable, A, B any] struct {
	Key   K
	Span  engine.Span
	Left  []A // in no order
	Right []B
}

// Inner is all pairs of one left and one right record.
func (g Group[K, A, B]) Inner() iter.Seq2[*A, *B] {
	return func(yield func(*A, *B) bool) {
		for i := range g.Left {
			for j := range g.Right {
				if !yield(&g.Left[i], &g.Right[j]) {
					return
				}
			}
		}
	}
}

// LeftOuter is Inner, and each left record with nil where there is no right one.
func (g Group[K, A, B]) LeftOuter() iter.Seq2[*A, *B] {
	if len(g.Right) > 0 {
		return g.Inner()
	}
	return func(yield func(*A, *B) bool) {
		for i := range g.Left {
			if !yield(&g.Left[i], nil) {
				return
			}
		}
	}
}

// Outer is LeftOuter, and each right record with nil where there is no left one.
func (g Group[K, A, B]) Outer() iter.Seq2[*A, *B] {
	if len(g.Left) > 0 {
		return g.LeftOuter()
	}
	return func(yield func(*A, *B) bool) {
		for j := range g.Right {
			if !yield(nil, &g.Right[j]) {
				return
			}
		}
	}
}

// gathered is a Group in the state.
type gathered[A, B any] struct {
	Left  []A
	Right []B
}

// WindowJoin gathers the records of two streams by key and window, and calls join with each group when its window ends: once
// for each key that has a record on at least one side, and with w.Lateness again for each late record. join makes of the group
// what it likes: pairs by Inner, LeftOuter or Outer, or something else. It is called by all tasks at once, must not change the
// group's records, and may keep them.
//
// late is the records that came after their window was closed for good; unless it is consumed they are counted and logged.
func WindowJoin[K comparable, A, B, O any](
	name string, a Input[K, A], b Input[K, B], w engine.Tumbling, join func(g Group[K, A, B], emit func(O)),
) (joined engine.Stream[O], late engine.Stream[Either[A, B]]) {
	win := engine.Window(keyed(name, a, b), name, w)
	groups := engine.Aggregate(win,
		func(g *gathered[A, B], e Either[A, B]) {
			if e.IsRight {
				g.Right = append(g.Right, e.Right)
			} else {
				g.Left = append(g.Left, e.Left)
			}
		},
		func(k K, span engine.Span, g *gathered[A, B]) (out []O) {
			join(Group[K, A, B]{k, span, g.Left, g.Right}, func(v O) { out = append(out, v) })
			return out
		})
	joined = engine.FlatMap(groups, name+".out", func(vs []O, out *engine.Out[O]) error {
		for _, v := range vs {
			out.Emit(v)
		}
		return nil
	})
	return joined, win.Late()
}
