package enginetest

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/weirline/weirline/enumerator"
	"github.com/weirline/weirline/reader"
	"github.com/weirline/weirline/source"
)

// Step is one thing a split does. Make it with Rec, Bad, Crash, Wait or Stay.
type Step[T any] struct {
	value T
	kind  stepKind
	wait  time.Duration
}

type stepKind int

const (
	stepRecord stepKind = iota
	stepBad
	stepCrash
	stepWait
	stepStay
)

// Rec gives a record.
func Rec[T any](v T) Step[T] { return Step[T]{value: v} }

// Recs gives records, one read each.
func Recs[T any](vs ...T) []Step[T] {
	out := make([]Step[T], len(vs))
	for i, v := range vs {
		out[i] = Rec(v)
	}
	return out
}

// Bad is a record that can't be decoded.
func Bad[T any]() Step[T] { return Step[T]{kind: stepBad} }

// Crash fails the reader the first time it is reached; the job restarts from its last checkpoint.
func Crash[T any]() Step[T] { return Step[T]{kind: stepCrash} }

// Wait lets time pass.
func Wait[T any](d time.Duration) Step[T] { return Step[T]{kind: stepWait, wait: d} }

// Stay is an end that never comes: the split stays silent until the job is stopped.
func Stay[T any]() Step[T] { return Step[T]{kind: stepStay} }

// ErrCrash is the error of a Crash step, and ErrBad of a Bad one.
var (
	ErrCrash = errors.New("crash as scripted")
	ErrBad   = errors.New("bad record as scripted")
)

// Script is a source whose splits follow a script, one step a read. It may be used by one pipeline after another: a Crash
// happens once in its life.
type Script[T any] struct {
	Splits map[string][]Step[T]

	mu      sync.Mutex
	crashed map[Place]bool
}

// Place is a split of a Script: its name, and the step that comes next.
type Place struct {
	Name string
	Next int
}

// ID is the split's name.
func (p Place) ID() string { return p.Name }

// Enumerator lists the splits in the order of their names.
func (s *Script[T]) Enumerator(ctx context.Context, t source.Task) (source.Enumerator[Place], error) {
	var all []Place
	for _, name := range slices.Sorted(maps.Keys(s.Splits)) {
		all = append(all, Place{Name: name})
	}
	return enumerator.Static(all...)(ctx, t)
}

// Reader reads the splits it is given in turn.
func (s *Script[T]) Reader(ctx context.Context, t source.Task) (source.Reader[T, Place], error) {
	return reader.Poll(s.read)(ctx, t)
}

func (s *Script[T]) read(ctx context.Context, at Place, out *source.Batch[T]) (Place, error) {
	steps := s.Splits[at.Name]
	if at.Next >= len(steps) {
		return at, io.EOF
	}
	next := Place{Name: at.Name, Next: at.Next + 1}
	switch st := steps[at.Next]; st.kind {
	case stepBad:
		out.Reject([]byte("bad"), "step", ErrBad)
	case stepCrash:
		if s.crash(at) {
			return at, ErrCrash
		}
	case stepWait:
		select {
		case <-time.After(st.wait):
		case <-ctx.Done():
			return at, ctx.Err()
		}
	case stepStay:
		<-ctx.Done()
		return at, ctx.Err()
	default:
		out.Add(st.value)
	}
	return next, nil
}

// crash says whether the place is reached for the first time.
func (s *Script[T]) crash(at Place) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.crashed[at] {
		return false
	}
	if s.crashed == nil {
		s.crashed = map[Place]bool{}
	}
	s.crashed[at] = true
	return true
}
