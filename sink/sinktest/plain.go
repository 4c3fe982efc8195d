package sinktest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weirline/weirline/sink"
)

// Case is a plain sink under test.
type Case[T any] struct {
	// Sink is the sink under test.
	Sink sink.Sink[T]

	// Make makes record i. Records with different numbers must differ and be accepted by the destination.
	Make func(i int) T

	// Read returns every record the destination holds, in any order, each as often as it holds it.
	Read func() ([]T, error)

	// Block makes the destination stop answering until release is called. Unset: what needs it isn't checked.
	Block func() (release func())

	// Fail makes the destination answer everything with an error that passes, until heal is called. Unset: what needs it
	// isn't checked.
	Fail func() (heal func())

	// Records is how many records each promise writes. Unset: 100.
	Records int

	// Limit bounds each call that must return. Unset: 10 s.
	Limit time.Duration
}

// Run checks a plain sink.
func Run[T any](t *testing.T, c Case[T]) {
	t.Helper()
	p := newPlain(c)
	for _, ch := range p.checks() {
		t.Run(ch.name, func(t *testing.T) {
			if err := p.run(t.Context(), ch); err != nil {
				t.Error(err)
			}
		})
	}
}

// check is one promise. Its function returns why it is broken.
type check struct {
	name string
	f    func(ctx context.Context) error
}

// plain runs the checks of one case.
type plain[T any] struct {
	Case[T]
	used  int           // numbers of records used
	woken chan struct{} // filled by the function given to OnRoom
}

func newPlain[T any](c Case[T]) *plain[T] {
	if c.Records <= 0 {
		c.Records = 100
	}
	if c.Limit <= 0 {
		c.Limit = 10 * time.Second
	}
	return &plain[T]{Case: c, woken: make(chan struct{}, 1)}
}

func (p *plain[T]) checks() []check {
	cs := []check{
		{"all that was written is delivered after Flush", p.flushDelivers},
		{"the batch slice isn't kept", p.sliceIsNotKept},
		{"nothing to flush is fine", p.emptyFlush},
		{"Close can be called unused and twice", p.closeTwice},
		{"a cancelled context ends Write and Flush", p.cancelWhileFree},
		{"a state holds what is not delivered", p.snapshotLosesNothing},
		{"several states are merged", p.statesAreMerged},
		{"the state of a writer with nothing to send is empty", p.flushedStateIsEmpty},
		{"a sink that says it is idempotent is", p.idempotent},
		{"a writer that works in the background sends restored records by itself", p.restoredGoByThemselves},
	}
	if p.Block != nil {
		cs = append(
			cs,
			check{"a cancelled context ends Write and Flush while the destination hangs", p.cancelWhileBlocked},
			check{"Snapshot doesn't wait for the destination and holds what is on its way", p.snapshotWhileBlocked},
			check{"Room promises that Write doesn't wait, and OnRoom tells of new room", p.roomWhileBlocked},
			check{"Close ends while the destination hangs", p.closeWhileBlocked},
			check{"a state holds each record once, also what is on its way", p.stateHoldsOnce},
			check{"nothing is called after Close", p.quietAfterClose},
		)
	}
	if p.Fail != nil {
		cs = append(cs, check{"Flush says yes only to what is delivered", p.flushWhileFailing})
	}
	return cs
}

// run runs one check within a limit and looks whether it left goroutines behind.
func (p *plain[T]) run(ctx context.Context, ch check) error {
	before := goleak.IgnoreCurrent()
	ctx, cancel := context.WithTimeout(ctx, 6*p.Limit)
	defer cancel()
	if err := ch.f(ctx); err != nil {
		return err
	}
	if err := goleak.Find(before); err != nil {
		return fmt.Errorf("goroutines are left after Close: %w", err)
	}
	return nil
}

// records makes n new records.
func (p *plain[T]) records(n int) []T {
	out := make([]T, n)
	for i := range out {
		out[i] = p.Make(p.used)
		p.used++
	}
	return out
}

func (p *plain[T]) open(ctx context.Context, index int) (sink.Writer[T], error) {
	t := task("sinktest", index)
	w, err := p.Sink.Writer(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("make writer: %w", err)
	}
	if g, ok := sink.As[sink.Gated](w); ok {
		g.OnRoom(func() {
			select {
			case p.woken <- struct{}{}:
			default:
			}
		})
	}
	return w, nil
}

// write writes in batches of different lengths, from a slice that is spoiled after each.
func (p *plain[T]) write(ctx context.Context, w sink.Writer[T], rs []T) error {
	for size := 1; len(rs) > 0; size = size%7 + 2 {
		batch := append([]T(nil), rs[:min(size, len(rs))]...)
		rs = rs[len(batch):]
		if err := w.Write(ctx, batch); err != nil {
			return fmt.Errorf("write %d records: %w", len(batch), err)
		}
		clear(batch)
	}
	return nil
}

// using opens a writer, calls f and closes it.
func (p *plain[T]) using(ctx context.Context, f func(w sink.Writer[T]) error) error {
	w, err := p.open(ctx, 0)
	if err != nil {
		return err
	}
	err = f(w)
	if cerr := p.soon("Close", w.Close); cerr != nil {
		err = errors.Join(err, fmt.Errorf("close: %w", cerr))
	}
	return err
}

func (p *plain[T]) flush(ctx context.Context, w sink.Writer[T]) error {
	if err := w.Flush(ctx); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	if r, ok := sink.As[sink.Rejecter](w); ok {
		if rs := r.Rejects(); len(rs) > 0 {
			return fmt.Errorf("%d records were rejected, the first: %w", len(rs), rs[0].Err)
		}
	}
	return nil
}

// delivered says how the destination's content differs from rs: each must be there once, or, if more is set, at least once.
func (p *plain[T]) delivered(rs []T, more bool) error {
	got, err := p.Read()
	if err != nil {
		return fmt.Errorf("read destination: %w", err)
	}
	return compare(got, rs, more)
}

// soon calls f and says if it takes longer than the limit. It doesn't wait for f then.
func (p *plain[T]) soon(what string, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(p.Limit):
		return fmt.Errorf("%s hasn't returned after %v", what, p.Limit)
	}
}
