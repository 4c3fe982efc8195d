package state

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/weirline/weirline/internal/fault"
)

// TTL makes what a key has in a state end after a while. It's counted in processing time, by the clock that the engine
// reads once a batch, and apart for each key; a key's list or map ends as a whole. What has ended is not seen any more; its
// memory is given back when it's accessed, or bit by bit between batches.
type TTL struct {
	// After is how long a key's value lives after it was last written. 0 or less = for ever.
	After time.Duration

	// OnRead makes reading lengthen the life too.
	OnRead bool
}

// endsSuffix makes the name of the state that says when a state's values end.
const endsSuffix = ".ends"

// newSlot declares a single table, with a TTL or without. When a key's value ends is a state of its own, so that a TTL may
// be added to a stored state and taken away from it, and so that no table is instantiated twice for each type of value.
func newSlot[K comparable, V any](sc *Scope[K], name string, kd kind, codec Codec[V], ttl []TTL) slot[V] {
	if len(ttl) > 1 {
		sc.refuse(fault.New(fault.BadPipeline, "state %q has %d TTLs", name, len(ttl)))
	}
	has := len(ttl) == 1 && ttl[0].After > 0
	had, stored := sc.restored[name+endsSuffix] != nil, sc.restored[name] != nil
	vals := newSingle(sc, name, kd, codec)
	if !has && !had {
		return vals
	}
	ends, err := newEnds(sc, name+endsSuffix)
	if err != nil {
		sc.refuse(err)
		return vals
	}
	s := &mortal[K, V]{single: vals, ends: ends}
	if !has {
		ends.buryAll(s.bury)
		return vals
	}
	s.clock, s.after, s.onRead = &sc.clock, max(1, ttl[0].After.Microseconds()), ttl[0].OnRead
	ends.after = s.after
	if stored && !had {
		s.beginAll()
	}
	sc.mortal = append(sc.mortal, func(now int64, budget int) int { return ends.compact(now, budget, s.bury) })
	return s
}

// mortal is a slot whose values end. Whatever changes the table of ends comes before the value is looked up: a pointer into
// one table is good only until another one is used.
type mortal[K comparable, V any] struct {
	*single[K, V]
	ends   *ends[K]
	clock  *atomic.Int64
	after  int64 // microseconds
	onRead bool
}

func (s *mortal[K, V]) ref() *V {
	now := s.clock.Load()
	end := s.ends.ref()
	ended := *end != 0 && *end <= now
	*end = s.lives(now)
	if ended {
		s.single.clear()
	}
	return s.single.ref()
}

func (s *mortal[K, V]) find() *V {
	if !s.alive() {
		return nil
	}
	return s.single.find()
}

func (s *mortal[K, V]) peek() *V {
	if !s.alive() {
		return nil
	}
	return s.single.peek()
}

func (s *mortal[K, V]) clear() {
	s.ends.clear()
	s.single.clear()
}

// alive tells whether the current key has a value that has not ended. One that has no end was stored by a backend before there
// was a TTL: it lives from now on.
func (s *mortal[K, V]) alive() bool {
	now := s.clock.Load()
	end := s.ends.peek()
	switch {
	case end == nil && s.single.peek() == nil:
		return false
	case end != nil && *end <= now:
		s.clear()
		return false
	case end == nil || s.onRead:
		*s.ends.ref() = s.lives(now)
	}
	return true
}

// lives is when a value ends that is written or read at now.
func (s *mortal[K, V]) lives(now int64) int64 {
	if now > math.MaxInt64-s.after {
		return math.MaxInt64
	}
	return now + s.after
}

// beginAll gives every value that was stored without an end one, as if it were written now.
func (s *mortal[K, V]) beginAll() {
	end := s.lives(s.clock.Load())
	for g := range s.count {
		err := s.t.each(g, func(k K, _ *V) error {
			*s.ends.t.ref(k, s.keys.slotHash(k), g) = end
			return nil
		})
		if err != nil {
			s.sc.refuse(err)
		}
	}
}

// bury removes the value of a key that has ended.
func (s *mortal[K, V]) bury(k K, h uint64, group int) { s.t.remove(k, h, group) }

// ends is when the values of a state end: a time for each key, in microseconds.
type ends[K comparable] struct {
	*single[K, int64]
	after     int64
	group, at int   // where compact is
	began     int64 // the pass before
}

func newEnds[K comparable](sc *Scope[K], name string) (*ends[K], error) {
	codec, err := CodecOf[int64]()
	if err != nil {
		return nil, err
	}
	return &ends[K]{single: newSingle(sc, name, kindValue, codec)}, nil
}

// buryAll takes a state's TTL away: what has ended by now goes, all else lives for ever.
func (s *ends[K]) buryAll(bury func(k K, h uint64, group int)) {
	now := s.sc.clock.Load()
	for g := range s.count {
		err := s.t.each(g, func(k K, end *int64) error {
			if *end <= now {
				bury(k, s.keys.slotHash(k), g)
			}
			return nil
		})
		if err != nil {
			s.sc.refuse(err)
		}
		s.t.clear(g)
	}
}

// compact looks at some slots for values that have ended and removes them. A pass over all groups begins when a quarter of
// the time to live has gone by since the last one began. It returns what is left of the budget, in slots.
func (s *ends[K]) compact(now int64, budget int, bury func(k K, h uint64, group int)) int {
	if s.group == 0 && s.at == 0 {
		if now < s.began+s.after/4 {
			return budget
		}
		s.began = now
	}
	for ; s.group < s.count; s.group, s.at = s.group+1, 0 {
		if budget = s.compactGroup(now, budget, bury); budget <= 0 {
			return 0
		}
	}
	s.group, s.at = 0, 0
	return budget
}

// compactGroup goes on in the present group. Removing moves later entries up, so that the same slot is looked at again; one
// that moves around the end of the array waits for the next pass.
func (s *ends[K]) compactGroup(now int64, budget int, bury func(k K, h uint64, group int)) int {
	var zero K
	remove := func(k K) {
		h := s.keys.slotHash(k)
		bury(k, h, s.group)
		s.t.remove(k, h, s.group)
	}
	gr := &s.t.groups[s.group]
	if z := s.t.spares[s.group].zero; s.at == 0 && len(z) > 0 && z[0].val <= now {
		remove(zero)
	}
	for ; s.at < len(gr.slots); budget-- {
		if budget <= 0 {
			return 0
		}
		e := &gr.slots[s.at]
		if e.key == zero || e.val > now {
			s.at++
			continue
		}
		k := e.key
		if remove(k); s.at < len(gr.slots) && gr.slots[s.at].key == k {
			s.at++ // the table keeps a mark
		}
	}
	return budget - 1
}

// Tick sets the clock by which TTLs count, and looks at a part of the states that have one for what has ended. Call it
// before each batch; it does no more than some microseconds of work.
func (s *Scope[K]) Tick(now time.Time) {
	at := now.UnixMicro()
	s.clock.Store(at)
	budget := compactSlots
	for range s.mortal {
		if budget = s.mortal[s.turn%len(s.mortal)](at, budget); budget <= 0 {
			return
		}
		s.turn++
	}
}

// compactSlots is how many slots one Tick looks at.
const compactSlots = 512

// mortals is what a Scope needs of states with a TTL.
type mortals struct {
	clock  atomic.Int64 // microseconds; written by the task, read by whoever shows the state too
	mortal []func(now int64, budget int) int
	turn   int // of mortal: which one Tick looks at
}
