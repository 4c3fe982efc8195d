package state

import "iter"

// List is a list of values per key. A capture encodes a key's whole list when it's first used afterwards: it's meant
// for lists of up to some thousand items.
type List[V any] struct{ s slot[[]V] }

// NewList declares a list per key; call it in Open. Errors are collected in the Scope.
func NewList[V any, K comparable](s Keyed[K], name string, ttl ...TTL) List[V] {
	sc := s.Scope()
	item, err := CodecOf[V]()
	if err == nil && isEmpty[V]() {
		err = refuse("%T has no content, so a list of it is only a length: count in a value instead", *new(V))
	}
	if err != nil {
		sc.refuse(named(name, err))
		return List[V]{}
	}
	return List[V]{s: newSlot[K, []V](sc, name, kindList, listForm[V]{item: item}, ttl)}
}

// Add appends to the current key's list.
func (l List[V]) Add(vs ...V) {
	if len(vs) > 0 {
		p := l.s.ref()
		*p = append(*p, vs...)
	}
}

// All is the current key's list, nil if there is none. The slice and its items belong to the state: good, and open to
// changes, until the next call of any handle.
func (l List[V]) All() []V {
	if p := l.s.find(); p != nil {
		return *p
	}
	return nil
}

// Set replaces the current key's list by vs, which belongs to the state from then on. An empty one clears it.
func (l List[V]) Set(vs []V) {
	if len(vs) == 0 {
		l.s.clear()
		return
	}
	*l.s.ref() = vs
}

// Clear removes the current key's list.
func (l List[V]) Clear() { l.s.clear() }

// Map is a map per key. A capture encodes a key's whole map when it's first used afterwards: it's meant for maps of up
// to some thousand entries.
type Map[MK comparable, MV any] struct{ s slot[map[MK]MV] }

// NewMap declares a map per key; call it in Open. Errors are collected in the Scope.
func NewMap[MK comparable, MV any, K comparable](s Keyed[K], name string, ttl ...TTL) Map[MK, MV] {
	sc := s.Scope()
	key, err := KeyOf[MK]()
	if err != nil {
		sc.refuse(named(name, err))
		return Map[MK, MV]{}
	}
	val, err := CodecOf[MV]()
	if err != nil {
		sc.refuse(named(name, err))
		return Map[MK, MV]{}
	}
	return Map[MK, MV]{s: newSlot[K, map[MK]MV](sc, name, kindMap, mapForm[MK, MV]{key: key, val: val}, ttl)}
}

// Get is the value of mk in the current key's map.
func (m Map[MK, MV]) Get(mk MK) (v MV, ok bool) {
	if p := m.s.find(); p != nil {
		v, ok = (*p)[mk]
	}
	return v, ok
}

// Put stores the value of mk in the current key's map.
func (m Map[MK, MV]) Put(mk MK, v MV) {
	p := m.s.ref()
	if *p == nil {
		*p = map[MK]MV{}
	}
	(*p)[mk] = v
}

// Delete removes mk from the current key's map, and the map with its last entry.
func (m Map[MK, MV]) Delete(mk MK) {
	p := m.s.find()
	if p == nil {
		return
	}
	if delete(*p, mk); len(*p) == 0 {
		m.s.clear()
	}
}

// Len is the number of entries of the current key's map.
func (m Map[MK, MV]) Len() int {
	if p := m.s.find(); p != nil {
		return len(*p)
	}
	return 0
}

// All ranges over the current key's map, in no order. Entries of the same map may be put and deleted meanwhile; the key
// must not be changed.
func (m Map[MK, MV]) All() iter.Seq2[MK, MV] {
	return func(yield func(MK, MV) bool) {
		if p := m.s.find(); p != nil {
			for k, v := range *p {
				if !yield(k, v) {
					return
				}
			}
		}
	}
}

// Clear removes the current key's map.
func (m Map[MK, MV]) Clear() { m.s.clear() }
