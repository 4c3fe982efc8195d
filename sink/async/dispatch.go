package async

import "time"

// batch is what one call of Send gets. Batches are recycled.
type batch[T any] struct {
	shard  *shard[T]
	nodes  []*node[T]
	values []T
	bytes  int
	lanes  []*lane[T] // with Key: those it keeps busy
	ticket ticket
	sent   time.Duration // when it went
	took   time.Duration // of the first call
	full   bool          // no other could be sent beside it
	calls  int           // of Send
}

// dispatch starts what can start now and sets the timer for what can start later. mu is held.
func (w *writer[T]) dispatch(ev *event) {
	if w.closed || w.err != nil {
		return
	}
	now := w.now()
	w.expire(now, ev)
	next := w.expiry()
	for i := len(w.active) - 1; i >= 0; i-- {
		next = min(next, w.advance(w.active[i], now))
	}
	w.rearm(now, next)
}

// advance starts what can start now for one shard. It says when more can by itself: never, if only after an answer or if
// nothing waits.
func (w *writer[T]) advance(s *shard[T], now time.Duration) time.Duration {
	w.ripen(s, now)
	for w.due(s, now) <= now && s.gate.when(now, s.inFlight) <= now && w.launch(s, now) {
		continue
	}
	at := min(w.due(s, now), s.ripe(now))
	if at == never {
		w.rest(s)
		return never
	}
	return max(at, s.gate.when(now, s.inFlight))
}

// due is when a shard's next batch should go, as far as its records are concerned.
func (w *writer[T]) due(s *shard[T], now time.Duration) time.Duration {
	switch {
	case len(s.ready.ls) == 0:
		return never
	case s.readyN >= w.cfg.MaxBatch, s.readyB >= w.cfg.MaxBytes, w.flushing, !w.hasRoom():
		return now
	}
	// The oldest record that may be sent has waited long enough.
	return s.ready.ls[0].head.at + max(w.cfg.Linger, 0)
}

// launch sends a batch; false: the gate has changed its mind.
func (w *writer[T]) launch(s *shard[T], now time.Duration) bool {
	t, ok := s.gate.begin(now)
	if !ok {
		return false
	}
	b := w.take(s)
	s.inFlight++
	w.inFlight++
	b.ticket, b.sent, b.full = t, now, s.inFlight >= s.gate.window.size()
	w.sum(s, now)
	w.running.Go(func() { w.send(b) })
	return true
}

// take makes a batch of a shard's oldest records that may be sent.
func (w *writer[T]) take(s *shard[T]) *batch[T] {
	b := &batch[T]{}
	if last := len(w.freeB) - 1; last >= 0 {
		b = w.freeB[last]
		w.freeB = w.freeB[:last]
	}
	b.shard = s
	fresh := 0
	for len(s.ready.ls) > 0 {
		l := s.fromReady()
		before := len(b.nodes)
		for l.head != nil && w.fits(b, l.head) {
			n := l.pop()
			if !n.failed {
				fresh++
			}
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
	s.budget.earn(fresh)
	return b
}

// fits says whether a record may join a batch; the first always may. A full batch ends at the next record, never skips
// it, so records leave in order of age.
func (w *writer[T]) fits(b *batch[T], n *node[T]) bool {
	return len(b.nodes) == 0 || len(b.nodes) < w.cfg.MaxBatch && b.bytes+n.size <= w.cfg.MaxBytes
}

// rearm sets the timer to the next moment at which something can happen by itself.
func (w *writer[T]) rearm(now, at time.Duration) {
	if w.armed && at == w.armedFor {
		return
	}
	w.disarm()
	if at == never || w.armed {
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
	var ev event
	w.mu.Lock()
	w.armed = false
	w.dispatch(&ev)
	w.mu.Unlock()
	w.tell(ev)
}
