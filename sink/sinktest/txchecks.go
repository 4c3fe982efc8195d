package sinktest

import (
	"context"
	"errors"
	"fmt"

	"github.com/weirline/weirline/sink"
)

func (x *tx[T]) visibleOnce(ctx context.Context) error {
	w, err := x.writer(ctx)
	if err != nil {
		return err
	}
	s, rs := x.slot("a"), x.records()
	if err := errors.Join(x.fill(ctx, w, s, rs), x.hidden("before Prepare", rs)); err != nil {
		return err
	}
	h, err := x.prepare(ctx, w, s, 1)
	if err := errors.Join(err, x.hidden("after Prepare", rs)); err != nil {
		return err
	}
	return errors.Join(x.commit(ctx, h), x.once(rs), x.clean(s), w.Close())
}

func (x *tx[T]) commitTwice(ctx context.Context) error {
	w, err := x.writer(ctx)
	if err != nil {
		return err
	}
	s := x.slot("a")
	rs, h, err := x.prepared(ctx, w, s, 1)
	if err != nil {
		return err
	}
	err = x.committing(ctx, func(c sink.Committer) error {
		return errors.Join(c.Commit(ctx, []sink.Handle{h}), c.Commit(ctx, []sink.Handle{h}))
	})
	return errors.Join(err, x.commit(ctx, h), x.once(rs), w.Close())
}

func (x *tx[T]) commitSeveral(ctx context.Context) error {
	var all [][]T
	var hs []sink.Handle
	for range 3 {
		w, err := x.writer(ctx)
		if err != nil {
			return err
		}
		for epoch := range uint64(3) {
			rs, h, err := x.prepared(ctx, w, x.slot("a"), epoch+1)
			if err != nil {
				return err
			}
			all, hs = append(all, rs), append(hs, h)
		}
		if err := w.Close(); err != nil {
			return err
		}
	}
	// A crash in the middle: some were committed, then all come again.
	if err := errors.Join(x.commit(ctx, hs[:4]...), x.once(all[:4]...), x.hidden("not committed", all[4:]...)); err != nil {
		return err
	}
	return errors.Join(x.commit(ctx, hs...), x.once(all...))
}

func (x *tx[T]) slotAgain(ctx context.Context) error {
	w, err := x.writer(ctx)
	if err != nil {
		return err
	}
	s := x.slot("a")
	first, h1, err := x.prepared(ctx, w, s, 1)
	if err := errors.Join(err, x.commit(ctx, h1)); err != nil {
		return err
	}
	second := x.records()
	if err := errors.Join(x.fill(ctx, w, s, second), x.commit(ctx, h1)); err != nil {
		return fmt.Errorf("old handle while the slot is open again: %w", err)
	}
	h2, err := x.prepare(ctx, w, s, 2)
	if err := errors.Join(err, x.commit(ctx, h1), x.hidden("after repeating the slot's old commit", second)); err != nil {
		return err
	}
	return errors.Join(x.commit(ctx, h1, h2), x.once(first, second), x.clean(s), w.Close())
}

func (x *tx[T]) closeOpen(ctx context.Context) error {
	w, err := x.writer(ctx)
	if err != nil {
		return err
	}
	s, rs := x.slot("a"), x.records()
	return errors.Join(x.fill(ctx, w, s, rs), w.Close(), x.hidden("after Close", rs), x.clean(s))
}

func (x *tx[T]) closePrepared(ctx context.Context) error {
	w, err := x.writer(ctx)
	if err != nil {
		return err
	}
	s1, s2 := x.slot("a"), x.slot("a")
	rs, h, err := x.prepared(ctx, w, s1, 1)
	if err != nil {
		return err
	}
	open := x.records()
	if err := errors.Join(x.fill(ctx, w, s2, open), w.Close()); err != nil {
		return err
	}
	return errors.Join(x.commit(ctx, h), x.once(rs), x.hidden("after Close", open))
}

func (x *tx[T]) closeTwice(ctx context.Context) error {
	for range 2 {
		w, err := x.writer(ctx)
		if err != nil {
			return err
		}
		if err := errors.Join(w.Close(), w.Close()); err != nil {
			return err
		}
	}
	return x.committing(ctx, func(sink.Committer) error { return nil })
}

func (x *tx[T]) recoverNothing(ctx context.Context) error {
	return errors.Join(x.recover(ctx, nil), x.recover(ctx, nil, x.slot("a"), x.slot("a")), x.commit(ctx))
}

func (x *tx[T]) recoverTwice(ctx context.Context) error {
	w, err := x.writer(ctx)
	if err != nil {
		return err
	}
	s1, s2 := x.slot("a"), x.slot("a")
	kept, h, err := x.prepared(ctx, w, s1, 1)
	if err != nil {
		return err
	}
	lost, _, err := x.prepared(ctx, w, s2, 2)
	if err != nil {
		return err
	}
	for range 2 {
		err := errors.Join(x.recover(ctx, []sink.Handle{h}, s1, s2), x.once(kept), x.hidden("after Recover", lost), x.clean(s1, s2))
		if err != nil {
			return err
		}
	}
	return nil
}

func (x *tx[T]) otherSlots(ctx context.Context) error {
	w, err := x.writer(ctx)
	if err != nil {
		return err
	}
	// Names that begin with one another must not be mixed up.
	long := x.slot("a")
	short := sink.Slot{ID: long.ID, Name: long.Name[:len(long.Name)-1]}
	longer := sink.Slot{ID: long.ID, Name: long.Name + "-1"}
	rs, h, err := x.prepared(ctx, w, long, 1)
	if err := errors.Join(err, x.recover(ctx, nil, short, longer, x.slot("a"))); err != nil {
		return err
	}
	return errors.Join(x.commit(ctx, h), x.once(rs))
}

