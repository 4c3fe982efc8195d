package sinktest

import (
	"context"
	"errors"
	"fmt"

	"github.com/weirline/weirline/sink"
)

func (p *plain[T]) flushDelivers(ctx context.Context) error {
	rs := p.records(p.Records)
	return p.using(ctx, func(w sink.Writer[T]) error {
		for _, part := range [][]T{rs[:len(rs)/2], rs[len(rs)/2:]} {
			if err := errors.Join(p.write(ctx, w, part), p.flush(ctx, w), p.delivered(part, true)); err != nil {
				return err
			}
		}
		return p.delivered(rs, false)
	})
}

func (p *plain[T]) sliceIsNotKept(ctx context.Context) error {
	rs, other := p.records(10), p.records(10)
	return p.using(ctx, func(w sink.Writer[T]) error {
		batch := append([]T(nil), rs...)
		if err := w.Write(ctx, batch); err != nil {
			return err
		}
		copy(batch, other)
		if err := errors.Join(p.flush(ctx, w), p.delivered(rs, false)); err != nil {
			return err
		}
		got, err := p.Read()
		return errors.Join(err, absent(got, other))
	})
}

func (p *plain[T]) emptyFlush(ctx context.Context) error {
	return p.using(ctx, func(w sink.Writer[T]) error {
		return errors.Join(p.flush(ctx, w), w.Write(ctx, nil), p.flush(ctx, w))
	})
}

