package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weirline/weirline/source"
)

// finish runs an attempt to its end and compares.
func (w *world[T, S]) finish(err error) error {
	if err == nil {
		err = w.run()
	}
	if w == nil {
		return err
	}
	if err == nil {
		err = w.c.compare(w.got)
	}
	if err == nil && w.rejects != w.c.Rejects {
		err = fmt.Errorf("%d records were rejected, want %d", w.rejects, w.c.Rejects)
	}
	return errors.Join(err, w.close())
}

func (c Case[T, S]) whole(rng *rand.Rand) error {
	for _, readers := range []int{1, c.Readers} {
		for _, limit := range []int{1, c.Batch, 1000} {
			w, err := c.start(rng, readers, limit, nil, options[T, S]{})
			if err := w.finish(err); err != nil {
				return fmt.Errorf("%d readers, batches of %d: %w", readers, limit, err)
			}
		}
	}
	return nil
}

func (c Case[T, S]) ids(rng *rand.Rand) error {
	var before []string
	for attempt := range 2 {
		w, err := c.start(rng, 1, c.Batch, nil, options[T, S]{})
		if err != nil {
			return err
		}
		if err := errors.Join(w.discover(c.Timeout), w.close()); err != nil {
			return err
		}
		var ids []string
		for id := range w.known {
			if id == "" {
				return errors.New("a split has no ID")
			}
			ids = append(ids, id)
		}
		slices.Sort(ids)
		if attempt > 0 && !slices.Equal(ids, before) {
			return fmt.Errorf("IDs change from one Discover to the next: %s, then %s", some(before), some(ids))
		}
		before = ids
	}
	return nil
}

// restart stops at a boundary, restores the checkpoint of that one or an earlier one, maybe with another parallelism, and
// reads the rest.
func (c Case[T, S]) restart(rng *rand.Rand) error {
	seed := rng.Uint64()
	_, total, err := c.cutAt(seed, -1, 0)
	if err != nil {
		return err
	}
	points := rng.Perm(total)
	points = points[:min(len(points), c.Restarts)]
	for _, at := range points {
		back := 0
		if rng.IntN(2) == 0 {
			back = rng.IntN(at + 1)
		}
		from, _, err := c.cutAt(seed, at, back)
		if err != nil {
			return err
		}
		w, err := c.start(rng, 1+rng.IntN(c.Readers), c.Batch, from.cut, options[T, S]{})
		if w != nil {
			w.got, w.rejects = from.got, from.cut.rejects
		}
		if err := w.finish(err); err != nil {
			return fmt.Errorf("stopped after step %d of %d, restored from the checkpoint %d before it: %w", at+1, total, back, err)
		}
	}
	return nil
}

type past struct {
	cut *cut
	got []string
}

// cutAt runs until step at (-1: to the end) and returns the checkpoint of the step back before it.
func (c Case[T, S]) cutAt(seed uint64, at, back int) (past, int, error) {
	var p past
	opts := options[T, S]{after: func(w *world[T, S]) error {
		if w.steps-1 == at-back {
			var err error
			if p.cut, err = w.cut(); err != nil {
				return err
			}
			p.got = slices.Clone(w.got)
		}
		if w.steps-1 == at {
			return errStop
		}
		return nil
	}}
	w, err := c.start(rand.New(rand.NewPCG(seed, 1)), c.Readers, c.Batch, nil, opts)
	if err == nil {
		err = w.run()
	}
	if w == nil {
		return p, 0, err
	}
	err = errors.Join(err, w.close())
	if err == nil && at >= 0 && p.cut == nil {
		// The run was shorter than the one before it, as may be where time plays a part: take its end.
		p.cut, err = w.cut()
		p.got = w.got
	}
	return p, w.steps, err
}

func (c Case[T, S]) cancels(rng *rand.Rand) error {
	for range 4 {
		w, err := c.start(rng, c.Readers, 1+rng.IntN(2*c.Batch), nil, options[T, S]{cancel: true})
		if err := w.finish(err); err != nil {
			return err
		}
	}
	return nil
}

func (c Case[T, S]) comeAndGo(rng *rand.Rand) error {
	opts := options[T, S]{after: func(w *world[T, S]) error {
		if w.rng.IntN(4) > 0 {
			return nil
		}
		n := w.readers[w.rng.IntN(len(w.readers))]
		if err := w.down(n); err != nil {
			return err
		}
		return w.up(n)
	}}
	for range 4 {
		w, err := c.start(rng, c.Readers, c.Batch, nil, opts)
		if err := w.finish(err); err != nil {
			return err
		}
	}
	return nil
}

