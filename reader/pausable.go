package reader

import (
	"context"
	"io"

	"github.com/weirline/weirline/source"
)

// Pausable makes a source.Pauser of a reader that isn't one: as long as any of its splits is paused, none is read. A
// reader that is a Pauser, or wraps one, is returned as it is.
func Pausable[T any, S source.Split](r source.Reader[T, S]) source.Reader[T, S] {
	if _, ok := source.As[source.Pauser](r); ok {
		return r
	}
	return &held[T, S]{Reader: r, gate: newGate()}
}

type held[T any, S source.Split] struct {
	source.Reader[T, S]
	gate gate
}

func (h *held[T, S]) Pause(ids ...string)  { h.gate.Pause(ids...) }
func (h *held[T, S]) Resume(ids ...string) { h.gate.Resume(ids...) }
func (h *held[T, S]) Unwrap() any          { return h.Reader }

func (h *held[T, S]) Add(ctx context.Context, splits ...S) error {
	for _, s := range splits {
		h.gate.add(s.ID())
	}
	return h.Reader.Add(ctx, splits...)
}

func (h *held[T, S]) Read(ctx context.Context, out *source.Batch[T]) (S, error) {
	for {
		if turn, ok := h.gate.begin(ctx, anySplit); ok {
			before := size(out)
			next, err := h.Reader.Read(turn, out)
			h.gate.end()
			if err == io.EOF { //nolint:errorlint // a wrapped one doesn't finish a split
				h.gate.remove(next.ID())
			}
			if !woken(ctx, turn, err) {
				return next, err
			}
			if size(out) > before {
				return next, nil
			}
		}
		if err := h.wait(ctx); err != nil {
			var none S
			return none, err
		}
	}
}

// wait blocks while a split is paused.
func (h *held[T, S]) wait(ctx context.Context) error {
	for !h.gate.open(anySplit) {
		select {
		case <-h.gate.changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return ctx.Err()
}

func (h *held[T, S]) Close() error {
	h.gate.stop()
	return h.Reader.Close()
}
