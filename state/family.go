package state

import (
	"fmt"
	"math/bits"
	"reflect"
	"unsafe"

	"github.com/weirline/weirline/internal/fault"
)

// keyer is what a table must know of its keys. A Key is one; timers have their own, which routes by a part of the key.
type keyer[K comparable] interface {
	slotHash(k K) uint64  // chooses the slot; as given to the table's methods
	routeHash(k K) uint64 // chooses the key group
	clone(k K) K
	AppendBytes(dst []byte, k K) []byte
	Decode(src []byte) (K, []byte, error)
	Signature() string
}

// family is one declared state: its tables (one, or one per pane), its codecs, its running capture, and what they share.
type family[K comparable, V any] struct {
	name  string
	kind  kind
	first int // key group owned
	count int // number of them
	keys  keyer[K]
	codec Codec[V]
	flat  bool
	shift uint
	none  []entry[K, V] // the array of all empty groups: one empty slot, never written

	tables func() []*table[K, V] // in the order in which Sweep visits them
	adopt  func(start int64) *table[K, V]

	stage  *staging[K, V] // the running capture, else nil
	marked []*table[K, V] // what it has to visit
	at     int            // where Sweep is: number of groups visited over all of marked
	pool   pool[K, V]

	*slow[V]                     // with a disk behind it, else nil
	recycles bool                // panes: arrays are used again
	free     [48][][]entry[K, V] // by log2 of the length, all zero
	sizes    []uint8             // log2 of the array that a group of the last pane would have needed
}

const pageBytes = 1 << 10

func newFamily[K comparable, V any](name string, kd kind, keys keyer[K], codec Codec[V], first, count int) *family[K, V] {
	f := &family[K, V]{name: name, kind: kd, first: first, count: count, keys: keys, codec: codec}
	f.flat = IsFlat(reflect.TypeFor[V]())
	f.none = make([]entry[K, V], 1)
	f.sizes = make([]uint8, count)
	if size := int(unsafe.Sizeof(f.none[0])); f.flat && size > 0 && size < pageBytes {
		f.shift = uint(bits.Len(uint(pageBytes/size)) - 1)
	}
	return f
}

// array is an array of n zero entries, n a power of two.
func (f *family[K, V]) array(n int) []entry[K, V] {
	list := &f.free[bits.Len(uint(n))-1]
	if last := len(*list) - 1; last >= 0 {
		a := (*list)[last]
		(*list)[last] = nil
		*list = (*list)[:last]
		return a
	}
	return make([]entry[K, V], n)
}

// recycle keeps an array for the next pane, cleared. What would be more than two panes of one size is left to the
// garbage collector.
func (f *family[K, V]) recycle(a []entry[K, V]) {
	list := &f.free[bits.Len(uint(len(a)))-1]
	if f.recycles && len(*list) < 2*f.count {
		clear(a)
		*list = append(*list, a)
	}
}

// note remembers what a group of a pane that ends had, so that the next pane starts with that size.
func (f *family[K, V]) note(g, n int) {
	size := 0
	if n > 0 {
		size = bits.Len(uint(slotsFor(n+n/8) - 1)) // the next pane may have a few more
	}
	f.sizes[g] = uint8(max(size, int(f.sizes[g])-1))
}

func (f *family[K, V]) sizeFor(g int) int { return 1 << f.sizes[g] }

func (f *family[K, V]) capture() {
	if f.slow != nil {
		f.turn, f.err = f.turn^(dirtyA|dirtyB), nil
	} else {
		f.stage = f.pool.staging(f)
	}
	f.marked = append(f.marked[:0], f.tables()...)
	f.at = 0
	for _, t := range f.marked {
		t.mark()
	}
}

// sweep copies pending pages and returns what is left of the budget; done when that is above zero.
func (f *family[K, V]) sweep(budget int) int {
	for ; f.at < len(f.marked)*f.count; f.at++ {
		t, g := f.marked[f.at/f.count], f.at%f.count
		if t.groups[g].pending == 0 {
			continue
		}
		if budget = t.sweepGroup(g, budget); budget <= 0 {
			return budget
		}
	}
	return budget
}

func (f *family[K, V]) abort() {
	for _, t := range f.marked {
		t.unmark()
	}
	if f.stage != nil {
		f.pool.release(f.stage)
	}
	f.end()
}

