package state

import "time"

// Value is one value per key. A copy of the handle is the same handle.
type Value[V any] struct{ s slot[V] }

// slot is a single table with its key type erased: the current key's value.
type slot[V any] interface {
	ref() *V
	find() *V // it may be changed
	peek() *V // it may be changed if the type isn't flat
	clear()
}

// NewValue declares a value per key; call it in Open. Errors are collected in the Scope.
//
//	sum := state.NewValue[int64](setup, "sum")
//	seen := state.NewValue[bool](setup, "seen", state.TTL{After: time.Hour})
func NewValue[V any, K comparable](s Keyed[K], name string, ttl ...TTL) Value[V] {
	sc := s.Scope()
	codec, err := CodecOf[V]()
	if err != nil {
		sc.refuse(named(name, err))
		return Value[V]{}
	}
	return Value[V]{s: newSlot(sc, name, kindValue, codec, ttl)}
}

// Ref is the current key's value in place, made zero if there was none. The pointer is good until the next call of any
// handle, SetKey or Sweep. It counts as a write.
func (v Value[V]) Ref() *V { return v.s.ref() }

// Get is the current key's value; ok is false if there is none. What it points to may be changed until the next call of
// any handle; to keep it longer, copy it.
func (v Value[V]) Get() (val V, ok bool) {
	if p := v.s.peek(); p != nil {
		return *p, true
	}
	return val, false
}

// Set stores the current key's value. Maps, slices and pointers in it belong to the state from then on.
func (v Value[V]) Set(val V) { *v.s.ref() = val }

// Clear removes the current key's value.
func (v Value[V]) Clear() { v.s.clear() }

// single is a state that consists of one table keyed by the scope's key.
type single[K comparable, V any] struct {
	sc *Scope[K]
	t  *table[K, V]
	*family[K, V]
}

func newSingle[K comparable, V any](sc *Scope[K], name string, kd kind, codec Codec[V]) *single[K, V] {
	f := newFamily[K, V](name, kd, sc.keys, codec, sc.first, sc.last-sc.first+1)
	f.behind(sc.back)
	t := newTable(f, 0)
	all := []*table[K, V]{t}
	f.tables = func() []*table[K, V] { return all }
	f.adopt = func(start int64) *table[K, V] {
		if start != 0 {
			return nil
		}
		return t
	}
	s := &single[K, V]{sc: sc, t: t, family: f}
	sc.declare(name, s, f.claim)
	return s
}

func (s *single[K, V]) ref() *V {
	if s.slow != nil {
		return s.sampledRef()
	}
	return s.t.ref(s.sc.key, s.sc.hash, s.sc.group)
}

// sampledRef is ref with a disk behind the table. It is apart from it, so that ref stays small enough to be inlined.
func (s *single[K, V]) sampledRef() *V {
	if s.b.counters.due() {
		defer s.b.counters.timed(time.Now(), s.b.counters.misses)
	}
	return s.t.ref(s.sc.key, s.sc.hash, s.sc.group)
}

func (s *single[K, V]) find() *V { return s.t.find(s.sc.key, s.sc.hash, s.sc.group, true) }
func (s *single[K, V]) peek() *V { return s.t.find(s.sc.key, s.sc.hash, s.sc.group, !s.flat) }
func (s *single[K, V]) clear()   { s.t.remove(s.sc.key, s.sc.hash, s.sc.group) }

func (s *single[K, V]) warm(hs []uint64, groups uint64) { s.warmOne(s.t, hs, groups) }
