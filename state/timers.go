package state

import "encoding/binary"

// Timers are points in time per key, at most one per key and time. They are stored like a keyed state; the order is a
// heap made from that.
type Timers[K comparable] struct {
	_    [128]byte // what a task writes shares no cache line with another's
	sc   *Scope[K]
	t    *table[timerKey[K], struct{}]
	keys timerKeys[K]
	heap []timer[K] // by at; may hold deleted ones, which aren't in t, and doubles
	n    int        // in t
	*family[timerKey[K], struct{}]
	_ [128]byte
}

// timer is a heap entry.
type timer[K comparable] struct {
	at int64
	h  uint64 // of key
	k  K
}

// timerKey is the key of the table.
type timerKey[K comparable] struct {
	key K
	at  int64
}

// NewTimers declares timers; call it in Open. Errors are collected in the Scope.
func NewTimers[K comparable](s Keyed[K], name string) *Timers[K] {
	sc := s.Scope()
	keys := timerKeys[K]{sc.keys}
	f := newFamily[timerKey[K], struct{}](name, kindTimers, keys, empty{}, sc.first, sc.last-sc.first+1)
	t := newTable(f, 0)
	tm := &Timers[K]{sc: sc, t: t, keys: keys, family: f}
	f.tables = func() []*table[timerKey[K], struct{}] { return []*table[timerKey[K], struct{}]{t} }
	f.adopt = func(start int64) *table[timerKey[K], struct{}] {
		if start != 0 {
			return nil
		}
		return t
	}
	sc.declare(name, tm, func(r *restored) error {
		err := f.claim(r)
		tm.rebuild()
		return err
	})
	return tm
}

// Add sets a timer for the current key. Adding one that is set changes nothing.
func (t *Timers[K]) Add(at int64) {
	k := timerKey[K]{t.sc.key, at}
	h := timerHash(t.sc.hash, at)
	if t.t.find(k, h, t.sc.group, false) != nil {
		return
	}
	t.t.ref(k, h, t.sc.group)
	t.n++
	t.push(timer[K]{at: at, h: t.sc.hash, k: k.key})
}

// Delete removes a timer of the current key, if it's set.
func (t *Timers[K]) Delete(at int64) {
	if t.t.remove(timerKey[K]{t.sc.key, at}, timerHash(t.sc.hash, at), t.sc.group) {
		t.n--
		if len(t.heap) > 64+2*t.n {
			t.rebuild()
		}
	}
}

// Len is the number of timers set, of all keys.
func (t *Timers[K]) Len() int { return t.n }

// Next is the earliest timer of all keys; ok is false if none is set.
func (t *Timers[K]) Next() (at int64, ok bool) {
	for len(t.heap) > 0 {
		if t.isSet(t.heap[0]) {
			return t.heap[0].at, true
		}
		t.pop()
	}
	return 0, false
}

// Pop takes all timers up to and including upTo, in order of time, removes each and calls f for it with its key set as
// the current one. Timers that f adds are taken too if they are due. An error of f ends it; that timer is gone.
func (t *Timers[K]) Pop(upTo int64, f func(k K, h uint64, at int64) error) error {
	for len(t.heap) > 0 && t.heap[0].at <= upTo {
		e := t.pop()
		t.sc.SetKey(e.k, e.h)
		if !t.t.remove(timerKey[K]{e.k, e.at}, timerHash(e.h, e.at), t.sc.group) {
			continue
		}
		t.n--
		if err := f(e.k, e.h, e.at); err != nil {
			return err
		}
	}
	return nil
}

func (t *Timers[K]) isSet(e timer[K]) bool {
	g := Group(e.h, int(t.sc.groups)) - t.sc.first
	return t.t.find(timerKey[K]{e.k, e.at}, timerHash(e.h, e.at), g, false) != nil
}

func (t *Timers[K]) warm([]uint64, uint64) {}

// rebuild makes the heap from the table.
func (t *Timers[K]) rebuild() {
	clear(t.heap)
	t.heap, t.n = t.heap[:0], 0
	for g := range t.t.groups {
		t.t.keys(g, func(k timerKey[K]) {
			t.heap = append(t.heap, timer[K]{at: k.at, h: t.sc.keys.Hash(k.key), k: k.key})
		})
	}
	t.n = len(t.heap)
	for i := len(t.heap)/2 - 1; i >= 0; i-- {
		t.down(i)
	}
}

// less orders by time; equal times by hash, so that the order survives a restore.
func (a *timer[K]) less(b *timer[K]) bool {
	return a.at < b.at || a.at == b.at && a.h < b.h
}

func (t *Timers[K]) push(e timer[K]) {
	t.heap = append(t.heap, e)
	for i := len(t.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if !t.heap[i].less(&t.heap[up]) {
			return
		}
		t.heap[i], t.heap[up] = t.heap[up], t.heap[i]
		i = up
	}
}

func (t *Timers[K]) pop() timer[K] {
	top, last := t.heap[0], len(t.heap)-1
	t.heap[0] = t.heap[last]
	t.heap[last] = timer[K]{}
	t.heap = t.heap[:last]
	t.down(0)
	return top
}

func (t *Timers[K]) down(i int) {
	for {
		c := 2*i + 1
		if c >= len(t.heap) {
			return
		}
		if c+1 < len(t.heap) && t.heap[c+1].less(&t.heap[c]) {
			c++
		}
		if !t.heap[c].less(&t.heap[i]) {
			return
		}
		t.heap[c], t.heap[i] = t.heap[i], t.heap[c]
		i = c
	}
}

// timerHash chooses a timer's slot from its key's hash.
func timerHash(h uint64, at int64) uint64 { return mix(h ^ uint64(at)*0x9e3779b97f4a7c15) }

// timerKeys is the keyer of timers: the key group is that of the key alone.
type timerKeys[K comparable] struct{ keys *Key[K] }

func (c timerKeys[K]) slotHash(k timerKey[K]) uint64  { return timerHash(c.keys.Hash(k.key), k.at) }
func (c timerKeys[K]) routeHash(k timerKey[K]) uint64 { return c.keys.Hash(k.key) }
func (c timerKeys[K]) Signature() string              { return c.keys.Signature() + "@int64" }

func (c timerKeys[K]) clone(k timerKey[K]) timerKey[K] {
	k.key = c.keys.clone(k.key)
	return k
}

// AppendBytes writes the key and then the time.
func (c timerKeys[K]) AppendBytes(dst []byte, k timerKey[K]) []byte {
	return binary.LittleEndian.AppendUint64(c.keys.AppendBytes(dst, k.key), uint64(k.at))
}

// Decode reads what AppendBytes wrote.
func (c timerKeys[K]) Decode(src []byte) (timerKey[K], []byte, error) {
	k, rest, err := c.keys.Decode(src)
	if err == nil && len(rest) < 8 {
		err = errShort
	}
	if err != nil {
		return timerKey[K]{}, nil, err
	}
	return timerKey[K]{k, int64(binary.LittleEndian.Uint64(rest))}, rest[8:], nil
}
