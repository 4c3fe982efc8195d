package async

import (
	"fmt"
	"slices"
	"time"

	"github.com/weirline/weirline/internal/fault"
)

// finish books the answer to a batch. Records that are neither delivered nor refused stay in the held list whatever
// happens, so that Snapshot has them. mu is held.
func (w *writer[T]) finish(b *batch[T], v verdict, ev *event) {
	s := b.shard
	w.inFlight--
	s.inFlight--
	if w.closed || w.err != nil {
		return
	}
	now := w.now()
	t := tally(v, len(b.nodes))
	failed, err := w.book(b, v, t, now, ev)
	if err != nil {
		w.err = err
		return
	}
	if w.cfg.Key != nil {
		w.release(b, failed)
	} else {
		w.park(s, failed)
	}
	s.gate.end(now, b.ticket, t.reply(b.sent, b.took, b.full))
	if t.again > 0 {
		s.err = t.err
	}
	w.notice(s, now, ev)
	clear(b.nodes[:cap(b.nodes)])
	clear(b.values)
	clear(b.lanes)
	*b = batch[T]{nodes: b.nodes[:0], values: b.values[:0], lanes: b.lanes[:0]}
	w.freeB = append(w.freeB, b)
}

// book books what becomes of each record. It returns those to send again, in the order of the batch, or the error that
// fails the task.
func (w *writer[T]) book(b *batch[T], v verdict, t answers, now time.Duration, ev *event) ([]*node[T], error) {
	draw := random()
	failed := b.nodes[:0] // overwrites only what the loop has passed
	for i, n := range b.nodes {
		n.attempts++
		what, why := w.decide(v, i, n, now)
		switch what {
		case fatal:
			return nil, why
		case again:
			w.retry(b.shard, n, why, t, now, draw, ev)
			failed = append(failed, n)
		default:
			w.settle(n, what, why, now, ev)
		}
	}
	return failed, nil
}

// decide says what becomes of a record: the answer's verdict, and beside it the limits of attempts and age and the order
// of a key.
func (w *writer[T]) decide(v verdict, i int, n *node[T], now time.Duration) (kind, error) {
	what, why := v.of(i)
	switch {
	case what == fatal && fault.CodeOf(why) == "":
		why = fault.Wrap(fault.SinkFailed, why, "send batch")
	case what == again && w.cfg.Retry.Attempts > 0 && n.attempts >= w.cfg.Retry.Attempts:
		return reject, fmt.Errorf("give up after %d attempts: %w", n.attempts, why)
	case what == again && w.isOld(n, now):
		n.err = why
		return reject, w.tooOld(n)
	case what == again && w.cfg.Key != nil:
		n.lane.again = true
	case what == done && w.cfg.Key != nil && n.lane.again:
		return again, nil
	}
	return what, why
}

// retry books a record that has to be sent again. One that only follows an earlier record of its key (why is nil) has no
// delay of its own.
func (w *writer[T]) retry(s *shard[T], n *node[T], why error, t answers, now time.Duration, draw float64, ev *event) {
	cause := t.cause(why)
	ev.retries[cause]++
	w.streak.fail(n.failed, why, s.name, now, ev)
	n.failed, n.asked, n.counts, n.due = true, false, cause != causeThrottled, now
	if why == nil {
		return
	}
	n.err = why
	d, ok := askedFor(why)
	if n.asked = ok && d > 0; n.asked {
		n.due += d + time.Duration(w.cfg.Retry.Jitter*draw*float64(w.cfg.Retry.Base))
		return
	}
	n.due += w.cfg.Retry.delay(n.attempts, draw)
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
		l.failed(failed[i])
	}
	for _, l := range b.lanes {
		switch {
		case l.again:
			l.again = false
			w.toDelayed(l)
		case l.n > 0:
			w.toReady(l)
		default:
			w.drop(l)
		}
	}
}

// park lets what failed wait in lanes of its own, one for each moment.
func (w *writer[T]) park(s *shard[T], failed []*node[T]) {
	slices.SortFunc(failed, func(a, b *node[T]) int { return int(a.seq) - int(b.seq) })
	var lanes []*lane[T]
	for _, n := range failed {
		at := slices.IndexFunc(lanes, func(l *lane[T]) bool { return l.due == n.due && l.asked == n.asked })
		if at < 0 {
			at = len(lanes)
			l := w.lane()
			l.shard = s
			lanes = append(lanes, l)
		}
		lanes[at].push(n)
		lanes[at].failed(n)
	}
	for _, l := range lanes {
		w.toDelayed(l)
	}
}

// notice notes what the shard's gate has come to.
func (w *writer[T]) notice(s *shard[T], now time.Duration, ev *event) {
	k := s.gate.breaker
	if k.opened || k.closed {
		ev.breakers = append(ev.breakers, change{s.name, k.opened, s.err})
	}
	if k.closed {
		s.gate.heal()
		s.hasten(now)
	}
	k.opened, k.closed = false, false
	w.sum(s, now)
}
