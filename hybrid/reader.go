package hybrid

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/reader"
	"github.com/weirline/weirline/source"
)

// stageReader is the reader of one stage in terms of Split; Pause, Resume and ack get the stage's own IDs and positions.
type stageReader[T any] interface {
	source.Reader[T, Split]
	source.Pauser
	ack(ctx context.Context, at []Split) error
	wantsAck() bool
}

// chainReader reads the splits of one task, whatever stages they are of.
type chainReader[T any] struct {
	c Source[T]
	t source.Task

	mu     sync.Mutex // guards the map for Pause and Resume; only the fetch goroutine changes it
	stages map[int]*openStage[T]
}

type openStage[T any] struct {
	stageReader[T]
	start json.RawMessage
	has   map[string]bool // splits to be read, by ID
}

var (
	_ source.Pauser       = (*chainReader[string])(nil)
	_ source.Acker[Split] = (*chainReader[string])(nil)
)

func (r *chainReader[T]) Add(ctx context.Context, splits ...Split) error {
	for _, s := range splits {
		st, err := r.stage(ctx, s)
		if err != nil {
			return err
		}
		if err := st.Add(ctx, s); err != nil {
			return fmt.Errorf("stage %d of a hybrid source: %w", s.Stage, err)
		}
		st.has[s.ID()] = true
	}
	return r.retire(func(st *openStage[T]) bool { return !st.wantsAck() })
}

// stage opens the reader for a split if that hasn't been done.
func (r *chainReader[T]) stage(ctx context.Context, s Split) (*openStage[T], error) {
	if s.Stage < 0 || s.Stage >= len(r.c.Stages) {
		return nil, fault.New(fault.BadPosition, "read split %q: there are only %d stages now", s.ID(), len(r.c.Stages)).
			WithFix("keep the stages in their order; new ones can be added at the end")
	}
	if st := r.stages[s.Stage]; st != nil {
		if !bytes.Equal(st.start, s.Start) {
			return nil, fault.New(fault.BadPosition, "read split %q: its stage starts at %s, not at %s", s.ID(), st.start, s.Start)
		}
		return st, nil
	}
	o, err := r.c.opened(s.Stage, s.Start)
	if err != nil {
		return nil, err
	}
	inner, err := o.reader(ctx, r.t, s.Stage, s.Start)
	if err != nil {
		return nil, fmt.Errorf("stage %d of a hybrid source: make reader: %w", s.Stage, err)
	}
	st := &openStage[T]{stageReader: inner, start: s.Start, has: map[string]bool{}}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stages[s.Stage] = st
	return st, nil
}

// order lists the open stages, the lowest first.
func (r *chainReader[T]) order() []int {
	out := make([]int, 0, len(r.stages))
	for i := range r.stages {
		out = append(out, i)
	}
	slices.Sort(out)
	return out
}

// retire closes the stages that are read to their end, if a later one is open and which agrees.
func (r *chainReader[T]) retire(which func(*openStage[T]) bool) error {
	order := r.order()
	var errs []error
	for i, stage := range order {
		st := r.stages[stage]
		if i == len(order)-1 || len(st.has) > 0 || !which(st) {
			continue
		}
		r.mu.Lock()
		delete(r.stages, stage)
		r.mu.Unlock()
		if err := st.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close stage %d of a hybrid source: %w", stage, err))
		}
	}
	return errors.Join(errs...)
}

func (r *chainReader[T]) Read(ctx context.Context, out *source.Batch[T]) (Split, error) {
	st := r.lowest()
	if st == nil {
		<-ctx.Done()
		return Split{}, ctx.Err()
	}
	next, err := st.Read(ctx, out)
	if err == io.EOF { //nolint:errorlint // only io.EOF itself finishes a split
		delete(st.has, next.ID())
	}
	return next, err
}

// lowest is the earliest stage with something to read.
func (r *chainReader[T]) lowest() *openStage[T] {
	var found *openStage[T]
	at := 0
	for i, st := range r.stages {
		if len(st.has) > 0 && (found == nil || i < at) {
			found, at = st, i
		}
	}
	return found
}

func (r *chainReader[T]) Ack(ctx context.Context, at []Split) error {
	byStage := map[int][]Split{}
	for _, s := range at {
		byStage[s.Stage] = append(byStage[s.Stage], s)
	}
	var errs []error
	for _, stage := range r.order() {
		if of := byStage[stage]; len(of) > 0 {
			if err := r.stages[stage].ack(ctx, of); err != nil {
				errs = append(errs, fmt.Errorf("stage %d of a hybrid source: %w", stage, err))
			}
		}
	}
	errs = append(errs, r.retire(func(*openStage[T]) bool { return true }))
	return errors.Join(errs...)
}

func (r *chainReader[T]) Pause(ids ...string) {
	r.each(ids, func(p source.Pauser, names []string) { p.Pause(names...) })
}

func (r *chainReader[T]) Resume(ids ...string) {
	r.each(ids, func(p source.Pauser, names []string) { p.Resume(names...) })
}

func (r *chainReader[T]) each(ids []string, do func(p source.Pauser, names []string)) {
	for stage, names := range byStage(ids) {
		r.mu.Lock()
		st := r.stages[stage]
		r.mu.Unlock()
		if st != nil {
			do(st, names)
		}
	}
}

func (r *chainReader[T]) Close() error {
	var errs []error
	for _, stage := range r.order() {
		if err := r.stages[stage].Close(); err != nil {
			errs = append(errs, fmt.Errorf("close stage %d of a hybrid source: %w", stage, err))
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.stages)
	return errors.Join(errs...)
}

func (e erased[T, S]) reader(ctx context.Context, t source.Task, stage int, start json.RawMessage) (stageReader[T], error) {
	inner, err := e.src.Reader(ctx, t)
	if err != nil {
		return nil, err
	}
	return &innerReader[T, S]{inner: reader.Pausable(inner), stage: stage, start: start}, nil
}

type innerReader[T any, S source.Split] struct {
	inner source.Reader[T, S]
	stage int
	start json.RawMessage
}

func (r *innerReader[T, S]) Add(ctx context.Context, splits ...Split) error {
	inner, err := unwrapAll[S](splits)
	if err != nil {
		return err
	}
	return r.inner.Add(ctx, inner...)
}

func (r *innerReader[T, S]) Read(ctx context.Context, out *source.Batch[T]) (Split, error) {
	before := len(out.Values) + len(out.Rejects)
	next, err := r.inner.Read(ctx, out)
	if err != nil && err != io.EOF && len(out.Values)+len(out.Rejects) == before { //nolint:errorlint // see io.EOF in source.Cursor
		return Split{}, err // next may be nothing
	}
	return wrap(r.stage, r.start, next), err
}

func (r *innerReader[T, S]) Close() error { return r.inner.Close() }

func (r *innerReader[T, S]) Pause(ids ...string)  { r.pauser().Pause(ids...) }
func (r *innerReader[T, S]) Resume(ids ...string) { r.pauser().Resume(ids...) }

// pauser is there: reader.Pausable saw to it.
func (r *innerReader[T, S]) pauser() source.Pauser {
	p, _ := source.As[source.Pauser](r.inner)
	return p
}

func (r *innerReader[T, S]) wantsAck() bool {
	_, ok := source.As[source.Acker[S]](r.inner)
	return ok
}

func (r *innerReader[T, S]) ack(ctx context.Context, at []Split) error {
	a, ok := source.As[source.Acker[S]](r.inner)
	if !ok {
		return nil
	}
	inner, err := unwrapAll[S](at)
	if err != nil {
		return err
	}
	return a.Ack(ctx, inner)
}
