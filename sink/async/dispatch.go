package async

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// batch is what one call of Send gets. Batches are recycled.
type batch[T any] struct {
	nodes  []*node[T]
	values []T
	bytes  int
	calls  int        // of Send
	lanes  []*lane[T] // with Key: those it keeps busy
}

// dispatch starts what can start now and sets the timer for what can start later. mu is held.
func (w *writer[T]) dispatch() {
	if w.closed || w.err != nil {
		return
	}
	now := w.now()
	for len(w.delayed.ls) > 0 && w.delayed.ls[0].due <= now {
		w.toReady(w.delayed.pop())
	}
	for w.inFlight < w.cfg.MaxInFlight && w.due(now) {
		b := w.take()
		w.inFlight++
		w.running.Go(func() { w.send(b) })
	}
	w.rearm(now)
}

// due says whether a batch should go now.
func (w *writer[T]) due(now time.Duration) bool {
	if len(w.ready.ls) == 0 {
		return false
	}
	return w.readyN >= w.cfg.MaxBatch || w.readyB >= w.cfg.MaxBytes || w.flushing || !w.hasRoom() ||
		now >= w.lingerEnd()
}

// lingerEnd is when the oldest record that may be sent has waited long enough.
func (w *writer[T]) lingerEnd() time.Duration {
	return w.ready.ls[0].head.at + max(w.cfg.Linger, 0)
}

// take makes a batch of the oldest records that may be sent.
func (w *writer[T]) take() *batch[T] {
	b := &batch[T]{}
	if last := len(w.freeB) - 1; last >= 0 {
		b = w.freeB[last]
		w.freeB = w.freeB[:last]
	}
	for len(w.ready.ls) > 0 {
		l := w.fromReady()
		before := len(b.nodes)
		for l.head != nil && w.fits(b, l.head) {
			n := l.pop()
			b.nodes = append(b.nodes, n)
			b.values = append(b.values, n.v)
			b.bytes += n.size
		}
		more := l.head != nil // the batch is full
		switch {
		case w.cfg.Key != nil && len(b.nodes) > before:
			l.place = busy
			b.lanes = append(b.lanes, l)
		case more:
			w.toReady(l)
		default:
			w.drop(l)
		}
		if more {
			break
		}
	}
	return b
}

// fits says whether a record may join a batch; the first always may. A full batch ends at the next record, never skips
// it, so records leave in order of age.
func (w *writer[T]) fits(b *batch[T], n *node[T]) bool {
	return len(b.nodes) == 0 || len(b.nodes) < w.cfg.MaxBatch && b.bytes+n.size <= w.cfg.MaxBytes
}

// rearm sets the timer to the next moment at which waiting records can go by themselves. With all slots taken there is
// none: the next answer dispatches.
func (w *writer[T]) rearm(now time.Duration) {
	at := time.Duration(-1)
	if w.inFlight < w.cfg.MaxInFlight {
		if len(w.ready.ls) > 0 {
			at = w.lingerEnd()
		}
		if len(w.delayed.ls) > 0 && (at < 0 || w.delayed.ls[0].due < at) {
			at = w.delayed.ls[0].due
		}
	}
	if w.armed && at == w.armedFor {
		return
	}
	w.disarm()
	if at < 0 || w.armed {
		return // nothing to wait for, or the timer has fired already and is about to dispatch
	}
	w.armed, w.armedFor = true, at
	w.running.Add(1)
	if w.timer == nil {
		w.timer = time.AfterFunc(at-now, w.fired)
	} else {
		w.timer.Reset(at - now)
	}
}

// disarm leaves armed set if the timer's function is running already.
func (w *writer[T]) disarm() {
	if w.armed && w.timer.Stop() {
		w.armed = false
		w.running.Done()
	}
}

func (w *writer[T]) fired() {
	defer w.running.Done()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed = false
	w.dispatch()
}

// send delivers a batch and reports what came of it.
func (w *writer[T]) send(b *batch[T]) {
	begun := time.Now()
	v := w.deliver(b)
	calls, took := b.calls, time.Since(begun)

	w.mu.Lock()
	ev := w.finish(b, v)
	w.dispatch()
	wake := w.wakes(ev)
	w.look(&ev)
	ev.attempts, ev.took = calls, took
	w.mu.Unlock()

	select {
	case w.changed <- struct{}{}:
	default:
	}
	w.report(ev)
	if wake != nil {
		wake()
	}
}

// call turns a panic of the user's function into an error that fails the task.
func (w *writer[T]) call(ctx context.Context, batch []T) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = sink.Permanent(fault.New(fault.UserPanic, "send batch: %v\n%s", p, debug.Stack()))
		}
	}()
	return w.cfg.Send(ctx, batch)
}

// wakes is the engine's function if there is something for it: room it waits for, refused records, an error.
func (w *writer[T]) wakes(ev event) func() {
	room := w.wantRoom && w.hasRoom()
	if w.closed || w.wake == nil || !room && ev.rejected == 0 && w.err == nil {
		return nil
	}
	if room {
		w.wantRoom = false
	}
	return w.wake
}
