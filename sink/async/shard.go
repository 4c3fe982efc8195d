package async

import (
	"math/rand/v2"
	"time"
)

// A shard is a part of the destination that may be slow, throttle or be down by itself. It has its records that wait, its
// batches on their way and its gate. Without Shard there is one.
type shard[T any] struct {
	name     string
	shared   lane[T]     // without Key
	ready    laneHeap[T] // by age of the first record
	delayed  laneHeap[T] // by due time
	readyN   int         // records in ready lanes
	readyB   int         // their bytes
	inFlight int
	gate     gate
	budget   budget
	active   int   // place in the writer's list of those where records wait, -1: none waits
	err      error // with which a batch failed last

	// What the writer's sums have of it.
	window int
	pace   float64
	open   bool
}

// What shards without records are kept for their gates' sake.
const keptShards = 64

// healTime is over how long the records that wait for a shard are spread when it is up again.
const healTime = 200 * time.Millisecond

func (w *writer[T]) newShard(name string) *shard[T] {
	c := &w.cfg
	s := &shard[T]{
		name: name, active: -1,
		gate:   newGate(c.MaxInFlight, c.Fixed, c.Breaker, w.now),
		budget: newBudget(c.Retry.Budget, c.MaxBatch, c.MaxInFlight),
	}
	s.shared.shard = s
	s.ready.less, s.delayed.less = olderHead[T], soonerDue[T]
	w.sum(s, w.now())
	return s
}

// shardOf finds or makes the shard of a name.
func (w *writer[T]) shardOf(name string) *shard[T] {
	if w.last != nil && w.last.name == name {
		return w.last
	}
	s := w.shards[name]
	if s == nil {
		if len(w.shards) >= w.crowd {
			w.recycle()
		}
		s = w.newShard(name)
		w.shards[name] = s
	}
	w.last = s
	return s
}

// recycle forgets shards without records. Those that throttle or are down are remembered until there are really many.
func (w *writer[T]) recycle() {
	for _, all := range []bool{false, true} {
		for name, s := range w.shards {
			if s.active < 0 && s.inFlight == 0 && (all || s.gate.isHealthy()) {
				delete(w.shards, name)
				w.unsum(s)
			}
		}
		if len(w.shards) < w.crowd/2 {
			break
		}
	}
	w.crowd = max(keptShards, 2*len(w.shards))
	w.last = nil
}

// activate makes dispatch look at a shard.
func (w *writer[T]) activate(s *shard[T]) {
	if s.active < 0 {
		s.active = len(w.active)
		w.active = append(w.active, s)
	}
}

// rest is activate's opposite.
func (w *writer[T]) rest(s *shard[T]) {
	last := len(w.active) - 1
	w.active[s.active] = w.active[last]
	w.active[s.active].active = s.active
	w.active[last] = nil
	w.active = w.active[:last]
	s.active = -1
}

func (w *writer[T]) toReady(l *lane[T]) {
	s := l.shard
	l.place, l.due, l.asked, l.repeats = ready, 0, false, 0
	s.ready.push(l)
	s.readyN += l.n
	s.readyB += l.bytes
	w.activate(s)
}

func (w *writer[T]) toDelayed(l *lane[T]) {
	l.place = delayed
	l.shard.delayed.push(l)
	w.activate(l.shard)
}

func (s *shard[T]) fromReady() *lane[T] {
	l := s.ready.pop()
	l.place = idle
	s.readyN -= l.n
	s.readyB -= l.bytes
	return l
}

// ripe is when the first delayed records may be sent, as far as they are concerned.
func (s *shard[T]) ripe(now time.Duration) time.Duration {
	if len(s.delayed.ls) == 0 {
		return never
	}
	l := s.delayed.ls[0]
	if l.due > now {
		return l.due
	}
	return s.budget.when(now, l.repeats)
}

// ripen makes delayed records ready whose time has come.
func (w *writer[T]) ripen(s *shard[T], now time.Duration) {
	for s.ripe(now) <= now {
		l := s.delayed.pop()
		s.budget.spend(l.repeats)
		w.toReady(l)
	}
}

// hasten lets the records that wait for a shard go soon, as it is up again. What it asked for stays.
func (s *shard[T]) hasten(now time.Duration) {
	for _, l := range s.delayed.ls {
		if !l.asked {
			l.due = min(l.due, now+time.Duration(rand.Int64N(int64(healTime))))
			l.repeats = 0
		}
	}
	s.delayed.rebuild()
}

// sum keeps the writer's sums over its shards true.
func (w *writer[T]) sum(s *shard[T], now time.Duration) {
	window, pace, open := s.gate.window.size(), s.gate.pace.perSecond(now), s.gate.breaker.isOpen()
	w.window += window - s.window
	w.pace += pace - s.pace
	if open != s.open {
		w.open++
		if !open {
			w.open -= 2
		}
	}
	s.window, s.pace, s.open = window, pace, open
}

func (w *writer[T]) unsum(s *shard[T]) {
	w.window -= s.window
	w.pace -= s.pace
	if s.open {
		w.open--
	}
}
