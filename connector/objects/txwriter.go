package objects

import (
	"context"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/parts"
)

// txWriter turns records into files of its tx.
type txWriter[T any] struct {
	*tx
	set *parts.Set[T, *file]
}

var (
	_ sink.TxWriter[string] = (*txWriter[string])(nil)
	_ sink.Gated            = (*txWriter[string])(nil)
	_ sink.Failing          = (*txWriter[string])(nil)
)

func newWriter[T any](o parts.Options[T], x *tx) (*txWriter[T], error) {
	set, err := parts.NewSet(o, x)
	if err != nil {
		return nil, fault.Wrap(fault.BadPipeline, err, "objects: Format")
	}
	return &txWriter[T]{tx: x, set: set}, nil
}

// Begin opens a transaction. The first record makes its first upload.
func (w *txWriter[T]) Begin(_ context.Context, s sink.Slot) error {
	if err := w.begin(s); err != nil {
		return err
	}
	w.set.Drop()
	return nil
}

// Write appends records to the files of their folders. Those that can't be encoded, or have no proper folder, are rejected.
func (w *txWriter[T]) Write(ctx context.Context, batch []T) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if w.slot.Name == "" {
		return errNotBegun
	}
	w.ctx = ctx
	return w.set.Write(batch)
}

// Prepare ends all files and sends what is left of them.
func (w *txWriter[T]) Prepare(ctx context.Context, epoch uint64) (sink.Handle, error) {
	if w.slot.Name == "" {
		return sink.Handle{}, errNotBegun
	}
	w.ctx = ctx
	if err := w.set.End(); err != nil {
		return sink.Handle{}, err
	}
	return w.prepare(epoch)
}
