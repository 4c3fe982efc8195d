package state

import (
	"math"
	"math/bits"
)

// mark starts a capture of the table: nothing is copied yet, every page of a group that has entries becomes pending.
func (t *table[K, V]) mark() {
	if t.back != nil {
		t.markBacked()
		return
	}
	for g := range t.groups {
		gr, sp := &t.groups[g], &t.spares[g]
		if gr.n == 0 && len(sp.zero) == 0 {
			continue
		}
		gr.pending = t.pages(g) + 1
		words := (gr.pending + 63) / 64
		if cap(sp.seen) < words {
			sp.seen = make([]uint64, words)
			continue
		}
		sp.seen = sp.seen[:words]
		clear(sp.seen)
	}
}

// unmark forgets a capture.
func (t *table[K, V]) unmark() {
	if t.back != nil {
		t.unmarkBacked()
		return
	}
	for g := range t.groups {
		t.groups[g].pending = 0
	}
}

// pages is the number of pages of a group's slots; the page of that number is the zero key's entry.
func (t *table[K, V]) pages(g int) int {
	return (len(t.groups[g].slots) + 1<<t.shift - 1) >> t.shift
}

// touch copies a page unless that was done. Everything that may change a page calls it first while pages are pending.
func (t *table[K, V]) touch(g int, page uint64) {
	if t.back != nil {
		t.fam.b.counters.hits++
		t.dirty(g, page)
		return
	}
	w, bit := &t.spares[g].seen[page>>6], uint64(1)<<(page&63)
	if *w&bit == 0 {
		*w |= bit
		t.groups[g].pending--
		t.copyPage(g, int(page))
	}
}

func (t *table[K, V]) touchSlot(g int, slot uint64) {
	if t.groups[g].pending != 0 {
		t.touch(g, slot>>t.shift)
	}
}

func (t *table[K, V]) touchZero(g int) {
	if t.groups[g].pending != 0 {
		t.touch(g, uint64(t.pages(g)))
	}
}

// copyRest copies all pages of a group that are pending.
func (t *table[K, V]) copyRest(g int) {
	if t.groups[g].pending != 0 {
		t.sweepGroup(g, math.MaxInt)
	}
}

// sweepGroup copies pending pages of a group until the budget, in bytes, is used up; it returns what is left of it.
func (t *table[K, V]) sweepGroup(g, budget int) int {
	if t.back != nil {
		return t.sweepBacked(g, budget)
	}
	gr, sp := &t.groups[g], &t.spares[g]
	for w := range sp.seen {
		for ^sp.seen[w] != 0 {
			page := w<<6 + bits.TrailingZeros64(^sp.seen[w])
			if gr.pending == 0 || page > t.pages(g) {
				break
			}
			if budget <= 0 {
				return budget
			}
			sp.seen[w] |= 1 << (page & 63)
			gr.pending--
			budget -= t.copyPage(g, page)
		}
		if gr.pending == 0 {
			break
		}
	}
	return budget
}

// copyPage gives a page to the capture and returns what it cost in bytes.
func (t *table[K, V]) copyPage(g, page int) int {
	f := t.fam
	if page == t.pages(g) {
		return f.stage.add(f, t.start, g, t.spares[g].zero, true)
	}
	slots := t.groups[g].slots
	from := page << t.shift
	return f.stage.add(f, t.start, g, slots[from:min(from+1<<t.shift, len(slots))], false)
}
