package reader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/weirline/weirline/source"
)

const (
	restMin, restMax = time.Millisecond, 50 * time.Millisecond      // between rounds in which no split had anything
	turnMin, turnMax = 5 * time.Millisecond, 100 * time.Millisecond // for a split that waits while others wait too
)

// Each makes readers that open a cursor for each split when its first turn comes, and close it when the split is finished
// or the reader is closed. open may do I/O and gets the split as it was stored; its ctx bounds the opening only. An error
// of open fails the task.
func Each[T any, S source.Split](open func(ctx context.Context, s S) (source.Cursor[T, S], error)) source.NewReader[T, S] {
	return func(context.Context, source.Task) (source.Reader[T, S], error) {
		return &each[T, S]{gate: newGate(), openCursor: open, turnFor: turnMin, rest: restMin}, nil
	}
}

// Poll makes readers that call step again and again: at is where a split has got to; step appends some records to out and
// returns the position after them. io.EOF finishes the split; the records appended with it count. One goroutine of each
// task calls step, so step itself is used by all tasks at once and must not keep anything between calls.
func Poll[T any, S source.Split](step func(ctx context.Context, at S, out *source.Batch[T]) (S, error)) source.NewReader[T, S] {
	return Each(func(_ context.Context, s S) (source.Cursor[T, S], error) {
		return &poller[T, S]{at: s, step: step}, nil
	})
}

type poller[T any, S source.Split] struct {
	at   S
	step func(ctx context.Context, at S, out *source.Batch[T]) (S, error)
}

func (p *poller[T, S]) Read(ctx context.Context, out *source.Batch[T]) (S, error) {
	before := size(out)
	next, err := p.step(ctx, p.at, out)
	if err == nil || err == io.EOF || size(out) > before { //nolint:errorlint // see noEnd
		p.at = next
	}
	return p.at, err
}

func (p *poller[T, S]) Close() error { return nil }

func size[T any](b *source.Batch[T]) int { return len(b.Values) + len(b.Rejects) }

type each[T any, S source.Split] struct {
	gate
	openCursor func(ctx context.Context, s S) (source.Cursor[T, S], error)
	splits     []*opened[T, S]
	next       int           // whose turn it is
	empty      int           // turns in a row that returned at once and brought nothing
	rest       time.Duration // before the next round if they all did
	turnFor    time.Duration // how long a waiting split may wait
}

type opened[T any, S source.Split] struct {
	id     string
	at     S
	cursor source.Cursor[T, S] // nil before the first turn
}

func (m *each[T, S]) Add(_ context.Context, splits ...S) error {
	for _, s := range splits {
		id := s.ID()
		if slices.ContainsFunc(m.splits, func(o *opened[T, S]) bool { return o.id == id }) {
			return fmt.Errorf("add split %q: this reader has it already", id)
		}
		m.splits = append(m.splits, &opened[T, S]{id: id, at: s})
		m.add(id)
	}
	return nil
}

func (m *each[T, S]) Read(ctx context.Context, out *source.Batch[T]) (S, error) {
	var none S
	for {
		if err := ctx.Err(); err != nil {
			return none, err
		}
		o := m.pick()
		if o == nil {
			select {
			case <-m.changed:
			case <-ctx.Done():
			}
			continue
		}
		if m.empty >= max(m.free(), 1) {
			m.pause(ctx)
			continue
		}
		if turn, ok := m.begin(ctx, o.id); ok {
			next, err := m.turnOf(ctx, turn, o, out)
			m.end()
			return next, err
		}
	}
}

// pick is the next split in the round that isn't paused, or nil.
func (m *each[T, S]) pick() *opened[T, S] {
	for i := range m.splits {
		at := (m.next + i) % len(m.splits)
		if m.gate.open(m.splits[at].id) {
			m.next = at + 1
			return m.splits[at]
		}
	}
	return nil
}

// pause rests after a round that brought nothing, a little longer each time.
func (m *each[T, S]) pause(ctx context.Context) {
	timer := time.NewTimer(m.rest)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-m.changed:
	case <-ctx.Done():
	}
	m.empty, m.rest = 0, min(2*m.rest, restMax)
}

// turnOf reads one split once. The turn of one that waits is bounded if others could be read meanwhile.
func (m *each[T, S]) turnOf(ctx, turn context.Context, o *opened[T, S], out *source.Batch[T]) (S, error) {
	if o.cursor == nil {
		c, err := m.openCursor(turn, o.at)
		if woken(ctx, turn, err) {
			return o.at, nil
		}
		if err != nil {
			return o.at, fmt.Errorf("open split %q: %w", o.id, noEnd(err))
		}
		o.cursor = c
	}
	if len(m.splits) > 1 && m.free() > 1 {
		bounded, cancel := context.WithTimeout(turn, m.turnFor)
		defer cancel()
		turn = bounded
	}
	before := size(out)
	next, err := o.cursor.Read(turn, out)
	finished, got := err == io.EOF, size(out) > before //nolint:errorlint // see noEnd
	if err == nil || finished || got {
		o.at = next
	}
	waited := woken(ctx, turn, err)
	if waited {
		err = nil
	}
	m.pace(got || finished, waited)
	if finished {
		return o.at, m.finish(o, err)
	}
	return o.at, noEnd(err)
}

// noEnd hides an io.EOF inside an error. Only io.EOF itself finishes a split; one that is wrapped comes from a lost
// connection or a file that is cut short, and nobody may take it for the end.
func noEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return failure{err}
	}
	return err
}

type failure struct{ err error }

func (f failure) Error() string        { return f.err.Error() }
func (f failure) As(target any) bool   { return errors.As(f.err, target) }
func (f failure) Is(target error) bool { return target != io.EOF && errors.Is(f.err, target) } //nolint:errorlint // see noEnd

func (m *each[T, S]) pace(got, waited bool) {
	switch {
	case got:
		m.empty, m.rest, m.turnFor = 0, restMin, turnMin
	case waited:
		m.empty, m.turnFor = 0, min(2*m.turnFor, turnMax)
	default:
		m.empty++
	}
}

func (m *each[T, S]) finish(o *opened[T, S], eof error) error {
	at := slices.Index(m.splits, o)
	m.splits = slices.Delete(m.splits, at, at+1)
	if m.next > at {
		m.next--
	}
	m.remove(o.id)
	if err := o.cursor.Close(); err != nil {
		return fmt.Errorf("close split %q: %w", o.id, err)
	}
	return eof
}

func (m *each[T, S]) Close() error {
	m.stop()
	var errs []error
	for _, o := range m.splits {
		if o.cursor == nil {
			continue
		}
		if err := o.cursor.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close split %q: %w", o.id, err))
		}
	}
	m.splits = nil
	return errors.Join(errs...)
}