func (x *tx[T]) otherJob(ctx context.Context) error {
	var ws [2]sink.TxWriter[T]
	var slots [2]sink.Slot
	var rs [2][]T
	var hs [2]sink.Handle
	for i, job := range []string{"one", "two"} {
		w, err := x.Sink.TxWriter(ctx, task(job, 0))
		if err != nil {
			return fmt.Errorf("make writer: %w", err)
		}
		x.dropped = append(x.dropped, w.Close)
		ws[i], slots[i] = w, sink.Slot{ID: 1, Name: fmt.Sprintf("%s%d-out-1", job, x.used)}
	}
	for i, w := range ws {
		var err error
		if rs[i], hs[i], err = x.prepared(ctx, w, slots[i], 1); err != nil {
			return err
		}
	}
	// Job one died before its epoch was complete and starts again; job two goes on.
	if err := errors.Join(x.recover(ctx, nil, slots[0]), x.commit(ctx, hs[1]), x.hidden("after Recover", rs[0])); err != nil {
		return err
	}
	return errors.Join(x.once(rs[1]), x.clean(slots[0]))
}

func (x *tx[T]) commitLost(ctx context.Context) error {
	w, err := x.writer(ctx)
	if err != nil {
		return err
	}
	s := x.slot("a")
	rs, h, err := x.prepared(ctx, w, s, 1)
	if err := errors.Join(err, x.recover(ctx, nil, s)); err != nil {
		return err
	}
	if err := x.commit(ctx, h); err == nil {
		return errors.New("a late commit was answered with success")
	}
	return x.hidden("after Commit", rs)
}

func (x *tx[T]) tokens(ctx context.Context) error {
	seen := map[string]bool{}
	for range 5 {
		w, err := x.writer(ctx)
		if err != nil {
			return err
		}
		for epoch := range uint64(2) {
			_, h, err := x.prepared(ctx, w, x.slot("a"), epoch)
			if err != nil {
				return err
			}
			if seen[h.Token] {
				return fmt.Errorf("token %q came twice", h.Token)
			}
			seen[h.Token] = true
		}
	}
	return nil
}

func (x *tx[T]) sliceIsNotKept(ctx context.Context) error {
	w, err := x.writer(ctx)
	if err != nil {
		return err
	}
	s, rs, other := x.slot("a"), x.records(), x.records()
	batch := append([]T(nil), rs...)
	if err := errors.Join(w.Begin(ctx, s), w.Write(ctx, batch)); err != nil {
		return err
	}
	copy(batch, other)
	h, err := x.prepare(ctx, w, s, 1)
	return errors.Join(err, x.commit(ctx, h), x.once(rs), x.hidden("after Commit", other))
}

// step is how far two transactions of a writer have got when it crashes.
type step struct {
	name    string
	handles int // prepared by then
	commits int // committed by then
	open    int // 0: nothing open, 1: begun, 2: written
}

var steps = []step{
	{"after Begin", 0, 0, 1},
	{"after Write", 0, 0, 2},
	{"after Prepare", 1, 0, 0},
	{"after Prepare and the next Begin", 1, 0, 1},
	{"after the second Prepare and the next Write", 2, 0, 2},
	{"between two commits", 2, 1, 0},
	{"after Commit", 2, 2, 2},
}

// crash brings a writer to a step, drops it, recovers with its handles or without, and looks what became of the records.
// Without handles those already committed stay visible, all others must be gone.
func (x *tx[T]) crash(ctx context.Context, at step, keep bool) error {
	w, err := x.writer(ctx)
	if err != nil {
		return err
	}
	var slots []sink.Slot
	var rs [][]T
	var hs []sink.Handle
	for i := range at.handles {
		s := x.slot("a")
		r, h, err := x.prepared(ctx, w, s, uint64(i)+1)
		if err != nil {
			return err
		}
		slots, rs, hs = append(slots, s), append(rs, r), append(hs, h)
	}
	for _, h := range hs[:at.commits] {
		if err := x.commit(ctx, h); err != nil {
			return err
		}
	}
	var open []T
	if at.open > 0 {
		slots = append(slots, x.slot("a"))
		if at.open == 2 {
			open = x.records()
		}
		if err := x.fill(ctx, w, slots[len(slots)-1], open); err != nil {
			return err
		}
	}
	// The writer is dropped here. The new process has granted a slot that was never used.
	slots = append(slots, x.slot("a"))
	visible := at.commits
	if keep {
		visible = at.handles
	} else {
		hs = nil
	}
	if err := x.recover(ctx, hs, slots...); err != nil {
		return err
	}
	if err := errors.Join(x.once(rs[:visible]...), x.hidden("after Recover", append(rs[visible:], open)...), x.clean(slots...)); err != nil {
		return err
	}
	return x.goOn(ctx, slots)
}

// goOn uses cleared slots for new transactions.
func (x *tx[T]) goOn(ctx context.Context, slots []sink.Slot) error {
	w, err := x.writer(ctx)
	if err != nil {
		return err
	}
	for i, s := range slots {
		rs, h, err := x.prepared(ctx, w, s, uint64(i)+10)
		if err := errors.Join(err, x.commit(ctx, h), x.once(rs)); err != nil {
			return fmt.Errorf("use slot %s again: %w", s.Name, err)
		}
	}
	return w.Close()
}