func (c Case[T, S]) memory(rng *rand.Rand) error {
	w, err := c.start(rng, c.Readers, c.Batch, nil, options[T, S]{memory: true})
	if err := w.finish(err); err != nil {
		return err
	}
	if b, ok := source.As[source.Borrower](c.Source); ok && b.Borrowed() {
		return nil
	}
	for _, k := range w.kept {
		if now := c.Key(k.v); now != k.key {
			return fmt.Errorf("the value %s became %s after its batch was recycled: copy it, or declare source.Borrower", k.key, now)
		}
	}
	return nil
}

func (c Case[T, S]) closes(rng *rand.Rand) error {
	w, err := c.start(rng, c.Readers, c.Batch, nil, options[T, S]{})
	if w == nil {
		return err
	}
	if err := errors.Join(err, w.close()); err != nil {
		return fmt.Errorf("close readers that never read: %w", err)
	}
	for _, bad := range c.Bad {
		if err := c.closeAfter(w, bad); err != nil {
			return err
		}
	}
	return nil
}

// closeAfter closes a reader after a split it can't read.
func (c Case[T, S]) closeAfter(w *world[T, S], bad S) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	r, err := c.Source.Reader(ctx, w.task(0, 1))
	if err != nil {
		return fmt.Errorf("make reader: %w", err)
	}
	err = r.Add(ctx, bad)
	for err == nil {
		b := &source.Batch[T]{}
		b.Limit(c.Batch)
		_, err = r.Read(ctx, b)
	}
	if isEnd(err) || ctx.Err() != nil {
		return errors.Join(fmt.Errorf("read split %q that can't be read: got %w, want another error", bad.ID(), err), r.Close())
	}
	if err := r.Close(); err != nil {
		return fmt.Errorf("close after the error %q: %w", err, err)
	}
	return nil
}

// pauseRounds is how often all splits of a reader are paused; each time costs silence.
const (
	pauseRounds = 6
	silence     = 20 * time.Millisecond
)

func (c Case[T, S]) pauses(rng *rand.Rand) error {
	rounds := 0
	opts := options[T, S]{after: func(w *world[T, S]) error {
		n := w.readers[w.rng.IntN(len(w.readers))]
		if rounds >= pauseRounds || n.reader == nil || len(n.has) == 0 {
			return nil
		}
		rounds++
		return w.pause(n)
	}}
	w, err := c.start(rng, min(2, c.Readers), c.Batch, nil, opts)
	if err := w.finish(err); err != nil {
		return err
	}
	return nil
}

// pause pauses some and then all splits of a reader, and resumes them while it reads.
func (w *world[T, S]) pause(n *node[T, S]) error {
	p, ok := source.As[source.Pauser](n.reader)
	if !ok {
		return nil
	}
	var ids []string
	for _, s := range n.has {
		ids = append(ids, s.ID())
	}
	w.rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	p.Pause("no such split")
	for _, some := range []int{w.rng.IntN(len(ids)), len(ids)} {
		p.Pause(ids[:some]...)
		if err := w.silent(n, ids[:some]); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	resumed := make(chan struct{})
	go func() {
		defer close(resumed)
		p.Resume(ids...)
	}()
	_, err := w.read(ctx, n)
	<-resumed
	return err
}

// silent reads with some splits paused: they must not move, and with all of them paused Read must block.
func (w *world[T, S]) silent(n *node[T, S], paused []string) error {
	if len(n.has) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(w.ctx, silence)
	defer cancel()
	before, all := map[string]string{}, true
	for _, s := range n.has {
		b, err := source.EncodeSplit(s)
		if err != nil {
			return err
		}
		before[s.ID()] = string(b)
		all = all && slices.Contains(paused, s.ID())
	}
	count, err := w.read(ctx, n)
	if err != nil {
		return err
	}
	if all && (count > 0 || ctx.Err() == nil) {
		return fmt.Errorf("all splits of a reader are paused, and Read returned %d records before its context ended", count)
	}
	for _, id := range paused {
		i := slices.IndexFunc(n.has, func(s S) bool { return s.ID() == id })
		if _, had := before[id]; !had {
			continue // finished earlier
		}
		if i < 0 {
			return fmt.Errorf("split %q is paused, and Read finished it", id)
		}
		if b, err := source.EncodeSplit(n.has[i]); err != nil || string(b) != before[id] {
			return fmt.Errorf("split %q is paused, and Read moved it from %s to %s (%w)", id, before[id], b, err)
		}
	}
	return nil
}
