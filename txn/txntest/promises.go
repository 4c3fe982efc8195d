package txntest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

func (b *bench[T]) promises() []promise {
	ps := []promise{
		{"a transaction without records is one like any other", b.empty},
		{"names: the longest slot serves, a longer one and odd characters are refused at Begin", b.names},
		{"Recover leaves jobs with like names alone", b.neighbours},
		{"a transaction rolled back from outside is a loud loss", b.rolledBack},
		{"a cancelled Commit isn't success", b.cancelled},
		{"a writer that was taken for dead prepares nothing", b.zombie},
		{"a writer that was taken for dead doesn't disturb the slot's next one", b.zombieBeside},
		{"what is prepared can be listed and finished by hand", b.byHand},
	}
	if b.Lossy != nil {
		ps = append(ps, promise{"a loss can be accepted, and is counted", b.lossAccepted})
	}
	if b.Forget != nil {
		ps = append(ps, promise{"a fate that nobody knows isn't success", b.unknown})
	}
	if b.Kill != nil {
		ps = append(ps, promise{"prepared transactions outlive the destination's crash", b.restarted})
	}
	return ps
}

func (b *bench[T]) empty(ctx context.Context) error {
	w, err := b.writer(ctx)
	if err != nil {
		return err
	}
	one, two := b.slot(), b.slot()
	var hs []sink.Handle
	for _, s := range []sink.Slot{one, two} {
		if err := w.Begin(ctx, s); err != nil {
			return err
		}
		h, err := w.Prepare(ctx, 1)
		if err != nil {
			return fmt.Errorf("prepare nothing: %w", err)
		}
		hs = append(hs, h)
	}
	if err := errors.Join(b.commit(ctx, hs[0]), b.commit(ctx, hs[0]), b.clean(one)); err != nil {
		return err
	}
	return errors.Join(b.recover(ctx, hs[:1], one, two), b.clean(one, two), w.Close())
}

func (b *bench[T]) names(ctx context.Context) error {
	long := b.slot()
	long.Name += strings.Repeat("x", b.MaxSlot-len(long.Name))
	left, _, err := b.prepared(ctx, long)
	if err := errors.Join(err, b.recover(ctx, nil, long), b.seen(nil, left), b.clean(long)); err != nil {
		return fmt.Errorf("recover a slot of %d bytes: %w", b.MaxSlot, err)
	}
	rs, h, err := b.prepared(ctx, long)
	if err := errors.Join(err, b.commit(ctx, h), b.seen(rs, left), b.clean(long)); err != nil {
		return fmt.Errorf("a slot of %d bytes: %w", b.MaxSlot, err)
	}
	w, err := b.writer(ctx)
	if err != nil {
		return err
	}
	for _, name := range []string{"", "a b", "a/b", "a'b", `a"b`, "a\\b", "a\x00b", "ä", "a_b", long.Name + "x"} {
		if err := w.Begin(ctx, sink.Slot{Name: name}); err == nil {
			return fmt.Errorf("slot %q was taken", name)
		}
	}
	return nil
}

func (b *bench[T]) neighbours(ctx context.Context) error {
	mine := sink.Slot{ID: 1, Name: b.slot().Name}
	var others []T
	var hs []sink.Handle
	for _, name := range []string{mine.Name + "0", mine.Name + "-1", "eu-" + mine.Name, b.job + "-eu-out-1", b.job + "-out-1.1", strings.ToUpper(mine.Name)} {
		rs, h, err := b.prepared(ctx, sink.Slot{ID: 1, Name: name})
		if err != nil {
			return err
		}
		others, hs = append(others, rs...), append(hs, h)
	}
	left, _, err := b.prepared(ctx, mine)
	if err := errors.Join(err, b.recover(ctx, nil, mine), b.clean(mine), b.seen(nil, left)); err != nil {
		return err
	}
	return errors.Join(b.commit(ctx, hs...), b.seen(others, left))
}

// loss says if err isn't one that stops the job and names a loss.
func loss(err error, codes ...fault.Code) error {
	if err == nil {
		return errors.New("it was answered with success")
	}
	for _, c := range codes {
		if fault.CodeOf(err) == c.ID && sink.IsPermanent(err) {
			return nil
		}
	}
	return fmt.Errorf("want a permanent %s, got %w (permanent: %v)", codes[0].ID, err, sink.IsPermanent(err))
}

