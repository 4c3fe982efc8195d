package state

// entry is one key with its value, in place. The value is first because an empty last field would cost padding.
type entry[K comparable, V any] struct {
	val V
	key K
}

// group is the open-addressing array of one key group: what each access needs. A slot with the zero key is empty.
type group[K comparable, V any] struct {
	slots   []entry[K, V] // a power of two of them; the table's empty array at first
	n       int           // entries in slots
	pending int           // pages that the running capture has not copied yet; 0 when none runs. 1 with a disk behind it
}

// spare is what an access seldom needs of a group.
type spare[K comparable, V any] struct {
	zero []entry[K, V] // the zero key's entry: none or one; it counts as the page after the last one of slots
	seen []uint64      // a bit per page: copied by the running capture
}

// table holds one value per key for a range of key groups. Values, panes and timers are made of tables; all tables of
// one declared state share a family. Pages (runs of slots) are copied by touch before their first write in a capture.
type table[K comparable, V any] struct {
	_      [128]byte // what a task writes shares no cache line with another's
	fam    *family[K, V]
	groups []group[K, V]
	spares []spare[K, V]
	back   []shelf // with a disk behind it, else nil
	start  int64   // of the pane, 0 for others
	shift  uint    // log2 of the slots of a page
	warmed int     // keeps warm's loads alive
	_      [128]byte
}

const (
	minSlots   = 8
	smallSlots = 1024
)

// room is the number of entries that n slots may hold. Small arrays are filled by half only: they lie in the cache, so
// what a lookup costs is the branch mispredicted at each slot after the first.
func room(n int) int {
	if n <= smallSlots {
		return n / 2
	}
	return n / 4 * 3
}

// slotsFor is the length of an array with room for n entries.
func slotsFor(n int) int {
	size := minSlots
	for room(size) < n {
		size *= 2
	}
	return size
}

func newTable[K comparable, V any](f *family[K, V], start int64) *table[K, V] {
	t := &table[K, V]{fam: f, start: start, shift: f.shift}
	t.groups = make([]group[K, V], f.count+4)[2 : f.count+2] // the rest is padding
	t.spares = make([]spare[K, V], f.count+4)[2 : f.count+2]
	for i := range t.groups {
		t.groups[i].slots = f.none
	}
	if f.slow != nil {
		t.back = make([]shelf, f.count)
		for g := range t.back {
			t.groups[g].pending, t.back[g].complete = 1, true
		}
		t.shift = 0 // a page is a slot
	}
	return t
}

// find is the key's value in place, or nil. g counts from the first group owned. With write it may be changed.
func (t *table[K, V]) find(k K, h uint64, g int, write bool) *V {
	var zero K
	gr := &t.groups[g]
	if k == zero {
		if sp := &t.spares[g]; len(sp.zero) != 0 {
			return t.found(g, uint64(len(gr.slots)), &sp.zero[0].val, write)
		}
		return t.absent(k, h, g, write)
	}
	mask := uint64(len(gr.slots) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		e := &gr.slots[i]
		if e.key == k {
			if gr.pending != 0 {
				return t.found(g, i, &e.val, write)
			}
			return &e.val
		}
		if e.key == zero {
			if gr.pending != 0 {
				return t.absent(k, h, g, write)
			}
			return nil
		}
	}
}

// found does what a lookup in a group with pending pages takes before it hands the value out.
func (t *table[K, V]) found(g int, slot uint64, v *V, write bool) *V {
	if t.back != nil {
		return t.hit(g, slot, v, write)
	}
	if write && slot == uint64(len(t.groups[g].slots)) {
		t.touchZero(g)
	} else if write {
		t.touchSlot(g, slot)
	}
	return v
}

// ref is the key's value in place, made zero if there was none.
func (t *table[K, V]) ref(k K, h uint64, g int) *V {
	gr := &t.groups[g]
	var zero K
	if k != zero {
		// Choosing between the first two slots without a branch saves a misprediction for a third of all lookups.
		mask := uint64(len(gr.slots) - 1)
		i := h & mask
		i = (i + bit(gr.slots[i].key != k)) & mask
		for {
			e := &gr.slots[i]
			if e.key == k {
				if gr.pending != 0 {
					t.touch(g, i>>t.shift)
				}
				return &e.val
			}
			if e.key == zero || i == h&mask {
				break
			}
			i = (i + 1) & mask
		}
	}
	return t.insert(k, h, g)
}

// bit compiles to an instruction, not to a branch.
func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// insert adds a key that isn't there; for the zero key also one that is.
func (t *table[K, V]) insert(k K, h uint64, g int) *V {
	var zero K
	if t.back != nil {
		return t.insertBacked(k, h, g)
	}
	if k == zero {
		sp := &t.spares[g]
		t.touchZero(g)
		if len(sp.zero) == 0 {
			sp.zero = make([]entry[K, V], 1)
		}
		return &sp.zero[0].val
	}
	i := t.free(h, g)
	gr := &t.groups[g]
	if gr.pending != 0 {
		t.touch(g, i>>t.shift)
	}
	gr.n++
	e := &gr.slots[i]
	e.key = t.fam.keys.clone(k)
	return &e.val
}

// free is an empty slot for a key with this hash.
func (t *table[K, V]) free(h uint64, g int) uint64 {
	var zero K
	gr := &t.groups[g]
	if gr.n >= room(len(gr.slots)) {
		t.grow(g)
	}
	mask := uint64(len(gr.slots) - 1)
	i := h & mask
	for gr.slots[i].key != zero {
		i = (i + 1) & mask
	}
	return i
}

