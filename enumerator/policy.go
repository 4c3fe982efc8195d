package enumerator

import (
	"context"

	"github.com/weirline/weirline/source"
)

// Policy says which reader gets which split.
type Policy int

const (
	// Pull gives a reader one split when it comes up, and another when it has none left to read. Readers that found
	// nothing get theirs as soon as there is one, the lowest number first. For input that ends: fast readers do more.
	Pull Policy = iota

	// Spread gives every split away as soon as it is known, to the reader with the fewest, the lowest number among
	// equals. It waits until all readers of the operator are up, so that neither a start nor the restart of one reader
	// leaves another with everything. For input that doesn't end, such as the partitions of a queue.
	Spread
)

// Deal assigns by a policy; an Enumerator written by hand calls it from Assign. parallelism is Task.Parallelism, the number
// of readers Spread waits for; 0 doesn't wait. The outcome depends on the arguments alone.
func Deal[S source.Split](p Policy, parallelism int, ev source.Event[S], to *source.Assignments[S]) {
	if p == Spread {
		spread(parallelism, to)
		return
	}
	if ev.Kind == source.Wanted {
		giveFirst(ev.Reader, to)
	}
	for _, r := range to.Readers() {
		if to.Load(r) == 0 {
			giveFirst(r, to)
		}
	}
}

func giveFirst[S source.Split](reader int, to *source.Assignments[S]) {
	if free := to.Unassigned(); len(free) > 0 {
		to.Give(reader, free[0])
	}
}

func spread[S source.Split](parallelism int, to *source.Assignments[S]) {
	if len(to.Readers()) < parallelism {
		return
	}
	for len(to.Unassigned()) > 0 {
		r, ok := to.LeastLoaded()
		if !ok {
			return
		}
		giveFirst(r, to)
	}
}

// Options change what an enumerator does with the splits it finds. The zero value is Pull, not ordered.
type Options struct {
	Policy Policy // who gets which split; unset = Pull

	// Ordered says that splits are listed in the order of their event times; see source.Ordered.
	Ordered bool
}

// With gives an enumerator a policy in place of its own, and declares order. Everything else e can do stays visible.
func With[S source.Split](o Options, e source.NewEnumerator[S]) source.NewEnumerator[S] {
	return func(ctx context.Context, t source.Task) (source.Enumerator[S], error) {
		inner, err := e(ctx, t)
		if err != nil {
			return nil, err
		}
		return &shaped[S]{Enumerator: inner, o: o, parallelism: t.Parallelism}, nil
	}
}

type shaped[S source.Split] struct {
	source.Enumerator[S]
	o           Options
	parallelism int
}

func (s *shaped[S]) Assign(ev source.Event[S], to *source.Assignments[S]) {
	Deal(s.o.Policy, s.parallelism, ev, to)
}

func (s *shaped[S]) Ordered() bool {
	inner, ok := source.As[source.Ordered](s.Enumerator)
	return s.o.Ordered || ok && inner.Ordered()
}

func (s *shaped[S]) Unwrap() any { return s.Enumerator }
