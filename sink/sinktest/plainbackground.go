package sinktest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirline/weirline/sink"
)

// Checks of writers that do their I/O in the background. Others pass them without doing anything.

// stateHoldsOnce restores one state three times. What was on its way when it was taken may arrive too, but only once.
func (p *plain[T]) stateHoldsOnce(ctx context.Context) error {
	rs := p.records(p.Records)
	var state []byte
	err := p.blocked(func(func()) (err error) {
		state, err = p.lost(ctx, rs)
		return err
	})
	if err != nil || state == nil {
		return err
	}
	const times = 3
	for range times {
		if err := p.restored(ctx, state); err != nil {
			return err
		}
	}
	got, err := p.Read()
	if err != nil {
		return fmt.Errorf("read destination: %w", err)
	}
	have := tally(got)
	for _, r := range rs {
		if n := have[id(r)]; n > times+1 {
			return fmt.Errorf("record %s is there %d times after the state was restored %d times: the state holds it more than once", id(r), n, times)
		}
	}
	return p.delivered(rs, true)
}

// quietAfterClose fills a writer, closes it while the destination hangs, and lets the destination answer.
func (p *plain[T]) quietAfterClose(ctx context.Context) error {
	return p.blocked(func(release func()) error {
		w, err := p.open(ctx, 0)
		if err != nil {
			return err
		}
		g, ok := sink.As[sink.Gated](w)
		for i := 0; ok && i < 10_000 && g.Room(); i++ {
			if err := p.soon("Write, though Room was true,", func() error { return w.Write(ctx, p.records(p.Records)) }); err != nil {
				return errors.Join(err, w.Close())
			}
		}
		if err := p.soon("Close", w.Close); err != nil {
			return err
		}
		select {
		case <-p.woken: // before
		default:
		}
		release()
		if !ok {
			return nil
		}
		select {
		case <-p.woken:
			return errors.New("OnRoom's function was called after Close: an answer that came later was not dropped")
		case <-time.After(p.Limit / 10):
			return nil
		}
	})
}

// restoredGoByThemselves waits for records of a state, calling nothing.
func (p *plain[T]) restoredGoByThemselves(ctx context.Context) error {
	rs := p.records(3)
	state, err := p.lost(ctx, rs)
	if err != nil || state == nil {
		return err
	}
	return p.using(ctx, func(w sink.Writer[T]) error {
		st, ok := sink.As[sink.Stateful](w)
		_, background := sink.As[sink.Gated](w)
		if !ok || !background {
			return nil
		}
		if err := st.Restore([][]byte{state}); err != nil {
			return fmt.Errorf("restore: %w", err)
		}
		var missing error
		for end := time.Now().Add(p.Limit); time.Now().Before(end); {
			if missing = p.delivered(rs, true); missing == nil {
				return nil
			}
			<-time.After(p.Limit / 100)
		}
		return fmt.Errorf("%v after Restore, without a call of Write or Flush: %w", p.Limit, missing)
	})
}

// flushWhileFailing flushes while the destination refuses everything for the time being. The writer may wait or fail; what
// it must not do is say yes.
func (p *plain[T]) flushWhileFailing(ctx context.Context) error {
	rs := p.records(p.Records)
	return p.using(ctx, func(w sink.Writer[T]) error {
		heal := p.Fail()
		healed := false
		defer func() {
			if !healed {
				heal()
			}
		}()
		short, cancel := context.WithTimeout(ctx, p.Limit/4)
		defer cancel()
		if err := p.write(short, w, rs); err != nil {
			return nil //nolint:nilerr // a writer without a buffer says so at once
		}
		if err := w.Flush(short); err == nil {
			return p.delivered(rs, true)
		}
		if _, ok := sink.As[sink.Gated](w); !ok {
			return nil // the error ends its task
		}
		heal()
		healed = true
		if err := w.Flush(ctx); err != nil {
			return nil //nolint:nilerr // one that doesn't go on after an error: its task restarts
		}
		return p.delivered(rs, true)
	})
}
