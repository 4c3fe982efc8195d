package state

import (
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
	"slices"
)

// A slot's flags in a table with a disk behind it. There are two bits for dirty, which change their roles with each capture:
// one means changed since the last capture began, the other changed before that and not yet staged.
const (
	dirtyA uint8 = 1 << iota
	dirtyB
	deleted // the key is gone: it was on the disk, and must be deleted there
	recent  // accessed since its group was visited for eviction
	onDisk  // the disk has the key, or a capture will bring it there
)

// shelf is what a group of such a table has beside its slots. The entry of the zero key is never evicted; its flags are the
// last ones.
type shelf struct {
	flags    []uint8 // one for each slot and one more; nil as long as nothing was stored
	deleted  int     // entries that are only marks
	dirty    int     // entries changed since the last capture began
	frozen   int     // entries that the running capture has to stage
	swept    int     // where sweep is in flags
	misses   int     // since it was last complete
	complete bool    // no other key of the group is on the disk
	onDisk   bool    // some key is, or was, or will be with a capture
	wiped    bool    // what the disk has must be deleted there
	packed   uint8   // noPack, maybePacked or isPacked: what the disk has, or will have with a capture
	over     int     // single entries over the pack, at most
	pack     *pack   // of the running capture, if all of the group is to be written
}

const (
	noPack      = iota
	maybePacked // restored, and not looked at: no entry is in memory
	isPacked    // the group is complete
)

// entryAt is a slot, or the zero key's entry.
func (t *table[K, V]) entryAt(g int, slot uint64) *entry[K, V] {
	if slots := t.groups[g].slots; slot < uint64(len(slots)) {
		return &slots[slot]
	}
	return &t.spares[g].zero[0]
}

func (t *table[K, V]) flags(g int) []uint8 {
	b := &t.back[g]
	if b.flags == nil {
		b.flags = make([]uint8, len(t.groups[g].slots)+1)
	}
	return b.flags
}

// hit is a lookup's end.
func (t *table[K, V]) hit(g int, slot uint64, v *V, write bool) *V {
	t.fam.b.counters.hits++
	fl := &t.back[g].flags[slot]
	if *fl&deleted != 0 {
		return nil
	}
	if *fl |= recent; write {
		t.dirty(g, slot)
	}
	return v
}

// dirty is called before a slot changes: what the running capture needs of it is staged; a deleted key lives again.
func (t *table[K, V]) dirty(g int, slot uint64) {
	f, fl := t.fam, &t.flags(g)[slot]
	now := f.turn
	if *fl&^onDisk == now|recent {
		return
	}
	b := &t.back[g]
	if *fl&(now^(dirtyA|dirtyB)) != 0 {
		t.stage(g, slot)
	}
	if *fl&deleted != 0 {
		*fl &^= deleted
		b.deleted--
	}
	if *fl&now == 0 {
		b.dirty++
	}
	*fl |= now | recent
}

// stage puts an entry into the running capture. One that can't be encoded makes the capture fail and stays dirty.
func (t *table[K, V]) stage(g int, slot uint64) int {
	f, b := t.fam, &t.back[g]
	fl := &b.flags[slot]
	b.frozen--
	*fl &^= f.turn ^ (dirtyA | dirtyB)
	var size int
	var err error
	if b.pack != nil {
		size, err = t.stagePacked(b.pack, g, slot, *fl)
	} else {
		size, err = t.write(f.b.writer(), g, t.entryAt(g, slot), *fl)
	}
	if err != nil {
		if f.err = err; *fl&f.turn == 0 {
			*fl |= f.turn
			b.dirty++
		}
		if b.pack != nil { // it lacks the entry, and what it has must be staged again
			b.pack = nil
			b.dirty = markUsed(b.flags, f.turn)
		}
		return 0
	}
	*fl |= onDisk
	b.onDisk = true
	if b.pack != nil && b.frozen == 0 {
		b.pack.whole, b.pack = true, nil
		b.packed, b.over = isPacked, 0
	}
	return size
}

// write puts an entry into a batch.
func (t *table[K, V]) write(w Batch, g int, e *entry[K, V], fl uint8) (size int, err error) {
	f := t.fam
	key := f.keys.AppendBytes(f.entryKey(f.b.scratch[:0], t.start, g), e.key)
	f.b.scratch = key
	if fl&deleted != 0 && t.back[g].packed == isPacked {
		return len(key), w.Set(key, []byte{formGone})
	}
	if fl&deleted != 0 {
		return len(key), w.Delete(key)
	}
	val, err := f.codec.Append(append(f.b.value[:0], byte(len(f.known.sigs)-1)), &e.val)
	if err != nil {
		return 0, err
	}
	f.b.value = val
	size = len(key) + len(val)
	f.sized(size)
	return size, w.Set(key, val)
}