// take hands what was captured over to a snapshot.
func (f *family[K, V]) take() part {
	s := f.stage
	f.end()
	if f.slow != nil {
		return &diskPart[K, V]{f: f, sigs: len(f.known.sigs), err: f.err}
	}
	return s
}

func (f *family[K, V]) end() {
	f.stage = nil
	clear(f.marked)
	f.marked = f.marked[:0]
}

func (f *family[K, V]) signature() string {
	return f.keys.Signature() + " -> " + f.codec.Signature()
}

// load puts the entries of a restored section into the tables.
func (f *family[K, V]) load(s section, codec Codec[V]) error {
	src, total := s.data, 0
	for len(src) > 0 {
		start, n, rest, err := cutRun(src)
		if err != nil {
			return err
		}
		t := f.adopt(start)
		if t == nil {
			return fmt.Errorf("window start %d in a state without windows", start)
		}
		t.reserve(s.group-f.first, min(n, len(rest)))
		for range n {
			if rest, err = f.loadEntry(t, s, codec, rest); err != nil {
				return err
			}
		}
		src, total = rest, total+n
	}
	if total != s.count {
		return fmt.Errorf("%d entries where %d were announced", total, s.count)
	}
	return nil
}

func (f *family[K, V]) loadEntry(t *table[K, V], s section, codec Codec[V], src []byte) ([]byte, error) {
	k, src, err := f.keys.Decode(src)
	if err != nil {
		return nil, err
	}
	if g := Group(f.keys.routeHash(k), s.groups); g != s.group {
		return nil, fmt.Errorf("a key of group %d in group %d", g, s.group)
	}
	h := f.keys.slotHash(k)
	before := t.live(s.group - f.first)
	v := t.ref(k, h, s.group-f.first)
	if t.live(s.group-f.first) == before {
		return nil, fmt.Errorf("a key twice in group %d", s.group)
	}
	return codec.Decode(src, v)
}

// claim takes what was restored for this state.
func (f *family[K, V]) claim(r *restored) error {
	if f.slow != nil {
		if err := f.attach(); err != nil {
			return err
		}
	}
	if r == nil {
		return nil
	}
	for _, s := range r.sections {
		if err := misfit(f.name, f.kind, f.signature(), s.kind, s.sig); err != nil {
			return err
		}
		_, was, _ := cutKey(s.sig)
		codec, ok := f.codec.reading(was)
		if !ok {
			return damaged("the signature %q can't be read", s.sig)
		}
		if f.slow != nil {
			s.data = f.b.unspool(s)
		}
		if err := f.load(s, codec); err != nil {
			return fault.Wrap(fault.DamagedEpoch, err, "load state %q, key group %d", f.name, s.group)
		}
		if f.slow != nil {
			f.b.relieve()
		}
	}
	return nil
}

// misfit refuses a state that was stored in a way that can't be read as it's declared.
func misfit(name string, k kind, is string, wasKind kind, was string) error {
	why := mismatch(was, is)
	if k != wasKind {
		why = differs("the kind", wasKind, k)
	}
	if why == "" {
		return nil
	}
	return fault.New(fault.BadState, "state %q is declared as %s %s but was stored as %s %s: %s", name, k, is, wasKind, was, why)
}

// warmOne warms a table if it's worth it.
func (f *family[K, V]) warmOne(t *table[K, V], hs []uint64, groups uint64) {
	if len(t.groups) > 0 && t.slotCount() > warmFrom {
		t.warm(hs, f.first, groups)
	}
}

// slotCount estimates the slots of all groups by the first few: keys spread evenly.
func (t *table[K, V]) slotCount() int {
	n := min(4, len(t.groups))
	sum := 0
	for g := range n {
		sum += len(t.groups[g].slots)
	}
	return sum * len(t.groups) / n
}

// appendEntry writes an entry as it lies in the file.
func (f *family[K, V]) appendEntry(dst []byte, e *entry[K, V]) ([]byte, error) {
	return f.codec.Append(f.keys.AppendBytes(dst, e.key), &e.val)
}

// empty is the codec of no value at all, for timers.
type empty struct{}

func (empty) Append(dst []byte, _ *struct{}) ([]byte, error) { return dst, nil }
func (empty) Decode(src []byte, _ *struct{}) ([]byte, error) { return src, nil }
func (empty) Signature() string                              { return "none" }
func (empty) reading(was string) (Codec[struct{}], bool)     { return empty{}, was == "none" }
