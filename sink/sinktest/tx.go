package sinktest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/weirline/weirline/sink"
)

// TxCase is a two-phase sink under test.
type TxCase[T any] struct {
	// Sink is the sink under test.
	Sink sink.TwoPhase[T]

	// Make makes record i. Records with different numbers must differ and be accepted by the destination.
	Make func(i int) T

	// Visible returns every record a reader of the destination sees, in any order, each as often as it is seen.
	Visible func() ([]T, error)

	// Left names what the destination still holds for a slot that isn't visible: prepared or open transactions, hidden
	// files. Unset: that leftovers are cleared is seen only from outside.
	Left func(s sink.Slot) ([]string, error)

	// Records is how many records each transaction gets. Unset: 20.
	Records int

	// Limit bounds each promise. Unset: 30 s.
	Limit time.Duration
}

// RunTx checks a two-phase sink.
func RunTx[T any](t *testing.T, c TxCase[T]) {
	t.Helper()
	x := newTx(c)
	for _, ch := range x.checks() {
		t.Run(ch.name, func(t *testing.T) {
			if err := x.run(t.Context(), ch); err != nil {
				t.Error(err)
			}
		})
	}
}

// tx runs the checks of one case.
type tx[T any] struct {
	TxCase[T]
	used    int            // numbers of records used
	slots   int            // slots granted
	dropped []func() error // crashed writers, closed when all is judged
}

func newTx[T any](c TxCase[T]) *tx[T] {
	if c.Records <= 0 {
		c.Records = 20
	}
	if c.Limit <= 0 {
		c.Limit = 30 * time.Second
	}
	return &tx[T]{TxCase: c}
}

func (x *tx[T]) checks() []check {
	cs := []check{
		{"invisible before Commit, visible exactly once after it", x.visibleOnce},
		{"Commit can be repeated", x.commitTwice},
		{"Commit finishes several handles, of several writers", x.commitSeveral},
		{"a slot can be used again after its commit, and the old handle then harms nothing", x.slotAgain},
		{"Close gives up an open transaction", x.closeOpen},
		{"Close leaves a prepared transaction alone", x.closePrepared},
		{"Close can be called unused and twice", x.closeTwice},
		{"Recover of nothing is fine", x.recoverNothing},
		{"Recover can be repeated", x.recoverTwice},
		{"Recover touches no other slots", x.otherSlots},
		{"Recover of one job leaves another alone", x.otherJob},
		{"Commit of a transaction that was cleared is an error", x.commitLost},
		{"tokens are unique", x.tokens},
		{"the batch slice isn't kept", x.sliceIsNotKept},
	}
	for _, step := range steps {
		for _, keep := range []bool{false, true} {
			if keep && step.handles == 0 {
				continue
			}
			name := fmt.Sprintf("crash %s, Recover with %d handles", step.name, map[bool]int{true: step.handles}[keep])
			cs = append(cs, check{name, func(ctx context.Context) error { return x.crash(ctx, step, keep) }})
		}
	}
	return cs
}

func (x *tx[T]) run(ctx context.Context, ch check) error {
	ctx, cancel := context.WithTimeout(ctx, x.Limit)
	defer cancel()
	err := ch.f(ctx)
	for _, closer := range x.dropped {
		_ = closer() // a crashed process would not have got here; this only frees what the test binary holds
	}
	x.dropped = nil
	return err
}

func (x *tx[T]) records() []T {
	out := make([]T, x.Records)
	for i := range out {
		out[i] = x.Make(x.used)
		x.used++
	}
	return out
}

// slot grants a new slot of a job.
func (x *tx[T]) slot(job string) sink.Slot {
	x.slots++
	return sink.Slot{ID: x.slots, Name: fmt.Sprintf("%s-out-%d", job, x.slots)}
}

func (x *tx[T]) writer(ctx context.Context) (sink.TxWriter[T], error) {
	w, err := x.Sink.TxWriter(ctx, task("sinktest", 0))
	if err != nil {
		return nil, fmt.Errorf("make writer: %w", err)
	}
	x.dropped = append(x.dropped, w.Close)
	return w, nil
}