// sized notes what an entry took on the disk.
func (f *family[K, V]) sized(n int) { f.mean += (int64(n) - f.mean) / 16 }

// groupKey is what the keys of a group begin with on the disk. g counts from the first group owned.
func (f *family[K, V]) groupKey(dst []byte, start int64, g int) []byte {
	dst = f.paneKey(dst, start)
	return binary.BigEndian.AppendUint16(dst, uint16(f.first+g))
}

// entryKey is what the keys of a group's single entries begin with.
func (f *family[K, V]) entryKey(dst []byte, start int64, g int) []byte {
	return append(f.groupKey(dst, start, g), tagEntry)
}

func (f *family[K, V]) paneKey(dst []byte, start int64) []byte {
	dst = binary.BigEndian.AppendUint16(dst, f.known.number)
	if f.kind == kindPanes {
		dst = binary.BigEndian.AppendUint64(dst, sortable(start))
	}
	return dst
}

// sortable is a number whose order without a sign is that of n.
func sortable(n int64) uint64 { return uint64(n) ^ 1<<63 }

// after is the first key after all that begin with prefix, which isn't all ones.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; ; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
}

// absent is the end of a lookup that found no entry: the disk may have one.
func (t *table[K, V]) absent(k K, h uint64, g int, write bool) *V {
	if t.back == nil {
		return nil
	}
	return t.fetch(k, h, g, write)
}

// fillAfter is how many keys of a group are asked for one by one before all of them are read, if there is room: a scan costs
// a fiftieth of a lookup for each key.
const fillAfter = 16

// fetch brings an entry from the disk that isn't in the table; nil if there is none.
func (t *table[K, V]) fetch(k K, h uint64, g int, write bool) *V {
	f, b := t.fam, &t.back[g]
	if b.complete {
		return nil
	}
	var zero K
	if k == zero && len(t.spares[g].zero) != 0 {
		return nil // insert was asked for a key that is there
	}
	if b.packed == maybePacked && t.unfold(g) {
		return t.find(k, h, g, write)
	}
	if b.misses++; b.misses == fillAfter && t.fill(g, true) {
		return t.find(k, h, g, write)
	}
	f.b.counters.misses++
	key := f.keys.AppendBytes(f.entryKey(f.b.scratch[:0], t.start, g), k)
	f.b.scratch = key
	raw, ok := f.b.lookUp(key)
	if !ok {
		return nil
	}
	slot := t.take(k, h, g)
	e := t.entryAt(g, slot)
	if err := f.decodeAll(raw, &e.val); err != nil {
		f.b.failed(err, "decode a value")
	}
	t.back[g].flags[slot] = recent | onDisk
	if write {
		t.dirty(g, slot)
	}
	return &e.val
}

// insertBacked is insert.
func (t *table[K, V]) insertBacked(k K, h uint64, g int) *V {
	if v := t.fetch(k, h, g, true); v != nil {
		return v
	}
	slot, ok := t.slotOf(k, h, g)
	if !ok {
		slot = t.take(k, h, g)
	}
	t.dirty(g, slot)
	return &t.entryAt(g, slot).val
}

// take adds a key that isn't there and returns its slot.
func (t *table[K, V]) take(k K, h uint64, g int) uint64 { return t.put(t.fam.keys.clone(k), h, g) }

// put is take for a key that pins nothing.
func (t *table[K, V]) put(k K, h uint64, g int) (slot uint64) {
	var zero K
	t.fam.entries++
	if k == zero {
		t.spares[g].zero = make([]entry[K, V], 1)
		slot = uint64(len(t.groups[g].slots))
	} else {
		slot = t.free(h, g)
		t.groups[g].slots[slot].key = k
		t.groups[g].n++
	}
	t.flags(g)
	return slot
}

// fill brings all keys of a group from the disk. With limited it gives up when the room is nearly used up.
func (t *table[K, V]) fill(g int, limited bool) (all bool) {
	f, b := t.fam, &t.back[g]
	if b.complete {
		return true
	}
	room, n := f.b.disk.Room()*3/4, 0
	fresh := t.groups[g].n+len(t.spares[g].zero) == 0
	if t.groups[g].n < f.filled {
		t.reserve(g, f.filled)
	}
	over, err := f.readGroup(f.b.disk, t.start, g, func(k K, _ []byte, form byte, src []byte) ([]byte, error) {
		if n++; limited && n%256 == 1 && f.b.used() > room {
			return nil, errNoRoom
		}
		h := f.keys.slotHash(k)
		if !fresh && t.has(k, h, g) {
			_, rest, err := f.cutValue(form, src)
			return rest, err
		}
		slot := t.put(k, h, g)
		b.flags[slot] = onDisk
		return f.decode(form, src, &t.entryAt(g, slot).val)
	})
	if errors.Is(err, errNoRoom) {
		return false
	}
	f.b.must(err, "read a key group")
	if b.complete, b.misses, f.filled = true, 0, t.groups[g].n; over >= 0 {
		b.packed, b.over = isPacked, over
	}
	return true
}

