package state

// Ranges is what panes that follow each other come to, for windows that overlap: a record is added to one pane, and a window
// is merged from the panes it covers when it ends. From pairsFrom panes a window on, what 2, 4, 8 ... aligned panes come to is
// kept too, made once by the first window that needs it: a window of n panes is then merged from at most 2*log2(n) pieces,
// and all the pieces together hold no more entries than log2(n) times the panes do. What is merged is made again after a
// restore, never stored.
//
// It belongs to the goroutine of the panes' scope. Groups of one window are visited in ascending order from the first one
// owned to the last, and windows in ascending order of their start.
type Ranges[K comparable, A any] struct {
	panes  *Panes[K, A]
	merge  func(into, from *A)
	step   int64
	origin int64
	own    *Scope[K] // of what is merged; never captured
	sum    *Panes[K, A]
	levels []level[K, A] // level l joins 2<<l panes
}

// level is the nodes of one size.
type level[K comparable, A any] struct {
	panes *Panes[K, A]
	next  map[int64]int // the group to be merged next, by the node's start
}

const pairsFrom = 8

// NewRanges serves windows of at most count panes, each step long, with starts that are origin modulo step. merge takes the
// second accumulator into the first, which may be zero; it leaves the second as it is and keeps nothing it points to.
func NewRanges[K comparable, A any](p *Panes[K, A], step, origin int64, count int, merge func(into, from *A)) *Ranges[K, A] {
	r := &Ranges[K, A]{panes: p, merge: merge, step: step, origin: origin}
	keys := *p.sc.keys
	keys.strings = false // the panes' keys pin nothing already and need no copy
	r.own = NewScope(&keys, int(p.sc.groups), p.sc.first, p.sc.last)
	r.sum = NewPanes[A](r.own, "sum")
	for n := 2; count >= pairsFrom && n <= count; n *= 2 {
		r.levels = append(r.levels, level[K, A]{panes: NewPanes[A](r.own, string(rune('a'+len(r.levels)))), next: map[int64]int{}})
	}
	return r
}

// EachGroup calls f for every key of one key group that is in one of the n panes from start, with what they come to. f may
// change *a, which is a copy, and must not use the panes.
func (r *Ranges[K, A]) EachGroup(start int64, n, group int, f func(k K, a *A) error) error {
	merge := r.into(r.sum, 0)
	for at := start; n > 0; {
		l := r.largest(at, n)
		p := r.node(l, at, group)
		if err := p.EachGroup(at, group, merge); err != nil {
			return err
		}
		at, n = at+r.step<<l, n-1<<l
	}
	return r.sum.FireGroup(0, group, f)
}

// into is a visitor that merges into one node.
func (r *Ranges[K, A]) into(p *Panes[K, A], start int64) func(k K, a *A) error {
	return func(k K, a *A) error {
		r.own.SetKey(k, r.own.keys.Hash(k))
		r.merge(p.At(start), a)
		return nil
	}
}

// largest is the size, as a power of two, of the largest piece that begins at a pane and is no longer than n.
func (r *Ranges[K, A]) largest(at int64, n int) int {
	i, l := (at-r.origin)/r.step, 0
	for l < len(r.levels) && i&(1<<(l+1)-1) == 0 && 2<<l <= n {
		l++
	}
	return l
}

// node is where the piece of 1<<l panes from start lies, with the group merged.
func (r *Ranges[K, A]) node(l int, start int64, group int) *Panes[K, A] {
	if l == 0 {
		return r.panes
	}
	lv := &r.levels[l-1]
	next, ok := lv.next[start]
	if !ok {
		next = r.panes.sc.first
	}
	if next <= group {
		merge := r.into(lv.panes, start)
		for _, at := range [2]int64{start, start + r.step<<(l-1)} {
			_ = r.node(l-1, at, group).EachGroup(at, group, merge) // merge has no errors
		}
		lv.next[start] = group + 1
	}
	return lv.panes
}

// Get is what the n panes from start come to for the current key of the panes' scope. Not inside EachGroup.
func (r *Ranges[K, A]) Get(start int64, n int) *A {
	sum := new(A)
	r.own.SetKey(r.panes.sc.key, r.panes.sc.hash)
	for at := start; n > 0; {
		l := r.largest(at, n)
		for l > 0 && !r.merged(l, at) {
			l--
		}
		p := r.panes
		if l > 0 {
			p = r.levels[l-1].panes
		}
		if a := p.Find(at); a != nil {
			r.merge(sum, a)
		}
		at, n = at+r.step<<l, n-1<<l
	}
	return sum
}

// merged says whether all groups of a node have been merged.
func (r *Ranges[K, A]) merged(l int, start int64) bool {
	next, ok := r.levels[l-1].next[start]
	return ok && next > r.panes.sc.last
}

// Late calls add for each node the pane of start is part of, so that a record that comes after they were made, and is added
// to the pane by the caller, is in them too.
func (r *Ranges[K, A]) Late(start int64, add func(a *A)) {
	r.own.SetKey(r.panes.sc.key, r.panes.sc.hash)
	for l := range r.levels {
		if at := r.over(l, start); r.merged(l+1, at) {
			add(r.levels[l].panes.At(at))
		}
	}
}

// over is the start of the node of level l that holds a pane.
func (r *Ranges[K, A]) over(l int, start int64) int64 {
	i := (start - r.origin) / r.step
	return r.origin + i&^(2<<l-1)*r.step
}

// ClearGroup empties one key group of a pane that no window to come covers, and of the nodes it is part of.
func (r *Ranges[K, A]) ClearGroup(start int64, group int) {
	r.panes.clearGroup(start, group)
	for l := range r.levels {
		r.levels[l].panes.clearGroup(r.over(l, start), group)
	}
}

// Drop removes a pane that no window to come covers, and the nodes it is part of.
func (r *Ranges[K, A]) Drop(start int64) {
	r.panes.Drop(start)
	for l := range r.levels {
		at := r.over(l, start)
		r.levels[l].panes.Drop(at)
		delete(r.levels[l].next, at)
	}
}

// Find is the current key's accumulator in the pane of start, in place, or nil. What At says of the pointer holds.
func (p *Panes[K, A]) Find(start int64) *A {
	t := p.all[start]
	if t == nil {
		return nil
	}
	return t.find(p.sc.key, p.sc.hash, p.sc.group, true)
}

// clearGroup empties a group of a pane, if there is one.
func (p *Panes[K, A]) clearGroup(start int64, group int) {
	if t := p.all[start]; t != nil && !t.blank(group-p.first) {
		t.clear(group - p.first)
	}
}
