package ahead

import (
	"context"
	"errors"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// Marked is a Sink whose destination keeps a mark in one step with the rows: either both are there or neither. It is looked for on
// To by [sink.As].
type Marked[T any] interface {
	MarkWriter(ctx context.Context, t sink.Task) (MarkWriter[T], error)
}

// MarkWriter writes rows and marks. One goroutine calls it.
type MarkWriter[T any] interface {
	// Mark returns the mark of a slot; zero if none is kept.
	Mark(ctx context.Context, slot string) (Mark, error)

	// Write writes rows, in order, and puts a mark in the place of the slot's mark was, in one step. If another mark than was is
	// kept it does nothing and returns ErrMoved. The mark says at.Token, and at.Rows and n more, where rows[:n] were
	// written. If not all were, the error is why rows[n] wasn't: a *sink.Rejected, with the key n, if it is refused for good. After
	// any other error nobody need know whether something was written.
	Write(ctx context.Context, slot string, was, at Mark, rows []T) (n int, err error)

	// Close releases what the writer holds.
	Close() error
}

// Mark says how many rows of which transaction are in the destination, those included that were left out because it refused them.
type Mark struct {
	Token string
	Rows  int64
}

// ErrMoved says that a slot's mark isn't the one it should be: somebody else has written meanwhile.
var ErrMoved = errors.New("the destination keeps another mark")

// markedTarget writes to a destination that keeps marks.
type markedTarget[T any] struct {
	*resource[T]
	to Marked[T]
	w  MarkWriter[T]
}

func (m *markedTarget[T]) mark(ctx context.Context, slot string) (kept Mark, err error) {
	if m.w == nil {
		if m.w, err = m.to.MarkWriter(ctx, m.t); err != nil {
			return kept, err
		}
	}
	err = m.wait(ctx, func(ctx context.Context) (err error) {
		kept, err = m.w.Mark(ctx, slot)
		return err
	})
	return kept, err
}

// apply writes what the mark says is missing.
func (m *markedTarget[T]) apply(ctx context.Context, g *segment) error {
	kept, err := m.mark(ctx, g.h.Slot.Name)
	if err != nil {
		return err
	}
	at := Mark{Token: g.h.Token}
	if kept.Token == at.Token {
		at = kept
	}
	step := &marking[T]{markedTarget: m, h: g.h, kept: kept, at: at}
	if err := m.batches(ctx, g, at.Rows, step.write); err != nil {
		return err
	}
	if step.kept != step.at { // the last rows were refused, or there are none
		return step.put(ctx, nil)
	}
	return nil
}

// marking is a segment that is being written.
type marking[T any] struct {
	*markedTarget[T]
	h        sink.Handle
	kept, at Mark
}

// write leaves out what is refused, after it is in Rejects.
func (s *marking[T]) write(ctx context.Context, rows []T) error {
	for {
		before := s.at.Rows
		err := s.put(ctx, rows)
		n := int(s.at.Rows - before)
		r, refused := errors.AsType[*sink.Rejected](err)
		if err == nil || !refused {
			return err
		}
		if r.Errs[n] == nil {
			return sink.Permanent(fault.New(fault.SinkFailed, "the destination wrote %d rows of %d and doesn't say why it refuses the next: %v", n, len(rows), err))
		}
		if err := s.refused(ctx, s.h, rows[n], r.Errs[n]); err != nil {
			return err
		}
		if err := s.rejects.flush(ctx); err != nil {
			return err
		}
		s.at.Rows++
		if rows = rows[n+1:]; len(rows) == 0 {
			return nil
		}
	}
}

func (s *marking[T]) put(ctx context.Context, rows []T) error {
	return s.wait(ctx, func(ctx context.Context) error {
		n, err := s.w.Write(ctx, s.h.Slot.Name, s.kept, s.at, rows)
		if _, refused := errors.AsType[*sink.Rejected](err); err == nil || refused {
			s.at.Rows += int64(n)
			s.kept = s.at
			if err == nil && n < len(rows) {
				return fault.New(fault.SinkFailed, "the destination wrote %d rows of %d and doesn't say why", n, len(rows))
			}
		}
		return err
	})
}

func (m *markedTarget[T]) close() error {
	if m.w == nil {
		return nil
	}
	w := m.w
	m.w = nil
	return w.Close()
}

// proves says whether the destination has all rows of a transaction.
func (m *markedTarget[T]) proves(ctx context.Context, h sink.Handle, rows int64) (bool, error) {
	kept, err := m.mark(ctx, h.Slot.Name)
	return err == nil && kept == Mark{h.Token, rows}, err
}
