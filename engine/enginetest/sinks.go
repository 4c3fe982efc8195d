package enginetest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/weirline/weirline/sink"
)

// Collect is a plain sink that keeps everything it is given, repetitions after a restart included. Its zero value is ready.
type Collect[T any] struct {
	mu  sync.Mutex
	all []T
}

// Writer returns the sink itself.
func (c *Collect[T]) Writer(context.Context, sink.Task) (sink.Writer[T], error) { return c, nil }

// Write keeps a batch.
func (c *Collect[T]) Write(_ context.Context, b []T) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, b...)
	return nil
}

// Flush has nothing to do.
func (c *Collect[T]) Flush(context.Context) error { return nil }

// Close has nothing to do.
func (c *Collect[T]) Close() error { return nil }

// Rows is a copy of what was written, in the order of writing.
func (c *Collect[T]) Rows() []T {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.all)
}

// Tx is a two-phase destination in memory that outlives attempts and runs: what is prepared is invisible until committed.
type Tx[T any] struct {
	// OnCommit is called before each commit; an error makes it fail. nil = nothing.
	OnCommit func(hs []sink.Handle) error
	// OnPrepare is called before each prepare; an error makes it fail. nil = nothing.
	OnPrepare func(epoch uint64) error

	mu        sync.Mutex
	prepared  map[string][]T // by token
	committed map[string]bool
	visible   []T
	last      int
}

// NewTx makes an empty destination.
func NewTx[T any]() *Tx[T] {
	return &Tx[T]{prepared: map[string][]T{}, committed: map[string]bool{}}
}

// Rows is a copy of what is visible, in the order of commits.
func (d *Tx[T]) Rows() []T {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.visible)
}

// Leftovers is the number of transactions that are prepared and not committed.
func (d *Tx[T]) Leftovers() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.prepared)
}

// TxWriter makes the writer of a task.
func (d *Tx[T]) TxWriter(context.Context, sink.Task) (sink.TxWriter[T], error) {
	return &txWriter[T]{db: d}, nil
}

// Committer makes the committer.
func (d *Tx[T]) Committer(context.Context, sink.Task) (sink.Committer, error) {
	return &txCommitter[T]{db: d}, nil
}

type txWriter[T any] struct {
	db   *Tx[T]
	open []T
	slot sink.Slot
}

func (w *txWriter[T]) Begin(_ context.Context, s sink.Slot) error {
	w.open, w.slot = nil, s
	return nil
}

func (w *txWriter[T]) Write(_ context.Context, b []T) error {
	w.open = append(w.open, b...)
	return nil
}

func (w *txWriter[T]) Prepare(_ context.Context, epoch uint64) (sink.Handle, error) {
	d := w.db
	if d.OnPrepare != nil {
		if err := d.OnPrepare(epoch); err != nil {
			return sink.Handle{}, err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last++
	token := fmt.Sprintf("%s-%d", w.slot.Name, d.last)
	d.prepared[token] = w.open
	return sink.Handle{Token: token}, nil
}

func (w *txWriter[T]) Close() error { return nil }

type txCommitter[T any] struct{ db *Tx[T] }

func (c *txCommitter[T]) Commit(_ context.Context, hs []sink.Handle) error {
	if f := c.db.OnCommit; f != nil {
		if err := f(hs); err != nil {
			return err
		}
	}
	return c.db.commit(hs)
}

func (d *Tx[T]) commit(hs []sink.Handle) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, h := range hs {
		if d.committed[h.Token] {
			continue
		}
		rows, ok := d.prepared[h.Token]
		if !ok {
			return sink.Permanent(fmt.Errorf("transaction %s is gone", h.Token))
		}
		d.visible = append(d.visible, rows...)
		delete(d.prepared, h.Token)
		d.committed[h.Token] = true
	}
	return nil
}

// Recover commits keep and drops whatever else is prepared.
func (c *txCommitter[T]) Recover(_ context.Context, keep []sink.Handle, _ []sink.Slot) error {
	if err := c.db.commit(keep); err != nil {
		return err
	}
	c.db.mu.Lock()
	defer c.db.mu.Unlock()
	clear(c.db.prepared)
	return nil
}

func (c *txCommitter[T]) Close() error { return nil }
