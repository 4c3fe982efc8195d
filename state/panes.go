package state

import (
	"maps"
	"slices"
)

// Panes is one accumulator per key and window start. Every start has tables of its own, so that a window is emitted and
// dropped as a whole; the memory of dropped windows is used again for new ones.
type Panes[K comparable, A any] struct {
	_     [128]byte
	cache [cacheSize]pane[K, A] // the panes last used, by a hash of their start
	last  *table[K, A]
	sc    *Scope[K]
	all   map[int64]*table[K, A]
	*family[K, A]
	old []*table[K, A] // dropped, all empty
	_   [128]byte
}

type pane[K comparable, A any] struct {
	start int64
	t     *table[K, A]
}

// NewPanes declares panes; call it in Open. Errors are collected in the Scope.
func NewPanes[A any, K comparable](s Keyed[K], name string) *Panes[K, A] {
	sc := s.Scope()
	codec, err := CodecOf[A]()
	if err != nil {
		sc.refuse(named(name, err))
		return nil
	}
	f := newFamily[K, A](name, kindPanes, sc.keys, codec, sc.first, sc.last-sc.first+1)
	f.recycles = true
	f.behind(sc.back)
	p := &Panes[K, A]{sc: sc, all: map[int64]*table[K, A]{}, family: f}
	f.tables = p.tables
	f.adopt = p.pane
	sc.declare(name, p, f.claim)
	return p
}

// At is the current key's accumulator in the pane of start, in place, made zero if there was none. The pointer is good
// until the next call of any handle, SetKey or Sweep. It counts as a write.
func (p *Panes[K, A]) At(start int64) *A {
	c := &p.cache[uint64(start)*cacheMul>>cacheShift]
	t := c.t
	if c.start != start || t == nil {
		t = p.pane(start)
		*c = pane[K, A]{start, t}
	}
	return t.ref(p.sc.key, p.sc.hash, p.sc.group)
}

// Starts are the starts of all panes, sorted. The slice is the caller's.
func (p *Panes[K, A]) Starts() []int64 { return slices.Sorted(maps.Keys(p.all)) }

// Len is the number of keys in the pane of start.
func (p *Panes[K, A]) Len(start int64) int {
	if t := p.all[start]; t != nil {
		return t.total()
	}
	return 0
}

// FireGroup calls f for every key of one key group, which must be owned, in the pane of start, in no order, and empties
// that group of the pane. f must not use these Panes; it may change *a. An error of f ends it, with the group as it was.
func (p *Panes[K, A]) FireGroup(start int64, group int, f func(k K, a *A) error) error {
	t := p.all[start]
	if t == nil || t.blank(group-p.first) {
		return nil
	}
	if err := t.each(group-p.first, f); err != nil {
		return err
	}
	t.clear(group - p.first)
	return nil
}

// Drop removes the pane of start with all it holds.
func (p *Panes[K, A]) Drop(start int64) {
	t := p.all[start]
	if t == nil {
		return
	}
	for g := range t.groups {
		if t.back != nil || t.live(g) > 0 {
			t.clear(g)
		}
	}
	p.dropped(t)
	delete(p.all, start)
	p.cache[uint64(start)*cacheMul>>cacheShift] = pane[K, A]{}
	if p.last == t {
		p.last = nil
	}
	if p.stage == nil { // else a running capture may still visit it
		p.old = append(p.old, t)
	}
}

// pane finds or makes the table of a start.
func (p *Panes[K, A]) pane(start int64) *table[K, A] {
	t := p.all[start]
	if t == nil {
		var ok bool
		if t, ok = popLast(&p.old); ok {
			t.start = start
		} else {
			t = newTable(p.family, start)
		}
		p.all[start] = t
	}
	p.last = t
	return t
}

func (p *Panes[K, A]) tables() []*table[K, A] { return slices.Collect(maps.Values(p.all)) }

// warm warms the pane that was looked up last, in which most records of a batch will be.
func (p *Panes[K, A]) warm(hs []uint64, groups uint64) {
	if p.last != nil {
		p.warmOne(p.last, hs, groups)
	}
}

const (
	cacheShift = 64 - 6
	cacheMul   = 0x9e3779b97f4a7c15
	cacheSize  = 1 << (64 - cacheShift)
)