// grow doubles a group's array, after copying what the running capture still needs of it.
func (t *table[K, V]) grow(g int) {
	gr := &t.groups[g]
	if t.back == nil {
		t.copyRest(g)
	}
	old := gr.slots
	want := max(minSlots, 2*len(old))
	if gr.n == 0 {
		want = max(want, t.fam.sizeFor(g))
	}
	t.place(g, t.fam.array(want), old)
	if len(old) > 1 {
		t.fam.recycle(old)
	}
}

// reserve makes an empty group large enough for n keys.
func (t *table[K, V]) reserve(g, n int) {
	want := slotsFor(n)
	if want > len(t.groups[g].slots) && n > 0 {
		t.place(g, t.fam.array(want), t.groups[g].slots)
	}
}

// place makes to, which is all zero, the group's array and moves the entries of from to it.
func (t *table[K, V]) place(g int, to, from []entry[K, V]) {
	if t.back != nil {
		t.placeBacked(g, to, from)
		return
	}
	var zero K
	mask := uint64(len(to) - 1)
	for j := range from {
		e := &from[j]
		if e.key == zero {
			continue
		}
		i := t.fam.keys.slotHash(e.key) & mask
		for to[i].key != zero {
			i = (i + 1) & mask
		}
		to[i] = *e
	}
	t.groups[g].slots = to
}

// remove deletes a key and tells whether it was there. Entries behind it move up, so there are no tombstones.
func (t *table[K, V]) remove(k K, h uint64, g int) bool {
	if t.back != nil {
		return t.removeBacked(k, h, g)
	}
	var zero K
	gr := &t.groups[g]
	if k == zero {
		sp := &t.spares[g]
		t.touchZero(g)
		had := len(sp.zero) != 0
		sp.zero = nil
		return had
	}
	mask := uint64(len(gr.slots) - 1)
	i := h & mask
	for gr.slots[i].key != k {
		if gr.slots[i].key == zero {
			return false
		}
		i = (i + 1) & mask
	}
	t.touchSlot(g, i)
	for j := (i + 1) & mask; gr.slots[j].key != zero; j = (j + 1) & mask {
		home := t.fam.keys.slotHash(gr.slots[j].key) & mask
		if (j-home)&mask >= (j-i)&mask {
			t.touchSlot(g, j)
			gr.slots[i] = gr.slots[j]
			i = j
		}
	}
	gr.slots[i] = entry[K, V]{}
	gr.n--
	return true
}

// live is the number of entries of a group in memory.
func (t *table[K, V]) live(g int) int {
	n := t.groups[g].n + len(t.spares[g].zero)
	if t.back != nil {
		n -= t.back[g].deleted
	}
	return n
}

// blank tells whether a group has no entries, in memory or on the disk.
func (t *table[K, V]) blank(g int) bool {
	return t.live(g) == 0 && (t.back == nil || t.back[g].complete)
}

// total is the number of entries. It reads what is on the disk only.
func (t *table[K, V]) total() int {
	n := 0
	for g := range t.groups {
		if t.back != nil {
			t.fill(g, false)
		}
		n += t.live(g)
	}
	return n
}

// each calls f for every entry of a group, in no order, after copying what the running capture needs of it.
func (t *table[K, V]) each(g int, f func(k K, v *V) error) error {
	if t.back != nil {
		return t.eachBacked(g, f)
	}
	var zero K
	t.copyRest(g)
	for i := range t.spares[g].zero {
		if err := f(zero, &t.spares[g].zero[i].val); err != nil {
			return err
		}
	}
	slots := t.groups[g].slots
	for i := range slots {
		if e := &slots[i]; e.key != zero {
			if err := f(e.key, &e.val); err != nil {
				return err
			}
		}
	}
	return nil
}

// keys calls f for every key of a group, in no order. f must not change the table.
func (t *table[K, V]) keys(g int, f func(k K)) {
	var zero K
	if len(t.spares[g].zero) != 0 {
		f(zero)
	}
	slots := t.groups[g].slots
	for i := range slots {
		if slots[i].key != zero {
			f(slots[i].key)
		}
	}
}

// clear empties a group and gives its array back.
func (t *table[K, V]) clear(g int) {
	t.copyRest(g)
	t.fam.note(g, t.groups[g].n)
	if t.back != nil {
		t.wipe(g)
	}
	if gr := &t.groups[g]; len(gr.slots) > 1 {
		t.fam.recycle(gr.slots)
		gr.slots, gr.n = t.fam.none, 0
	}
	t.spares[g].zero = nil
}

// warmFrom is the number of entries below which warming costs more than it saves: they fit the cache anyway.
const warmFrom = 64 << 10

// warm loads the first slot of each hash, so that the cache misses of a batch overlap. The branch on what was loaded
// keeps the loads alive.
func (t *table[K, V]) warm(hs []uint64, first int, groups uint64) {
	if t.back != nil {
		t.warmBacked(hs, first, groups)
		return
	}
	var zero K
	n := 0
	for _, h := range hs {
		gr := &t.groups[int((h>>32)*groups>>32)-first]
		if gr.slots[h&uint64(len(gr.slots)-1)].key == zero {
			n++
		}
	}
	t.warmed += n
}