func (p *plain[T]) closeTwice(ctx context.Context) error {
	for _, n := range []int{0, 5} {
		w, err := p.open(ctx, 0)
		if err != nil {
			return err
		}
		if n > 0 {
			err = w.Write(ctx, p.records(n))
		}
		for i := range 2 {
			if cerr := w.Close(); cerr != nil {
				err = errors.Join(err, fmt.Errorf("close number %d after %d records: %w", i+1, n, cerr))
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *plain[T]) cancelWhileFree(ctx context.Context) error {
	return p.using(ctx, func(w sink.Writer[T]) error { return p.cancelled(ctx, w) })
}

// cancelled calls Write until it fails or a lot is written, then Flush, all with a cancelled context. Any answer is
// right, as long as it comes.
func (p *plain[T]) cancelled(ctx context.Context, w sink.Writer[T]) error {
	over, cancel := context.WithCancel(ctx)
	cancel()
	return p.soon("Write or Flush with a cancelled context", func() error {
		for range 20 {
			if err := w.Write(over, p.records(p.Records)); err != nil {
				break
			}
		}
		_ = w.Flush(over) // it may well have nothing left to deliver
		return nil
	})
}

func (p *plain[T]) idempotent(ctx context.Context) error {
	s, ok := sink.As[sink.Idempotent](p.Sink)
	if !ok || !s.Idempotent() {
		return nil
	}
	rs := p.records(p.Records)
	for range 2 {
		err := p.using(ctx, func(w sink.Writer[T]) error {
			return errors.Join(p.write(ctx, w, rs), p.write(ctx, w, rs), p.flush(ctx, w))
		})
		if err != nil {
			return err
		}
	}
	return p.delivered(rs, false)
}

// lost writes rs, takes the state and closes the writer without Flush, as a crash after the epoch would. It returns a nil
// state if the writer isn't Stateful.
func (p *plain[T]) lost(ctx context.Context, rs []T) (state []byte, err error) {
	err = p.using(ctx, func(w sink.Writer[T]) error {
		st, ok := sink.As[sink.Stateful](w)
		if err := p.write(ctx, w, rs); err != nil || !ok {
			return err
		}
		err := p.soon("Snapshot", func() (err error) { state, err = st.Snapshot(); return err })
		if err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
		if state == nil {
			state = []byte{}
		}
		return nil
	})
	return state, err
}

// restored makes a writer from states and flushes it.
func (p *plain[T]) restored(ctx context.Context, states ...[]byte) error {
	return p.using(ctx, func(w sink.Writer[T]) error {
		st, ok := sink.As[sink.Stateful](w)
		if !ok {
			return errors.New("a second writer isn't Stateful")
		}
		if err := st.Restore(states); err != nil {
			return fmt.Errorf("restore: %w", err)
		}
		return p.flush(ctx, w)
	})
}

func (p *plain[T]) snapshotLosesNothing(ctx context.Context) error {
	rs := p.records(p.Records)
	state, err := p.lost(ctx, rs)
	if err != nil || state == nil {
		return err
	}
	for range 2 { // the second restart comes before the next epoch
		if err := errors.Join(p.restored(ctx, state), p.delivered(rs, true)); err != nil {
			return err
		}
	}
	return nil
}

func (p *plain[T]) statesAreMerged(ctx context.Context) error {
	var all []T
	var states [][]byte
	for range 3 {
		rs := p.records(p.Records)
		state, err := p.lost(ctx, rs)
		if err != nil || state == nil {
			return err
		}
		all, states = append(all, rs...), append(states, state)
	}
	return errors.Join(p.restored(ctx, states...), p.delivered(all, true))
}

func (p *plain[T]) flushedStateIsEmpty(ctx context.Context) error {
	rs := p.records(p.Records)
	return p.using(ctx, func(w sink.Writer[T]) error {
		st, ok := sink.As[sink.Stateful](w)
		if !ok {
			return nil
		}
		if err := errors.Join(p.write(ctx, w, rs), p.flush(ctx, w)); err != nil {
			return err
		}
		state, err := st.Snapshot()
		if err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
		if err := p.restored(ctx, state); err != nil {
			return err
		}
		return p.delivered(rs, false) // sent again, each would be there twice, unless the sink is idempotent
	})
}

// blocked calls f while the destination hangs.
func (p *plain[T]) blocked(f func(release func()) error) error {
	release := p.Block()
	released := false
	once := func() {
		if !released {
			released = true
			release()
		}
	}
	defer once()
	return f(once)
}

func (p *plain[T]) cancelWhileBlocked(ctx context.Context) error {
	return p.blocked(func(func()) error {
		return p.using(ctx, func(w sink.Writer[T]) error { return p.cancelled(ctx, w) })
	})
}

func (p *plain[T]) snapshotWhileBlocked(ctx context.Context) error {
	rs := p.records(p.Records)
	var state []byte
	err := p.blocked(func(func()) (err error) {
		state, err = p.lost(ctx, rs)
		return err
	})
	if err != nil || state == nil {
		return err
	}
	return errors.Join(p.restored(ctx, state), p.delivered(rs, true))
}

func (p *plain[T]) roomWhileBlocked(ctx context.Context) error {
	var all []T
	return p.using(ctx, func(w sink.Writer[T]) error {
		g, ok := sink.As[sink.Gated](w)
		if !ok {
			return nil
		}
		err := p.blocked(func(release func()) error {
			for range 10_000 {
				if !g.Room() {
					break
				}
				rs := p.records(p.Records)
				all = append(all, rs...)
				err := p.soon("Write, though Room was true,", func() error { return w.Write(ctx, rs) })
				if err != nil {
					return err
				}
			}
			if g.Room() {
				return nil // a writer without limit
			}
			select {
			case <-p.woken: // of earlier room
			default:
			}
			if g.Room() {
				return nil // it came to have room meanwhile
			}
			release()
			return p.soon("the wait for OnRoom's function", func() error { <-p.woken; return nil })
		})
		if err != nil {
			return err
		}
		return errors.Join(p.flush(ctx, w), p.delivered(all, true))
	})
}

func (p *plain[T]) closeWhileBlocked(ctx context.Context) error {
	return p.blocked(func(func()) error {
		w, err := p.open(ctx, 0)
		if err != nil {
			return err
		}
		werr := p.soon("Write of one batch", func() error {
			short, cancel := context.WithTimeout(ctx, p.Limit/4)
			defer cancel()
			_ = w.Write(short, p.records(10)) // it may wait, and then has to end with its context
			return nil
		})
		return errors.Join(werr, p.soon("Close", w.Close))
	})
}