// broken prepares three transactions and rolls the second back from outside.
func (b *bench[T]) broken(ctx context.Context) (rs [3][]T, hs []sink.Handle, slots []sink.Slot, err error) {
	for i := range rs {
		s := b.slot()
		r, h, err := b.prepared(ctx, s)
		if err != nil {
			return rs, nil, nil, err
		}
		rs[i], hs, slots = r, append(hs, h), append(slots, s)
	}
	if err := b.RollBack(ctx, hs[1]); err != nil {
		return rs, nil, nil, fmt.Errorf("roll back from outside: %w", err)
	}
	return rs, hs, slots, nil
}

func (b *bench[T]) rolledBack(ctx context.Context) error {
	rs, hs, slots, err := b.broken(ctx)
	if err != nil {
		return err
	}
	for range 2 {
		if err := loss(b.commit(ctx, hs...), fault.LostCommit, fault.UnknownCommit); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
		// Nothing is cleared while something that is kept can't be committed.
		if err := loss(b.recover(ctx, hs, slots...), fault.LostCommit, fault.UnknownCommit); err != nil {
			return fmt.Errorf("recover: %w", err)
		}
	}
	if err := b.seen(rs[0], append(rs[1], rs[2]...)); err != nil {
		return err
	}
	return errors.Join(b.commit(ctx, hs[2]), b.seen(append(rs[0], rs[2]...), rs[1]))
}

func (b *bench[T]) lossAccepted(ctx context.Context) error {
	rs, hs, slots, err := b.broken(ctx)
	if err != nil {
		return err
	}
	n := counts{}
	err = b.with(ctx, b.Lossy, n, func(c sink.Committer) error {
		if err := c.Commit(ctx, hs[:2]); err != nil {
			return err
		}
		if n["lost_transactions"] != 1 {
			return fmt.Errorf("lost_transactions is %d after one loss", n["lost_transactions"])
		}
		return c.Recover(ctx, hs[2:], slots)
	})
	if err := errors.Join(err, b.seen(append(rs[0], rs[2]...), rs[1]), b.clean(slots...)); err != nil {
		return err
	}
	if n["lost_transactions"] != 1 {
		return fmt.Errorf("lost_transactions is %d after a recovery without a loss", n["lost_transactions"])
	}
	return nil
}

func (b *bench[T]) unknown(ctx context.Context) error {
	_, h, err := b.prepared(ctx, b.slot())
	if err := errors.Join(err, b.commit(ctx, h)); err != nil {
		return err
	}
	if h, err = b.Forget(ctx, h); err != nil {
		return fmt.Errorf("forget: %w", err)
	}
	if err := loss(b.commit(ctx, h), fault.UnknownCommit); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if err := loss(b.recover(ctx, []sink.Handle{h}, h.Slot), fault.UnknownCommit); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	if b.Lossy == nil {
		return nil
	}
	n := counts{}
	err = b.with(ctx, b.Lossy, n, func(c sink.Committer) error { return c.Commit(ctx, []sink.Handle{h}) })
	if err == nil && n["lost_transactions"] != 1 {
		err = fmt.Errorf("lost_transactions is %d", n["lost_transactions"])
	}
	return err
}