var errNoRoom = errors.New("no room in memory")

// has tells whether a key has an entry, also one that is only a mark.
func (t *table[K, V]) has(k K, h uint64, g int) bool {
	_, ok := t.slotOf(k, h, g)
	return ok
}

func (t *table[K, V]) slotOf(k K, h uint64, g int) (slot uint64, ok bool) {
	var zero K
	slots := t.groups[g].slots
	if k == zero {
		return uint64(len(slots)), len(t.spares[g].zero) != 0
	}
	mask := uint64(len(slots) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		if slots[i].key == k {
			return i, true
		}
		if slots[i].key == zero {
			return 0, false
		}
	}
}

// placeBacked moves entries with their flags to another array.
func (t *table[K, V]) placeBacked(g int, to, from []entry[K, V]) {
	var zero K
	b, flags := &t.back[g], make([]uint8, len(to)+1)
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
		to[i], flags[i] = *e, b.flags[j]
	}
	if b.flags != nil {
		flags[len(to)] = b.flags[len(from)]
	}
	t.fam.slots += int64(len(to) - len(from))
	t.groups[g].slots, b.flags, b.swept = to, flags, 0
}

// removeBacked deletes a key. One that the disk has, or may have soon, stays as a mark until it's deleted there.
func (t *table[K, V]) removeBacked(k K, h uint64, g int) bool {
	if t.find(k, h, g, false) == nil {
		return false
	}
	slot, _ := t.slotOf(k, h, g)
	b := &t.back[g]
	if b.flags[slot]&onDisk != 0 || b.flags[slot]&(t.fam.turn^(dirtyA|dirtyB)) != 0 {
		var none V
		t.dirty(g, slot)
		t.entryAt(g, slot).val = none
		b.flags[slot] |= deleted
		b.deleted++
		return true
	}
	t.lose(g, slot)
	return true
}

// lose takes an entry out of the table.
func (t *table[K, V]) lose(g int, slot uint64) {
	var zero K
	gr, b := &t.groups[g], &t.back[g]
	t.fam.entries--
	if b.flags[slot]&t.fam.turn != 0 {
		b.dirty--
	}
	if slot == uint64(len(gr.slots)) {
		t.spares[g].zero, b.flags[slot] = nil, 0
		return
	}
	mask := uint64(len(gr.slots) - 1)
	i := slot
	for j := (i + 1) & mask; gr.slots[j].key != zero; j = (j + 1) & mask {
		home := t.fam.keys.slotHash(gr.slots[j].key) & mask
		if (j-home)&mask >= (j-i)&mask {
			gr.slots[i], b.flags[i] = gr.slots[j], b.flags[j]
			i = j
		}
	}
	gr.slots[i], b.flags[i] = entry[K, V]{}, 0
	gr.n--
}

