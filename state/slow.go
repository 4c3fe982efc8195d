package state

import (
	"encoding/binary"
	"math"
	"strings"
	"unsafe"

	"github.com/weirline/weirline/internal/fault"
)

// slow is what a family has more with a disk behind it.
type slow[V any] struct {
	b       *backing
	known   *known
	codecs  []Codec[V] // by number of the signature
	turn    uint8      // dirtyA or dirtyB: what changes now
	size    int64      // bytes of a slot with its flags
	slots   int64      // of all tables
	entries int64
	mean    int64   // bytes of an entry on the disk
	filled  int     // entries of the group that was filled last: those of the next will be about as many
	drops   []int64 // starts of panes that are to be deleted on the disk
	err     error   // of the running capture: a value couldn't be encoded
	roomy   bool    // entries are no larger than their slots
}

// behind puts a disk behind a state's tables, before there are any.
func (f *family[K, V]) behind(b *backing) {
	if b == nil {
		return
	}
	f.slow = &slow[V]{b: b, turn: dirtyA, size: int64(unsafe.Sizeof(f.none[0])) + 1}
	_, fixedValue := f.codec.(*fixed[V])
	f.roomy = f.flat && fixedValue && !strings.Contains(f.keys.Signature(), "string")
}

// attach finds out what the disk has of a state.
func (f *family[K, V]) attach() error {
	k, had, err := f.b.declare(f.name, f.kind, f.signature())
	if err != nil {
		return err
	}
	f.known = k
	for _, s := range k.sigs {
		_, was, _ := strings.Cut(s, " -> ")
		codec, ok := f.codec.reading(was)
		if !ok {
			return damaged("the signature %q can't be read", s)
		}
		f.codecs = append(f.codecs, codec)
	}
	f.b.states = append(f.b.states, f)
	if !had {
		return nil
	}
	starts, err := f.starts(f.b.disk)
	if err != nil {
		return fault.Wrap(fault.DamagedEpoch, err, "list the windows of state %q", f.name)
	}
	for _, start := range starts {
		t := f.adopt(start)
		for g := range t.back {
			t.back[g] = shelf{onDisk: true, packed: maybePacked}
		}
	}
	return nil
}

// starts are those of all panes that are on the disk, without reading them; 0 for states that are no panes.
func (f *family[K, V]) starts(d Scanner) (starts []int64, err error) {
	if f.kind != kindPanes {
		return []int64{0}, nil
	}
	from, to := f.known.bounds()
	for {
		n := len(starts)
		err = d.Scan(from, to, func(key, _ []byte) bool {
			starts = append(starts, int64(sortable(int64(binary.BigEndian.Uint64(key[2:])))))
			return false
		})
		if err != nil || len(starts) == n {
			return starts, err
		}
		from = after(f.paneKey(nil, starts[n]))
	}
}

// footprint is about the memory of all tables.
func (f *family[K, V]) footprint() int64 {
	n := f.slots * f.size
	if !f.roomy {
		n += f.entries * 2 * f.mean // what lies outside the slots
	}
	return n
}

func (f *family[K, V]) inMemory() int64 { return f.entries }

func (f *family[K, V]) evictables() (all []evictable) {
	for _, t := range f.tables() {
		all = append(all, t)
	}
	return all
}

// dropped notes that a pane went with all it had, in memory and on the disk.
func (f *family[K, V]) dropped(t *table[K, V]) {
	if f.slow == nil {
		return
	}
	any := false
	for g := range t.back {
		any = any || t.back[g].onDisk
		t.back[g] = shelf{complete: true}
	}
	if any {
		f.drops = append(f.drops, t.start)
	}
}

func (f *family[K, V]) owed(b Batch) error {
	for _, start := range f.drops {
		pane := f.paneKey(nil, start)
		if err := b.DeleteRange(pane, after(pane)); err != nil {
			return err
		}
	}
	f.drops = f.drops[:0]
	return nil
}

// same tells whether two flat values are the same in memory.
func same[V any](a, b *V) bool {
	n := unsafe.Sizeof(*a)
	return unsafe.String((*byte)(unsafe.Pointer(a)), n) == unsafe.String((*byte)(unsafe.Pointer(b)), n)
}

// diskPart is the captured content of a state that is on a disk.
type diskPart[K comparable, V any] struct {
	f    *family[K, V]
	sigs int // as many as there were
	err  error
}

func (p *diskPart[K, V]) behind() bool   { return true }
func (p *diskPart[K, V]) release()       {}
func (p *diskPart[K, V]) failure() error { return p.err }

func (p *diskPart[K, V]) describe() (name string, k kind, sig string) {
	return p.f.name, p.f.kind, p.f.signature()
}

// write writes one section per group that has entries, by reading the disk.
func (p *diskPart[K, V]) write(w *fileWriter) error {
	if p.err != nil {
		return p.err
	}
	starts, err := p.f.starts(w.view)
	if err != nil {
		return err
	}
	for g := range p.f.count {
		count := 0
		w.buf = w.buf[:0]
		for _, start := range starts {
			n, err := p.run(w, start, g)
			if err != nil {
				return err
			}
			count += n
		}
		if err := w.section(p.f.first+g, count); err != nil {
			return err
		}
	}
	return nil
}

// run appends all entries of one group and start.
func (p *diskPart[K, V]) run(w *fileWriter, start int64, g int) (n int, err error) {
	head := len(w.buf)
	w.buf = binary.LittleEndian.AppendUint64(w.buf, uint64(start))
	w.buf = binary.LittleEndian.AppendUint32(w.buf, 0)
	_, err = p.f.readGroup(w.view, start, g, func(_ K, key []byte, form byte, src []byte) ([]byte, error) {
		n++
		w.buf = append(w.buf, key...)
		var v V
		rest, err := p.f.decode(form, src, &v)
		if err != nil {
			return nil, err
		}
		if int(form) == p.sigs-1 {
			w.buf = append(w.buf, src[:len(src)-len(rest)]...)
		} else { // it was stored under an older signature
			w.buf, err = p.f.codec.Append(w.buf, &v)
		}
		return rest, err
	})
	if err == nil && n > math.MaxUint32 {
		err = errLength
	}
	if n == 0 || err != nil {
		w.buf = w.buf[:head]
		return 0, err
	}
	binary.LittleEndian.PutUint32(w.buf[head+8:], uint32(n))
	return n, nil
}
