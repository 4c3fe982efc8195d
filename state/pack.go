package state

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
	"sync"
)

// A key group is on the disk as single entries, or as a pack with single entries over it. A pack is all entries that the group
// had at one moment, put together into a few values: writing and reading it costs less than half of what as many single
// entries do. It is made by a capture, of a group that is in memory as a whole and has changed much, so nobody looks for a key in
// it: the first access after a restore reads all of the group back, or turns the pack into single entries if memory has no
// room. So does eviction. See docs/design/packed-groups.md.

// Tags follow the group in the keys of a group.
const (
	tagPack  = 0 // then the number of the chunk (4)
	tagEntry = 1 // then the key
)

// formGone is what a single entry has in the place of its signature's number if it says that the pack's entry is gone.
const formGone = 0xff

// pack is that of a running capture. The task fills it; whoever writes the capture brings it to the disk.
type pack struct {
	prefix []byte // what the keys of the group begin with
	form   byte   // number of the signature
	buf    []byte // chunks: form (1), entries (4, little-endian), and those
	starts []int  // of the chunks
	whole  bool   // it has all entries
}

const (
	// packFrom is the part of a group's entries that must have changed to make it worth it to write all of them: a fourth.
	packFrom = 4

	// leastPack is how many entries are worth a pack.
	leastPack = 64

	// packChunk is from how many bytes on a chunk is full, and chunkHead what it begins with.
	packChunk = 32 << 10
	chunkHead = 5

	// leastRun is how many bytes of packs side by side replace what the disk has. Fewer go into a batch, since each
	// replacement waits for the disk a few times.
	leastRun = 512 << 10
)

// begin makes room for one more entry in buf and counts it.
func (p *pack) begin() {
	last := len(p.starts) - 1
	if last < 0 || len(p.buf)-p.starts[last] >= packChunk {
		p.starts = append(p.starts, len(p.buf))
		p.buf = append(p.buf, p.form, 0, 0, 0, 0)
		last++
	}
	n := p.buf[p.starts[last]+1:]
	binary.LittleEndian.PutUint32(n, binary.LittleEndian.Uint32(n)+1)
}

// each calls set for each chunk.
func (p *pack) each(set func(key, value []byte) error) error {
	key := append(bytes.Clone(p.prefix), tagPack)
	for i, at := range p.starts {
		end := len(p.buf)
		if i+1 < len(p.starts) {
			end = p.starts[i+1]
		}
		key = binary.BigEndian.AppendUint32(key[:len(p.prefix)+1], uint32(i))
		if err := set(key, p.buf[at:end]); err != nil {
			return err
		}
	}
	return nil
}

// put has the pack take the place of the group in a batch.
func (p *pack) put(w Batch) error {
	if err := w.DeleteRange(p.prefix, after(p.prefix)); err != nil {
		return err
	}
	return p.each(w.Set)
}

// packs begins a pack for a group that is all in memory and has changed much, by now or since its last one: every entry
// becomes one to be staged.
func (t *table[K, V]) packs(g int) {
	f, b := t.fam, &t.back[g]
	all := t.groups[g].n + len(t.spares[g].zero)
	if !b.complete || b.frozen == 0 || all < f.b.fewest {
		return
	}
	if b.frozen*packFrom < all && b.over+b.frozen < all {
		b.over += b.frozen
		return
	}
	b.frozen = markUsed(b.flags, f.turn^(dirtyA|dirtyB))
	b.pack = &pack{prefix: f.groupKey(nil, t.start, g), form: byte(len(f.known.sigs) - 1)}
	b.pack.buf = packBuffer(b.frozen * int(f.mean) * 9 / 8)
	f.b.packs = append(f.b.packs, b.pack)
}

// packBuffers are those of packs that are on the disk: new ones would have to be cleared for every capture.
var packBuffers sync.Pool

// packBuffer is one that should be large enough for n bytes.
func packBuffer(n int) []byte {
	if p, ok := packBuffers.Get().(*[]byte); ok && cap(*p) >= n {
		return (*p)[:0]
	}
	return make([]byte, 0, n)
}

// reuse gives the buffers of packs back that nobody needs any more.
func reuse(packs []*pack) {
	for _, p := range packs {
		packBuffers.Put(&p.buf)
	}
}

// markUsed sets a flag, which is one bit, of all slots that have any, and counts them.
func markUsed(flags []uint8, flag uint8) (n int) {
	const low, high = 0x7f7f7f7f7f7f7f7f, 0x8080808080808080
	i, shift := 0, 7-bits.TrailingZeros8(flag)
	for ; i+8 <= len(flags); i += 8 {
		w := binary.LittleEndian.Uint64(flags[i:])
		used := (w&low + low | w) & high // the highest bit of each byte that isn't 0
		binary.LittleEndian.PutUint64(flags[i:], w|used>>shift)
		n += bits.OnesCount64(used)
	}
	for ; i < len(flags); i++ {
		if flags[i] != 0 {
			flags[i] |= flag
			n++
		}
	}
	return n
}

// stagePacked puts an entry into its group's pack; one that is deleted isn't in it.
func (t *table[K, V]) stagePacked(p *pack, g int, slot uint64, fl uint8) (size int, err error) {
	if fl&deleted != 0 {
		return 0, nil
	}
	p.begin()
	before, e := len(p.buf), t.entryAt(g, slot)
	p.buf = t.fam.keys.AppendBytes(p.buf, e.key)
	if p.buf, err = t.fam.codec.Append(p.buf, &e.val); err != nil {
		return 0, err
	}
	size = len(p.buf) - before
	t.fam.sized(size)
	return size, nil
}

// unpacked puts the packs of a capture that is given up into batches.
func (b *backing) unpacked() {
	for _, p := range b.packs {
		if p.whole {
			b.must(p.put(b.writer()), "write back")
		}
	}
	b.packs = nil
}

// replace brings the packs to the disk: those of groups side by side together.
func (h *handover) replace() error {
	h.packs = slices.DeleteFunc(h.packs, func(p *pack) bool { return !p.whole })
	slices.SortFunc(h.packs, func(a, b *pack) int { return bytes.Compare(a.prefix, b.prefix) })
	for len(h.packs) > 0 {
		if h.left.Load() {
			return errLeft
		}
		n, size := stretch(h.packs)
		write := h.replaceAll
		if size < h.least {
			write = h.change
		}
		if err := write(h.packs[:n]); err != nil {
			return err
		}
		reuse(h.packs[:n])
		h.packs = h.packs[n:]
	}
	return nil
}

// stretch is how many of the packs are side by side, and their bytes.
func stretch(packs []*pack) (n, size int) {
	for n, size = 1, len(packs[0].buf); n < len(packs); n++ {
		if !bytes.Equal(after(packs[n-1].prefix), packs[n].prefix) {
			break
		}
		size += len(packs[n].buf)
	}
	return n, size
}

func (h *handover) replaceAll(packs []*pack) error {
	return h.disk.Replace(packs[0].prefix, after(packs[len(packs)-1].prefix), func(set func(key, value []byte) error) error {
		for _, p := range packs {
			if h.left.Load() {
				return errLeft
			}
			if err := p.each(set); err != nil {
				return err
			}
		}
		return nil
	})
}

// change puts packs into batches.
func (h *handover) change(packs []*pack) error {
	w := h.disk.Batch()
	for _, p := range packs {
		if err := p.put(w); err != nil {
			return err
		}
		if w.Size() >= batchBytes {
			if err := w.Commit(); err != nil {
				return err
			}
			w = h.disk.Batch()
		}
	}
	return w.Commit()
}
