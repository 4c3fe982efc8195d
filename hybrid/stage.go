package hybrid

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/source"
)

// Stage is one of the sources of a chain; First, Then and ThenFrom make it.
type Stage[T any] struct {
	splits reflect.Type // what its splits are
	after  reflect.Type // what ThenFrom's derive takes, nil if it takes nothing

	fixed  opened[T] // nil if the source depends on a start
	derive func(ctx context.Context, done []Split) (json.RawMessage, error)
	open   func(stage int, start json.RawMessage) (opened[T], error)
}

// opened is the source of a stage with its split type erased.
type opened[T any] interface {
	source() any // the source itself, to look for powers
	enumerator(ctx context.Context, t source.Task, stage int, start json.RawMessage) (stageEnum, error)
	reader(ctx context.Context, t source.Task, stage int, start json.RawMessage) (stageReader[T], error)
}

// First is the stage a chain begins with.
func First[T any, S source.Split](src source.Source[T, S]) Stage[T] { return Then(src) }

// Then is a stage that finds out itself where to start: when it is its turn, its own Discover says, and the splits it
// reports are stored.
func Then[T any, S source.Split](src source.Source[T, S]) Stage[T] {
	return Stage[T]{splits: reflect.TypeFor[S](), fixed: erased[T, S]{src}}
}

// ThenFrom is a stage that starts where the one before ended. derive gets all finished splits of the stage before and
// says where that is; it may do I/O, is called once for the life of a job, and its result is stored as JSON. mk makes the
// source for such a start, on every task and after every restart; it does no I/O.
func ThenFrom[T any, S1, S2 source.Split, P any](
	derive func(ctx context.Context, done []S1) (P, error), mk func(start P) (source.Source[T, S2], error),
) Stage[T] {
	return Stage[T]{
		splits: reflect.TypeFor[S2](),
		after:  reflect.TypeFor[S1](),
		derive: func(ctx context.Context, done []Split) (json.RawMessage, error) {
			finished, err := unwrapAll[S1](done)
			if err != nil {
				return nil, err
			}
			p, err := derive(ctx, finished)
			if err != nil {
				return nil, fmt.Errorf("derive its start: %w", err)
			}
			b, err := json.Marshal(p)
			if err != nil {
				return nil, fmt.Errorf("encode its start: %w", err)
			}
			return b, nil
		},
		open: func(stage int, start json.RawMessage) (opened[T], error) {
			var p P
			if err := json.Unmarshal(start, &p); err != nil {
				return nil, fault.Wrap(fault.BadPosition, err, "decode the start of stage %d of a hybrid source", stage)
			}
			src, err := mk(p)
			if err != nil {
				return nil, fmt.Errorf("make stage %d: %w", stage, err)
			}
			return erased[T, S2]{src}, nil
		},
	}
}

// opened is the stage's source for a start, checked for its place in the chain.
func (c Source[T]) opened(stage int, start json.RawMessage) (opened[T], error) {
	s := c.Stages[stage]
	if s.fixed != nil {
		return s.fixed, nil
	}
	o, err := s.open(stage, start)
	if err != nil {
		return nil, err
	}
	if borrowed(o.source()) {
		return nil, fault.New(fault.BadPipeline, "stage %d of a hybrid source lends its values, which isn't known when the pipeline is built", stage).
			WithFix("use a source that copies its values in a stage made with ThenFrom")
	}
	return o, c.mayEnd(stage, o)
}

// mayEnd refuses a source without end anywhere but in the last stage.
func (c Source[T]) mayEnd(stage int, o opened[T]) error {
	if stage == len(c.Stages)-1 || bounded(o.source()) {
		return nil
	}
	return fault.New(fault.BadPipeline, "stage %d of %d of a hybrid source (%T) never ends", stage, len(c.Stages), o.source()).
		WithFix("make the source of stage %d bounded, or put it last", stage)
}

func bounded(src any) bool {
	b, ok := source.As[source.Bounded](src)
	return !ok || b.Bounded()
}

func borrowed(src any) bool {
	b, ok := source.As[source.Borrower](src)
	return ok && b.Borrowed()
}

type erased[T any, S source.Split] struct{ src source.Source[T, S] }

