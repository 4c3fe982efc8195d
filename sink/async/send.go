package async

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// send delivers a batch and reports what came of it.
func (w *writer[T]) send(b *batch[T]) {
	v := w.deliver(b)
	ev := event{attempts: b.calls, records: len(b.nodes)}

	w.mu.Lock()
	w.finish(b, v, &ev)
	w.dispatch(&ev)
	w.mu.Unlock()
	w.tell(ev)
}

// try makes one call of Send, for a part of a batch, with a time limit of its own.
func (w *writer[T]) try(b *batch[T], p part) verdict {
	ctx, cancel := w.attempt()
	defer cancel()
	if err := ctx.Err(); err != nil {
		return verdict{all: again, err: err} // closed meanwhile
	}
	for _, n := range b.nodes[p.from:p.to] {
		n.sends++
	}
	b.calls++
	begun := time.Now()
	err := w.call(ctx, b.values[p.from:p.to])
	took := time.Since(begun)
	if b.calls == 1 {
		b.took = took
	}
	w.task.Metrics.Observe("send_seconds", took.Seconds())
	return judge(err, p.to-p.from)
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

// tell tells metrics, log and engine what has happened, and whoever waits in a call of Write or Flush. mu isn't held.
func (w *writer[T]) tell(ev event) {
	if !ev.happened() {
		return
	}
	w.mu.Lock()
	wake := w.wakes(ev)
	w.look(&ev)
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