// committing calls f with a new committer, as another process would have it.
func (x *tx[T]) committing(ctx context.Context, f func(c sink.Committer) error) error {
	c, err := x.Sink.Committer(ctx, task("sinktest", 0))
	if err != nil {
		return fmt.Errorf("make committer: %w", err)
	}
	err = f(c)
	for range 2 {
		if cerr := c.Close(); cerr != nil {
			err = errors.Join(err, fmt.Errorf("close committer: %w", cerr))
		}
	}
	return err
}

func (x *tx[T]) commit(ctx context.Context, hs ...sink.Handle) error {
	return x.committing(ctx, func(c sink.Committer) error {
		if err := c.Commit(ctx, hs); err != nil {
			return fmt.Errorf("commit %d handles: %w", len(hs), err)
		}
		return nil
	})
}

func (x *tx[T]) recover(ctx context.Context, keep []sink.Handle, slots ...sink.Slot) error {
	return x.committing(ctx, func(c sink.Committer) error {
		if err := c.Recover(ctx, keep, slots); err != nil {
			return fmt.Errorf("recover with %d handles and %d slots: %w", len(keep), len(slots), err)
		}
		return nil
	})
}

// fill opens a transaction and writes rs in batches that are spoiled afterwards.
func (x *tx[T]) fill(ctx context.Context, w sink.TxWriter[T], s sink.Slot, rs []T) error {
	if err := w.Begin(ctx, s); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	for part := range slices.Chunk(rs, 7) {
		batch := slices.Clone(part)
		if err := w.Write(ctx, batch); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		clear(batch)
	}
	return nil
}

// prepare takes the handle through bytes, as the epoch's record would.
func (x *tx[T]) prepare(ctx context.Context, w sink.TxWriter[T], s sink.Slot, epoch uint64) (sink.Handle, error) {
	h, err := w.Prepare(ctx, epoch)
	if err != nil {
		return h, fmt.Errorf("prepare: %w", err)
	}
	if h.Operator != "out" || h.Slot != s || h.Epoch != epoch || h.Token == "" {
		return h, fmt.Errorf("handle %+v doesn't name operator %q, slot %+v, epoch %d and a token", h, "out", s, epoch)
	}
	data, err := json.Marshal(h)
	if err != nil {
		return h, err
	}
	var stored sink.Handle
	err = json.Unmarshal(data, &stored)
	return stored, err
}

// prepared makes a transaction of new records up to its handle.
func (x *tx[T]) prepared(ctx context.Context, w sink.TxWriter[T], s sink.Slot, epoch uint64) ([]T, sink.Handle, error) {
	rs := x.records()
	if err := x.fill(ctx, w, s, rs); err != nil {
		return nil, sink.Handle{}, err
	}
	h, err := x.prepare(ctx, w, s, epoch)
	return rs, h, err
}

// once says if one of the records isn't visible exactly once.
func (x *tx[T]) once(rs ...[]T) error {
	got, err := x.Visible()
	if err != nil {
		return fmt.Errorf("read destination: %w", err)
	}
	return compare(got, slices.Concat(rs...), false)
}

// hidden says if one of the records is visible.
func (x *tx[T]) hidden(when string, rs ...[]T) error {
	got, err := x.Visible()
	if err != nil {
		return fmt.Errorf("read destination: %w", err)
	}
	if err := absent(got, slices.Concat(rs...)); err != nil {
		return fmt.Errorf("%s: %w", when, err)
	}
	return nil
}

// clean says if something is left under the slots.
func (x *tx[T]) clean(slots ...sink.Slot) error {
	if x.Left == nil {
		return nil
	}
	for _, s := range slots {
		left, err := x.Left(s)
		if err != nil {
			return fmt.Errorf("look for leftovers: %w", err)
		}
		if len(left) > 0 {
			return fmt.Errorf("left under slot %s: %q", s.Name, left)
		}
	}
	return nil
}
