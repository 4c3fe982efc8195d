package hybrid

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	toolkit "github.com/weirline/weirline/enumerator"
	"github.com/weirline/weirline/source"
)

// enumerator is the enumerator of the present stage, whichever that is. Discover's goroutine changes it, and Assign and
// Last look at it from others.
type enumerator[T any] struct {
	c Source[T]
	t source.Task

	mu      sync.Mutex // never held over a call into a stage
	seam    seam
	current stageEnum // nil until the stage's first Discover

	restored toolkit.Policy // for a stage without an enumerator; set by Restore
}

var _ source.Staged[Split] = (*enumerator[string])(nil)

func (e *enumerator[T]) now() (seam, stageEnum) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.seam, e.current
}

func (e *enumerator[T]) set(s seam, current stageEnum) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seam, e.current = s, current
}

func (e *enumerator[T]) Ordered() bool { return e.c.Ordered }

// Backlog is true in all stages but the last: what comes before it was there before. The last one is asked itself.
func (e *enumerator[T]) Backlog() bool {
	if !e.Last() {
		return true
	}
	_, current := e.now()
	if current == nil {
		return false
	}
	b, ok := source.As[source.Backlog](current)
	return ok && b.Backlog()
}

func (e *enumerator[T]) Last() bool {
	s, current := e.now()
	return s.isLast(len(e.c.Stages)) && (current == nil || current.last())
}

func (e *enumerator[T]) Discover(ctx context.Context) (found []Split, done bool, err error) {
	current, err := e.open(ctx)
	if err != nil {
		return nil, false, err
	}
	found, done, err = current.Discover(ctx)
	s, _ := e.now()
	s.Done = done && err == nil
	e.set(s, current)
	if err != nil {
		err = fmt.Errorf("stage %d of a hybrid source: %w", s.Stage, err)
	}
	return found, done, err
}

// open makes the present stage's enumerator if it isn't there yet, and gives it its state.
func (e *enumerator[T]) open(ctx context.Context) (stageEnum, error) {
	s, current := e.now()
	if current != nil {
		return current, nil
	}
	o, err := e.c.opened(s.Stage, s.Start)
	if err != nil {
		return nil, err
	}
	if e.c.Stages[s.Stage].fixed == nil {
		if err := preflight(ctx, s.Stage, o.source()); err != nil {
			return nil, err
		}
	}
	current, err = o.enumerator(ctx, e.t, s.Stage, s.Start)
	if err != nil {
		return nil, fmt.Errorf("stage %d of a hybrid source: make enumerator: %w", s.Stage, err)
	}
	if st, ok := source.As[source.Stateful](current); ok && s.Inner != nil {
		if err := st.Restore(s.Inner); err != nil {
			return nil, fmt.Errorf("stage %d of a hybrid source: restore enumerator: %w", s.Stage, err)
		}
	}
	e.set(s, current)
	return current, nil
}

func (e *enumerator[T]) Next(ctx context.Context, finished []Split) (more bool, err error) {
	current, err := e.open(ctx)
	if err != nil {
		return false, err
	}
	s, _ := e.now()
	done := s.mine(finished)
	if more, err := current.next(ctx, done); more || err != nil {
		return more, err
	}
	if s.isLast(len(e.c.Stages)) {
		return false, nil
	}
	var start json.RawMessage
	if derive := e.c.Stages[s.Stage+1].derive; derive != nil {
		if start, err = derive(ctx, done); err != nil {
			return false, fmt.Errorf("stage %d of a hybrid source: %w", s.Stage+1, err)
		}
	}
	e.set(s.advance(start), nil)
	return true, nil
}

// Assign asks the present stage. After a restore of a stage whose Discover was done, the engine need not call Discover
// again and so nobody is there to ask: then splits are pulled, or spread if they have no end. Splits of another stage are
// only there if a checkpoint was made by hand; whoever has least reads them.
func (e *enumerator[T]) Assign(ev source.Event[Split], to *source.Assignments[Split]) {
	s, current := e.now()
	switch {
	case current != nil:
		current.Assign(ev, to)
	case s.Done:
		toolkit.Deal(e.restored, e.t.Parallelism, ev, to)
	}
	for _, sp := range to.Unassigned() {
		if sp.Stage == s.Stage {
			continue
		}
		if r, ok := to.LeastLoaded(); ok {
			to.Give(r, sp)
		}
	}
}

func (e *enumerator[T]) Snapshot() ([]byte, error) {
	s, current := e.now()
	if current != nil {
		s.Inner = nil
		if st, ok := source.As[source.Stateful](current); ok {
			inner, err := st.Snapshot()
			if err != nil {
				return nil, fmt.Errorf("stage %d of a hybrid source: %w", s.Stage, err)
			}
			s.Inner = inner
		}
	}
	return s.encode()
}

func (e *enumerator[T]) Restore(state []byte) error {
	s, err := decodeSeam(state, len(e.c.Stages), func(stage int) bool { return e.c.Stages[stage].fixed == nil })
	if err != nil {
		return err
	}
	o, err := e.c.opened(s.Stage, s.Start)
	if err != nil {
		return err
	}
	if !bounded(o.source()) {
		e.restored = toolkit.Spread
	}
	e.set(s, nil)
	return nil
}