func (e erased[T, S]) source() any { return e.src }

func (e erased[T, S]) enumerator(
	ctx context.Context, t source.Task, stage int, start json.RawMessage,
) (stageEnum, error) {
	inner, err := e.src.Enumerator(ctx, t)
	if err != nil {
		return nil, err
	}
	return &stageEnumerator[S]{inner: inner, stage: stage, start: start, decoded: map[string]S{}}, nil
}

// stageEnumerator is the enumerator of one stage in terms of Split.
type stageEnumerator[S source.Split] struct {
	inner source.Enumerator[S]
	stage int
	start json.RawMessage

	// Assign's goroutine only.
	greeted bool         // it was told of the readers that were there before it
	decoded map[string]S // unassigned splits that came from a checkpoint, by ID
}

// stageEnum is a stageEnumerator of any split type.
type stageEnum interface {
	source.Enumerator[Split]
	source.Unwrapper
	next(ctx context.Context, finished []Split) (more bool, err error)
	last() bool
}

func (e *stageEnumerator[S]) Unwrap() any { return e.inner }

func (e *stageEnumerator[S]) Discover(ctx context.Context) ([]Split, bool, error) {
	found, done, err := e.inner.Discover(ctx)
	out := make([]Split, len(found))
	for i, s := range found {
		out[i] = wrap(e.stage, e.start, s)
	}
	return out, done, err
}

// next passes Next on to a stage that has stages itself.
func (e *stageEnumerator[S]) next(ctx context.Context, finished []Split) (more bool, err error) {
	st, ok := source.As[source.Staged[S]](e.inner)
	if !ok {
		return false, nil
	}
	inner, err := unwrapAll[S](finished)
	if err != nil {
		return false, err
	}
	return st.Next(ctx, inner)
}

func (e *stageEnumerator[S]) last() bool {
	st, ok := source.As[source.Staged[S]](e.inner)
	return !ok || st.Last()
}

func (e *stageEnumerator[S]) Assign(ev source.Event[Split], to *source.Assignments[Split]) {
	load := map[int]int{}
	for _, r := range to.Readers() {
		load[r] = to.Load(r)
	}
	outer := map[string]Split{}
	free, bad := e.mine(to.Unassigned())
	for _, s := range to.Unassigned() {
		outer[s.ID()] = s
	}
	if r, ok := to.LeastLoaded(); ok {
		to.Give(r, bad...) // Add fails with what is wrong
	}
	found, _ := e.mine(ev.Splits)
	view := source.NewAssignments(free, load)
	if e.greeted || ev.Kind == source.ReaderDown {
		e.inner.Assign(source.Event[S]{Kind: ev.Kind, Splits: found, Reader: ev.Reader}, view)
	} else {
		e.greet(to.Readers(), view)
		if ev.Kind == source.Found {
			e.inner.Assign(source.Event[S]{Kind: source.Found, Splits: found}, view)
		}
	}
	for _, g := range view.Given() {
		id := Split{Stage: e.stage, Name: g.Split.ID()}.ID()
		to.Give(g.Reader, outer[id])
		delete(e.decoded, id)
	}
}

// greet tells a new stage of the readers that came up, and ran dry, before it.
func (e *stageEnumerator[S]) greet(readers []int, view *source.Assignments[S]) {
	e.greeted = true
	for _, r := range readers {
		e.inner.Assign(source.Event[S]{Kind: source.ReaderUp, Reader: r}, view)
		if view.Load(r) == 0 {
			e.inner.Assign(source.Event[S]{Kind: source.Wanted, Reader: r}, view)
		}
	}
}

// mine unwraps the splits of this stage; bad are those that can't be decoded.
func (e *stageEnumerator[S]) mine(splits []Split) (out []S, bad []Split) {
	for _, s := range splits {
		if s.Stage != e.stage {
			continue
		}
		inner, ok := s.live.(S)
		if !ok {
			inner, ok = e.decoded[s.ID()]
		}
		if !ok {
			var err error
			if inner, err = unwrap[S](s); err != nil {
				bad = append(bad, s)
				continue
			}
			e.decoded[s.ID()] = inner
		}
		out = append(out, inner)
	}
	return out, bad
}
