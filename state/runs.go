package state

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
)

// run is what a capture has of a key group of which much has changed: all of it, to replace what the disk has. That costs
// the disk a tenth of as many changes in a batch, and leaves nothing old behind that a restore would have to read past. The
// task fills it; whoever writes the capture sorts it.
type run struct {
	prefix  []byte // what the keys of the group begin with
	entries int    // how many are expected
	bytes   int    // of each, about
	buf     []byte // the rest of each key, then its value
	ops     []runOp
	whole   bool // it has all entries
}

// runOp is an entry of a run.
type runOp struct {
	head     uint64 // the first bytes of the key's rest, to sort by
	at       int
	key, val int32 // lengths; val is negative if the key was deleted
}

const (
	// rewriteFrom is the part of a group's entries that makes it worth it to write all of them: a fourth.
	rewriteFrom = 4

	// leastRun is how many bytes of key groups side by side replace what the disk has. Fewer go into a batch, since each
	// replacement waits for the disk a few times.
	leastRun = 512 << 10
)

// Set and Delete add an entry; each key comes once.
func (r *run) Set(key, value []byte) error {
	r.add(key, int32(len(value)))
	r.buf = append(r.buf, value...)
	return nil
}

func (r *run) Delete(key []byte) error {
	r.add(key, -1)
	return nil
}

func (r *run) add(key []byte, val int32) {
	if r.ops == nil {
		r.ops = make([]runOp, 0, r.entries)
		r.buf = make([]byte, 0, r.entries*r.bytes)
	}
	rest := key[len(r.prefix):]
	r.ops = append(r.ops, runOp{head: headOf(rest), at: len(r.buf), key: int32(len(rest)), val: val})
	r.buf = append(r.buf, rest...)
}

func headOf(b []byte) uint64 {
	if len(b) >= 8 {
		return binary.BigEndian.Uint64(b)
	}
	var head [8]byte
	copy(head[:], b)
	return binary.BigEndian.Uint64(head[:])
}

func (r *run) keyOf(o runOp) []byte { return r.buf[o.at : o.at+int(o.key)] }

// each calls set for each entry and del for each deleted one, with their keys; del may be nil.
func (r *run) each(set func(key, value []byte) error, del func(key []byte) error) error {
	key := bytes.Clone(r.prefix)
	for _, o := range r.ops {
		key = append(key[:len(r.prefix)], r.keyOf(o)...)
		var err error
		if end := o.at + int(o.key); o.val >= 0 {
			err = set(key, r.buf[end:end+int(o.val)])
		} else if del != nil {
			err = del(key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sort sorts by key. Heads are mostly spread evenly, so entries are first dealt by them to places of which each gets a few.
func (r *run) sort() {
	lo, hi := uint64(math.MaxUint64), uint64(0)
	for _, o := range r.ops {
		lo, hi = min(lo, o.head), max(hi, o.head)
	}
	places := bits.Len(uint(len(r.ops))) // log2
	shift := max(0, bits.Len64(hi-lo)-places)
	ends := make([]int, 1<<places+1)
	for _, o := range r.ops {
		ends[(o.head-lo)>>shift+1]++
	}
	for i := 1; i < len(ends); i++ {
		ends[i] += ends[i-1]
	}
	dealt := make([]runOp, len(r.ops))
	for _, o := range r.ops {
		at := &ends[(o.head-lo)>>shift]
		dealt[*at] = o
		*at++
	}
	from := 0
	for _, end := range ends {
		slices.SortFunc(dealt[from:end], r.compare)
		from = end
	}
	r.ops = dealt
}

func (r *run) compare(a, b runOp) int {
	if a.head != b.head {
		return cmp.Compare(a.head, b.head)
	}
	return bytes.Compare(r.keyOf(a), r.keyOf(b))
}

// rewrites begins a run for a group that is all in memory and has changed much: every entry becomes one to be staged.
func (t *table[K, V]) rewrites(g int) {
	f, b := t.fam, &t.back[g]
	all := t.groups[g].n + len(t.spares[g].zero)
	if !b.complete || b.frozen == 0 || b.frozen*rewriteFrom < all {
		return
	}
	b.frozen = markUsed(b.flags, f.turn^(dirtyA|dirtyB))
	b.run = &run{prefix: f.groupKey(nil, t.start, g), entries: b.frozen, bytes: int(f.mean)}
	f.b.runs = append(f.b.runs, b.run)
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

// unrun puts what the runs of a capture that is given up have collected into batches.
func (b *backing) unrun() {
	for _, r := range b.runs {
		b.must(r.each(
			func(key, value []byte) error { return b.writer().Set(key, value) },
			func(key []byte) error { return b.writer().Delete(key) },
		), "write back")
	}
	b.runs = nil
}

// replace brings the runs to the disk: those of groups side by side together.
func (h *handover) replace() error {
	slices.SortFunc(h.runs, func(a, b *run) int { return bytes.Compare(a.prefix, b.prefix) })
	for len(h.runs) > 0 {
		if h.left.Load() {
			return errLeft
		}
		n, size := stretch(h.runs)
		write := h.replaceAll
		if size < h.least || !h.runs[0].whole {
			write = h.change
		}
		if err := write(h.runs[:n]); err != nil {
			return err
		}
		h.runs = h.runs[n:]
	}
	return nil
}

// stretch is how many of the runs are whole and side by side, or 1, and their bytes.
func stretch(runs []*run) (n, size int) {
	for n, size = 1, len(runs[0].buf); n < len(runs); n++ {
		if !runs[n-1].whole || !runs[n].whole || !bytes.Equal(after(runs[n-1].prefix), runs[n].prefix) {
			break
		}
		size += len(runs[n].buf)
	}
	return n, size
}

func (h *handover) replaceAll(runs []*run) error {
	return h.disk.Replace(runs[0].prefix, after(runs[len(runs)-1].prefix), func(set func(key, value []byte) error) error {
		for _, r := range runs {
			if h.left.Load() {
				return errLeft
			}
			r.sort()
			if err := r.each(set, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// change puts runs into batches.
func (h *handover) change(runs []*run) error {
	w := h.disk.Batch()
	for _, r := range runs {
		if err := r.each(w.Set, w.Delete); err != nil {
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
