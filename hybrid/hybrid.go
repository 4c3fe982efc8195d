package hybrid

import (
	"context"
	"errors"
	"fmt"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/source"
)

// Source is a chain of sources. Of makes it.
type Source[T any] struct {
	// Stages are read one after the other. The first is made with First; at least one is needed.
	Stages []Stage[T]

	// Ordered says that every stage hands out its splits in the order of their event times, and that the stages follow
	// each other in time. Unset: the watermark is held until the last stage is reached.
	Ordered bool
}

var (
	_ source.Source[string, Split] = Source[string]{}
	_ source.Bounded               = Source[string]{}
	_ source.Preflight             = Source[string]{}
	_ source.Borrower              = Source[string]{}
	_ source.Replayable            = Source[string]{}
)

// Of puts stages in a chain.
func Of[T any](stages ...Stage[T]) Source[T] { return Source[T]{Stages: stages} }

// Bounded says whether the last stage ends. If that depends on a start, as after ThenFrom, it is false.
func (c Source[T]) Bounded() bool {
	if len(c.Stages) == 0 {
		return true
	}
	last := c.Stages[len(c.Stages)-1]
	return last.fixed != nil && bounded(last.fixed.source())
}

// Borrowed says whether any stage lends its values.
func (c Source[T]) Borrowed() bool {
	for _, s := range c.Stages {
		if s.fixed != nil && borrowed(s.fixed.source()) {
			return true
		}
	}
	return false
}

// Replayable says whether all stages are that don't depend on a start.
func (c Source[T]) Replayable() bool {
	for _, s := range c.Stages {
		if s.fixed == nil {
			continue
		}
		if r, ok := source.As[source.Replayable](s.fixed.source()); ok && !r.Replayable() {
			return false
		}
	}
	return true
}

// Preflight checks the chain and every stage that doesn't depend on a start; the others are checked when it is known.
func (c Source[T]) Preflight(ctx context.Context) error {
	if err := c.validate(); err != nil {
		return err
	}
	for i, s := range c.Stages {
		if s.fixed == nil {
			continue
		}
		if err := preflight(ctx, i, s.fixed.source()); err != nil {
			return err
		}
	}
	return nil
}

func preflight(ctx context.Context, stage int, src any) error {
	p, ok := source.As[source.Preflight](src)
	if !ok {
		return nil
	}
	if err := p.Preflight(ctx); err != nil {
		return fmt.Errorf("stage %d of a hybrid source: %w", stage, err)
	}
	return nil
}

func (c Source[T]) validate() error {
	if len(c.Stages) == 0 {
		return fault.New(fault.BadPipeline, "a hybrid source has no stages").WithFix("give hybrid.Of a hybrid.First")
	}
	var errs []error
	for i, s := range c.Stages {
		switch {
		case s.fixed == nil && s.open == nil:
			errs = append(errs, fault.New(fault.BadPipeline, "stage %d of a hybrid source is empty", i).
				WithFix("make stages with First, Then and ThenFrom"))
		case s.fixed != nil:
			if err := c.mayEnd(i, s.fixed); err != nil {
				errs = append(errs, err)
			}
		case i == 0:
			errs = append(errs, fault.New(fault.BadPipeline, "stage 0 of a hybrid source is made with ThenFrom, but nothing comes before it").
				WithFix("begin with First"))
		case s.after != c.Stages[i-1].splits:
			errs = append(errs, fault.New(fault.BadPipeline, "stage %d of a hybrid source derives its start from splits of type %v, but those before it are %v",
				i, s.after, c.Stages[i-1].splits).WithFix("give ThenFrom a function of []%v", c.Stages[i-1].splits))
		}
	}
	return errors.Join(errs...)
}

// Enumerator walks through the stages; see source.Staged.
func (c Source[T]) Enumerator(_ context.Context, t source.Task) (source.Enumerator[Split], error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	return &enumerator[T]{c: c, t: t}, nil
}

// Reader reads splits of any stage; see source.Source.
func (c Source[T]) Reader(_ context.Context, t source.Task) (source.Reader[T, Split], error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	return &chainReader[T]{c: c, t: t, stages: map[int]*openStage[T]{}}, nil
}
