package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weirline/weirline/source"
)

// patience is how long a read or a Discover may find nothing before the others get their turn.
const patience = 500 * time.Millisecond

// run goes on until everything is read, or options.after stops it.
func (w *world[T, S]) run() error {
	err := w.rounds()
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

func (w *world[T, S]) rounds() error {
	bounded := true
	if b, ok := source.As[source.Bounded](w.c.Source); ok {
		bounded = b.Bounded()
	}
	for !w.over {
		if time.Now().After(w.deadline) {
			return w.stuck()
		}
		if !bounded && len(w.got) >= len(w.c.Want) && w.quiet() {
			return nil
		}
		if !w.done && (w.idle() || w.rng.IntN(4) == 0) {
			wait := patience
			if !w.idle() {
				wait /= 100
			}
			if err := w.discover(wait); err != nil {
				return err
			}
		}
		if w.done && w.idle() && len(w.unassigned) == 0 {
			if err := w.nextStage(); err != nil {
				return err
			}
			continue
		}
		for _, n := range w.readers {
			if err := w.turn(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// idle says that no reader has a split.
func (w *world[T, S]) idle() bool {
	return !slices.ContainsFunc(w.readers, func(n *node[T, S]) bool { return len(n.has) > 0 })
}

// quiet gives an endless source the chance to say more than was wanted.
func (w *world[T, S]) quiet() bool {
	before := len(w.got)
	for _, n := range w.readers {
		if len(n.has) > 0 && w.turn(n) != nil {
			return false
		}
	}
	return len(w.got) == before
}

func (w *world[T, S]) stuck() error {
	var held []string
	for _, n := range w.readers {
		for _, s := range n.has {
			held = append(held, s.ID())
		}
	}
	return fmt.Errorf("not at the end after %v: %d of %d values read; unassigned splits: %d; splits being read: %s",
		w.c.Timeout, len(w.got), len(w.c.Want), len(w.unassigned), some(held))
}

func (w *world[T, S]) nextStage() error {
	st, ok := source.As[source.Staged[S]](w.enum)
	if !ok {
		w.over = true
		return nil
	}
	last := st.Last()
	more, err := st.Next(w.ctx, slices.Clone(w.finished))
	if err != nil {
		return fmt.Errorf("next stage: %w", err)
	}
	if more && last {
		return errors.New("next stage: Last was true, yet there is another stage")
	}
	w.over, w.done = !more, !more
	if err := w.snapshot(); err != nil {
		return err
	}
	return w.stepped()
}

// turn lets one reader read once.
func (w *world[T, S]) turn(n *node[T, S]) error {
	if n.reader == nil {
		return nil
	}
	if len(n.has) == 0 {
		if len(w.unassigned) == 0 {
			return nil
		}
		return w.assign(source.Event[S]{Kind: source.Wanted, Reader: n.index})
	}
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	if w.opts.cancel && w.rng.IntN(4) > 0 {
		if wait := time.Duration(w.rng.IntN(300)-100) * time.Microsecond; wait <= 0 {
			cancel()
		} else {
			defer time.AfterFunc(wait, cancel).Stop()
		}
	}
	if _, err := w.read(ctx, n); err != nil {
		return err
	}
	if err := w.ack(n); err != nil {
		return err
	}
	return w.stepped()
}

// read calls Read once, checks what it did, and returns how many records came.
func (w *world[T, S]) read(ctx context.Context, n *node[T, S]) (int, error) {
	b := w.batch()
	sentinel := len(b.Values)
	o, returned := w.watched(ctx, n, b)
	next, err := o.next, o.err
	if !returned {
		n.reader = nil // nobody can close it now
		return 0, fmt.Errorf("read: Read didn't return within %v after its context ended", w.c.Timeout)
	}
	count := len(b.Values) - sentinel + len(b.Rejects)
	if err := w.checkBatch(b, sentinel); err != nil {
		return 0, err
	}
	if err != nil && !isEnd(err) && (ctx.Err() == nil || !errors.Is(err, ctx.Err())) {
		return 0, fmt.Errorf("read: %w", err)
	}
	if count > 0 || err == nil || isEnd(err) {
		if err := w.moved(n, next, isEnd(err)); err != nil {
			return 0, err
		}
	}
	for _, v := range b.Values[sentinel:] {
		w.got = append(w.got, w.c.Key(v))
		w.kept = append(w.kept, kept[T]{v: v, key: w.c.Key(v)})
	}
	w.rejects += len(b.Rejects)
	w.scribble(b)
	if isEnd(err) && len(n.has) == 0 {
		return count, w.assign(source.Event[S]{Kind: source.Wanted, Reader: n.index})
	}
	return count, nil
}

// watched calls Read on a goroutine, so that one which doesn't heed its context is found out.
func (w *world[T, S]) watched(ctx context.Context, n *node[T, S], b *source.Batch[T]) (outcome[S], bool) {
	done := make(chan outcome[S], 1)
	r := n.reader
	go func() {
		next, err := r.Read(ctx, b)
		done <- outcome[S]{next: next, err: err}
	}()
	select {
	case o := <-done:
		return o, true
	case <-ctx.Done():
	}
	limit := time.NewTimer(w.c.Timeout)
	defer limit.Stop()
	select {
	case o := <-done:
		return o, true
	case <-limit.C:
		return outcome[S]{}, false
	}
}

// outcome is what Read returned.
type outcome[S source.Split] struct {
	next S
	err  error
}

// moved takes over the split that Read returned.
func (w *world[T, S]) moved(n *node[T, S], next S, end bool) error {
	i := slices.IndexFunc(n.has, func(s S) bool { return s.ID() == next.ID() })
	if i < 0 {
		return fmt.Errorf("read: the split returned has the ID %q, which this reader wasn't given or has finished", next.ID())
	}
	if _, err := encodeAll([]S{next}); err != nil {
		return err
	}
	if !end {
		n.has[i] = next
		return nil
	}
	n.has = slices.Delete(n.has, i, i+1)
	w.finished = append(w.finished, next)
	return nil
}

func (w *world[T, S]) ack(n *node[T, S]) error {
	a, ok := source.As[source.Acker[S]](n.reader)
	if !ok || w.rng.IntN(4) > 0 {
		return nil
	}
	if err := a.Ack(w.ctx, append(slices.Clone(n.has), w.finished...)); err != nil {
		return fmt.Errorf("ack: %w", err)
	}
	return nil
}

// batch is an empty batch; in a memory run it is a new one that has a record already.
func (w *world[T, S]) batch() *source.Batch[T] {
	if !w.opts.memory && len(w.retired) > 0 {
		b := w.retired[0]
		b.Reset()
		return b
	}
	b := &source.Batch[T]{}
	b.Limit(w.limit)
	if !w.opts.memory {
		w.retired = append(w.retired, b)
		return b
	}
	if len(w.c.Want) > 0 && w.rng.IntN(2) == 0 {
		b.Limit(w.limit + 1)
		b.Add(w.c.Want[0])
	}
	return b
}

func (w *world[T, S]) checkBatch(b *source.Batch[T], sentinel int) error {
	if sentinel == 1 && (len(b.Values) == 0 || w.c.Key(b.Values[0]) != w.c.Key(w.c.Want[0])) {
		return errors.New("read: a record that was in the batch before is gone: append to the batch, don't write over it")
	}
	if len(b.Times) != 0 && len(b.Times) != len(b.Values) {
		return fmt.Errorf("read: the batch has %d values and %d times", len(b.Values), len(b.Times))
	}
	for _, r := range w.retired {
		if r != b && (len(r.Values) > 0 || len(r.Rejects) > 0) {
			return errors.New("read: records were added to the batch of an earlier Read: the reader kept it")
		}
	}
	return nil
}

// scribble does to a batch what its next use will do.
func (w *world[T, S]) scribble(b *source.Batch[T]) {
	clear(b.Values[:cap(b.Values)])
	clear(b.Times[:cap(b.Times)])
	lent := b.Scratch(0)
	lent = lent[:cap(lent)]
	for i := range lent {
		lent[i] = 0xAA
	}
	b.Reset()
	if w.opts.memory {
		w.retired = append(w.retired, b)
	}
}
