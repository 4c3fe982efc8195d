package async

import (
	"fmt"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// finish books the answer to a batch. Records that are neither delivered nor refused stay in the held list whatever
// happens, so that Snapshot has them. mu is held.
func (w *writer[T]) finish(b *batch[T], v verdict) event {
	w.inFlight--
	ev := event{}
	if w.closed || w.err != nil {
		return ev
	}
	now, draw := w.now(), random()
	failed := b.nodes[:0] // overwrites only what the loop has passed
	for i, n := range b.nodes {
		n.attempts++
		what, why := w.decide(v, i, n)
		switch what {
		case fatal:
			w.err = why
			return ev
		case again:
			n.due = now + w.retryIn(n, why, draw)
			w.streak.fail(n.failed, why, now, &ev)
			n.failed = true
			failed = append(failed, n)
		default:
			w.settle(n, what, why, now, &ev)
		}
	}
	if w.cfg.Key != nil {
		w.release(b, failed)
	} else {
		w.park(failed)
	}
	clear(b.nodes[:cap(b.nodes)])
	clear(b.values)
	clear(b.lanes)
	*b = batch[T]{nodes: b.nodes[:0], values: b.values[:0], lanes: b.lanes[:0]}
	w.freeB = append(w.freeB, b)
	return ev
}

// decide says what becomes of a record: the answer's verdict, and beside it the limit of attempts and the order of a key.
func (w *writer[T]) decide(v verdict, i int, n *node[T]) (kind, error) {
	what, why := v.of(i)
	switch {
	case what == fatal && fault.CodeOf(why) == "":
		why = fault.Wrap(fault.SinkFailed, why, "send batch")
	case what == again && w.cfg.Retry.Attempts > 0 && n.attempts >= w.cfg.Retry.Attempts:
		return reject, fmt.Errorf("give up after %d attempts: %w", n.attempts, why)
	case what == again && w.cfg.Key != nil:
		n.lane.again = true
	case what == done && w.cfg.Key != nil && n.lane.again:
		return again, nil
	}
	return what, why
}

// retryIn is how long a record has to wait; one that only follows an earlier record of its key (why is nil) has no delay
// of its own.
func (w *writer[T]) retryIn(n *node[T], why error, draw float64) time.Duration {
	if why == nil {
		return 0
	}
	if d, ok := sink.RetryDelay(why); ok {
		return d + time.Duration(w.cfg.Retry.Jitter*draw*float64(w.cfg.Retry.Base))
	}
	return w.cfg.Retry.delay(n.attempts, draw)
}

// settle books a record that needs no further sending.
func (w *writer[T]) settle(n *node[T], what kind, why error, now time.Duration, ev *event) {
	w.heldN--
	w.heldB -= n.size
	w.streak.settle(n.failed, now, ev)
	if what == done {
		ev.sent++
		w.free(n)
		return
	}
	ev.rejected++
	n.err, n.lane, n.failed = why, nil, false
	w.rejects = append(w.rejects, n)
}

// release frees the lanes of a batch after what failed has gone back to their heads.
func (w *writer[T]) release(b *batch[T], failed []*node[T]) {
	for i := len(failed) - 1; i >= 0; i-- {
		l := failed[i].lane
		l.unpop(failed[i])
		l.due = max(l.due, failed[i].due)
	}
	for _, l := range b.lanes {
		switch {
		case l.again:
			l.again, l.place = false, delayed
			w.delayed.push(l)
		case l.n > 0:
			w.toReady(l)
		default:
			w.drop(l)
		}
	}
}

// park lets what failed wait in lanes of its own, one for each moment.
func (w *writer[T]) park(failed []*node[T]) {
	var l *lane[T]
	for _, n := range failed {
		if l == nil || l.due != n.due {
			l = w.lane()
			l.place, l.due = delayed, n.due
			w.delayed.push(l)
		}
		l.push(n)
	}
}