// eachBacked is each: f may change the value, so what isn't flat counts as changed.
func (t *table[K, V]) eachBacked(g int, f func(k K, v *V) error) error {
	var zero K
	t.fill(g, false)
	t.copyRest(g)
	slots := t.groups[g].slots
	for slot := range uint64(len(t.back[g].flags)) {
		if t.back[g].flags[slot]&deleted != 0 || slot < uint64(len(slots)) && slots[slot].key == zero {
			continue
		}
		if slot == uint64(len(slots)) && len(t.spares[g].zero) == 0 {
			continue
		}
		e := t.entryAt(g, slot)
		before := e.val
		err := f(e.key, &e.val)
		if !t.fam.flat || !same(&before, &e.val) {
			t.dirty(g, slot)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// wipe forgets a group that is being cleared.
func (t *table[K, V]) wipe(g int) {
	b := &t.back[g]
	t.fam.slots -= int64(len(t.groups[g].slots) - 1)
	t.fam.entries -= int64(t.groups[g].n + len(t.spares[g].zero))
	*b = shelf{complete: true, onDisk: b.onDisk, wiped: b.onDisk}
}

// markBacked begins a capture of the table, after the family's turn.
func (t *table[K, V]) markBacked() {
	for g := range t.back {
		b := &t.back[g]
		b.frozen, b.dirty, b.swept = b.dirty, 0, 0
		if b.wiped {
			t.fam.b.must(t.wipeOnDisk(t.fam.b.writer(), g), "note what was cleared")
		}
		t.packs(g)
	}
}

func (t *table[K, V]) wipeOnDisk(w Batch, g int) error {
	b := &t.back[g]
	b.wiped, b.onDisk = false, false
	prefix := t.fam.groupKey(nil, t.start, g)
	return w.DeleteRange(prefix, after(prefix))
}

// unmarkBacked gives a capture up: what it hasn't staged is as dirty as what came later, and all of a group whose pack isn't
// whole.
func (t *table[K, V]) unmarkBacked() {
	now := t.fam.turn
	for g := range t.back {
		b := &t.back[g]
		if b.frozen == 0 {
			continue
		}
		which := dirtyA | dirtyB
		if b.pack != nil {
			which = math.MaxUint8
		}
		b.dirty, b.frozen, b.pack = 0, 0, nil
		for i, fl := range b.flags {
			if fl&which != 0 {
				b.flags[i] = fl&^(dirtyA|dirtyB) | now
				b.dirty++
			}
		}
	}
}

// sweepBacked stages entries of a group until the budget, in bytes, is used up; it returns what is left of it.
func (t *table[K, V]) sweepBacked(g, budget int) int {
	b, old := &t.back[g], t.fam.turn^(dirtyA|dirtyB)
	for b.frozen > 0 {
		if b.swept >= len(b.flags) {
			b.swept = 0
		}
		if budget <= 0 {
			return budget
		}
		i := b.nextWith(old)
		b.swept = i + 1
		if i < len(b.flags) {
			budget -= t.stage(g, uint64(i)) + int(t.fam.size)
		}
	}
	return budget
}

// nextWith is the first slot from swept on that has a flag; the number of slots if there is none.
func (b *shelf) nextWith(flag uint8) int {
	i := b.swept
	for ; i < len(b.flags) && i%8 != 0; i++ {
		if b.flags[i]&flag != 0 {
			return i
		}
	}
	all := uint64(flag) * 0x0101010101010101
	for ; i+8 <= len(b.flags); i += 8 {
		if w := binary.LittleEndian.Uint64(b.flags[i:]) & all; w != 0 {
			return i + bits.TrailingZeros64(w)/8
		}
	}
	for ; i < len(b.flags) && b.flags[i]&flag == 0; i++ {
	}
	return i
}

// warmBacked is warm, and loads the flags of the slots.
func (t *table[K, V]) warmBacked(hs []uint64, first int, groups uint64) {
	var zero K
	n := 0
	for _, h := range hs {
		g := int((h>>32)*groups>>32) - first
		slots, flags := t.groups[g].slots, t.back[g].flags
		i := h & uint64(len(slots)-1)
		if i < uint64(len(flags)) && flags[i] == 0 || slots[i].key == zero {
			n++
		}
	}
	t.warmed += n
}

func (t *table[K, V]) groupCount() int { return len(t.groups) }

// evict writes what of a group is dirty and wasn't used lately, and rebuilds it without all that wasn't.
func (t *table[K, V]) evict(g int, w Batch) (left bool, err error) {
	gr, b, now := &t.groups[g], &t.back[g], t.fam.turn
	if gr.n == 0 {
		return false, nil
	}
	if b.wiped {
		if err := t.wipeOnDisk(w, g); err != nil {
			return false, err
		}
	}
	if b.packed == isPacked && t.droppable(g) {
		t.loosen(g)
	}
	var zero K
	keep, dropped, lost := 0, 0, false
	for i := range gr.slots {
		e, fl := &gr.slots[i], b.flags[i]
		if e.key == zero {
			continue
		}
		if fl&recent != 0 {
			b.flags[i] = fl &^ recent
			keep++
			continue
		}
		if fl&now != 0 {
			if _, err := t.write(w, g, e, fl); err != nil {
				return false, err
			}
			b.dirty--
			b.onDisk = true
		}
		lost = lost || fl&deleted == 0
		if fl&deleted != 0 {
			b.deleted--
		}
		e.key = zero
		dropped++
	}
	gr.n -= dropped
	t.fam.entries -= int64(dropped)
	if lost {
		b.complete, b.misses = false, math.MinInt
	}
	if dropped > 0 {
		t.shrink(g, keep)
	}
	return dropped > 0, nil
}

// droppable tells whether some entry of a group wasn't used lately.
func (t *table[K, V]) droppable(g int) bool {
	return slices.ContainsFunc(t.back[g].flags[:len(t.groups[g].slots)], func(fl uint8) bool { return fl != 0 && fl&recent == 0 })
}

// shrink gives a group whose entries have holes between them a fitting array.
func (t *table[K, V]) shrink(g, keep int) {
	gr := &t.groups[g]
	old := gr.slots
	if keep == 0 {
		to := append([]entry[K, V](nil), t.fam.none...)
		t.placeBacked(g, to, old)
		gr.slots = t.fam.none
		return
	}
	t.placeBacked(g, t.fam.array(slotsFor(keep)), old)
}
