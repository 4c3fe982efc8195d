package async

import (
	"errors"
	"time"

	"github.com/weirline/weirline/internal/fault"
)

var errNeverSent = errors.New("it was never sent")

// expire refuses the records that wait and have become too old. Each record is looked at once when its time is up: what is on its way
// then is refused if it fails.
func (w *writer[T]) expire(now time.Duration, ev *event) {
	for n := w.young; n != nil && w.isOld(n, now); n = w.young {
		w.young = n.newer
		if n.waits {
			why := w.tooOld(n)
			w.withdraw(n)
			w.settle(n, reject, why, now, ev)
		}
	}
}

func (w *writer[T]) isOld(n *node[T], now time.Duration) bool {
	return w.cfg.Retry.Age >= 0 && now-n.at >= w.cfg.Retry.Age
}

// expiry is when a record becomes too old next.
func (w *writer[T]) expiry() time.Duration {
	if w.cfg.Retry.Age < 0 || w.young == nil {
		return never
	}
	return w.young.at + w.cfg.Retry.Age
}

// tooOld says why a record that is too old was not delivered.
func (w *writer[T]) tooOld(n *node[T]) error {
	why := n.err
	if why == nil {
		why = n.lane.shard.err
	}
	if why == nil {
		why = errNeverSent
	}
	return fault.Wrap(fault.SinkRejected, why, "not delivered within %v after it was written", w.cfg.Retry.Age).
		WithFix("see why the destination takes nothing for so long; set Retry.Age if records may wait longer")
}

// withdraw takes a record that waits out of its lane.
func (w *writer[T]) withdraw(n *node[T]) {
	l := n.lane
	l.take(n)
	s := l.shard
	switch l.place {
	case ready:
		s.readyN--
		s.readyB -= n.size
		if l.n > 0 {
			s.ready.sift(l)
			return
		}
		s.ready.remove(l)
	case delayed:
		if l.n > 0 {
			return
		}
		s.delayed.remove(l)
	default:
		return
	}
	w.drop(l)
}