func (b *bench[T]) cancelled(ctx context.Context) error {
	s := b.slot()
	rs, h, err := b.prepared(ctx, s)
	if err != nil {
		return err
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	err = b.with(ctx, b.Sink, counts{}, func(c sink.Committer) error {
		if err := c.Commit(over, []sink.Handle{h}); err == nil || sink.IsPermanent(err) {
			return fmt.Errorf("commit with a cancelled context: %v, want an error that isn't permanent", err)
		}
		return c.Commit(ctx, []sink.Handle{h})
	})
	return errors.Join(err, b.seen(rs, nil), b.clean(s))
}

func (b *bench[T]) zombie(ctx context.Context) error {
	s := b.slot()
	w, rs, err := b.filled(ctx, s)
	if err := errors.Join(err, b.recover(ctx, nil, s)); err != nil {
		return err
	}
	if h, err := w.Prepare(ctx, 1); err == nil {
		return fmt.Errorf("it prepared transaction %s after its slot was cleared", h.Token)
	}
	return errors.Join(w.Close(), b.seen(nil, rs), b.clean(s))
}

func (b *bench[T]) zombieBeside(ctx context.Context) error {
	s := b.slot()
	old, gone, err := b.filled(ctx, s)
	if err := errors.Join(err, b.recover(ctx, nil, s)); err != nil {
		return err
	}
	w, rs, err := b.filled(ctx, s)
	if err != nil {
		return fmt.Errorf("the slot's next writer: %w", err)
	}
	if _, err := old.Prepare(ctx, 1); err == nil {
		return errors.New("the old writer prepared its transaction")
	}
	_ = old.Close() // it may say that its transaction is gone
	h, err := w.Prepare(ctx, 1)
	if err != nil {
		return fmt.Errorf("the slot's next writer: prepare: %w", err)
	}
	return errors.Join(b.seen(nil, append(gone, rs...)), b.commit(ctx, h), b.seen(rs, gone), b.clean(s))
}

// byHand holds for a committer that isn't a [txn.Lister], too.
func (b *bench[T]) byHand(ctx context.Context) error {
	prefix := b.job + "-hand"
	s1, s2, other := b.slotOf(prefix), b.slotOf(prefix), b.slotOf(prefix+"y")
	var rs [3][]T
	for i, s := range []sink.Slot{s1, s2, other} {
		var err error
		if rs[i], _, err = b.prepared(ctx, s); err != nil {
			return err
		}
	}
	return b.with(ctx, b.Sink, counts{}, func(c sink.Committer) error {
		l, ok := sink.As[txn.Lister](c)
		if !ok {
			return c.Recover(ctx, nil, []sink.Slot{s1, s2, other})
		}
		found, err := l.List(ctx, prefix)
		if err != nil || len(found) != 2 || found[0].Slot != s1.Name || found[1].Slot != s2.Name || found[0].Age < found[1].Age || found[1].Age < 0 {
			return fmt.Errorf("listed %+v, %v; want slots %s and %s, the oldest first", found, err, s1.Name, s2.Name)
		}
		if err := errors.Join(l.Finish(ctx, found[0], true), l.Finish(ctx, found[1], false)); err != nil {
			return err
		}
		if err := l.Finish(ctx, found[1], true); err == nil {
			return errors.New("a transaction that was rolled back was then committed")
		}
		if left, err := l.List(ctx, prefix); err != nil || len(left) > 0 {
			return fmt.Errorf("listed afterwards: %+v, %v", left, err)
		}
		return errors.Join(b.seen(rs[0], append(rs[1], rs[2]...)), c.Recover(ctx, nil, []sink.Slot{other}), b.clean(s1, s2, other))
	})
}

func (b *bench[T]) restarted(ctx context.Context) error {
	s1, s2, s3 := b.slot(), b.slot(), b.slot()
	first, h1, err1 := b.prepared(ctx, s1)
	second, h2, err2 := b.prepared(ctx, s2)
	w, open, err3 := b.filled(ctx, s3)
	if err := errors.Join(err1, err2, err3, b.commit(ctx, h1)); err != nil {
		return err
	}
	return b.with(ctx, b.Sink, counts{}, func(c sink.Committer) error {
		b.Kill()
		err := c.Commit(ctx, []sink.Handle{h2})
		if err := errors.Join(b.Restart(ctx), answered(err)); err != nil {
			return err
		}
		// The first was committed before the crash, which wasn't recorded.
		for range 2 {
			if err := c.Commit(ctx, []sink.Handle{h1, h2}); err != nil {
				return err
			}
		}
		if _, err := w.Prepare(ctx, 1); err == nil && !b.Outlives {
			return errors.New("an open transaction outlived the crash")
		}
		return errors.Join(b.recover(ctx, []sink.Handle{h1, h2}, s1, s2, s3), b.seen(append(first, second...), open), b.clean(s1, s2, s3))
	})
}

// answered says if a commit without a destination was taken for done, or for hopeless.
func answered(err error) error {
	if err == nil || sink.IsPermanent(err) {
		return fmt.Errorf("commit while the destination is away: %v, want an error that is retried", err)
	}
	return nil
}
