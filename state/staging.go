package state

import (
	"cmp"
	"encoding/binary"
	"slices"
	"sync"
	"unsafe"
)

// pageRef says where copied pages of one group of one table lie in a staging's chunks.
type pageRef struct {
	start   int64
	group   int32 // counted from 0, not from the first one owned
	chunk   int32
	off     int  // entries or bytes of the chunk
	n       int  // entries or bytes
	entries int  // encoded: number of entries
	zero    bool // entries of the zero key: none of them is an empty slot
}

// staging holds the copies of one capture of one family: pages as they were, or encoded entries. The task fills it; then
// it belongs to a Snapshot, which another goroutine reads; release gives its memory back to the family's pool.
type staging[K comparable, V any] struct {
	fam   *family[K, V]
	refs  []pageRef
	pages [][]entry[K, V]
	bytes [][]byte
	err   error // first failure to encode
}

const (
	chunkBytes = 64 << 10
	chunkSlack = 4 << 10 // an encoded chunk with less room than this is full
	maxChunk   = 1 << 20 // larger ones aren't kept
)

// add copies a page, or encodes its entries, and returns what it cost in bytes.
func (s *staging[K, V]) add(f *family[K, V], start int64, g int, page []entry[K, V], zero bool) int {
	if len(page) == 0 {
		return 0
	}
	ref := pageRef{start: start, group: int32(g + f.first), zero: zero}
	if f.flat {
		s.addPages(f, ref, page)
		return len(page) * int(unsafe.Sizeof(page[0]))
	}
	cost := 0
	for i := range page {
		if cost++; zero || page[i].key != f.none[0].key {
			cost += s.addEncoded(f, ref, &page[i])
		}
	}
	return cost
}

func (s *staging[K, V]) addPages(f *family[K, V], ref pageRef, page []entry[K, V]) {
	last := len(s.pages) - 1
	if last < 0 || cap(s.pages[last])-len(s.pages[last]) < len(page) {
		s.pages = append(s.pages, f.pool.pageChunk(len(page)))
		last++
	}
	ref.chunk, ref.off, ref.n = int32(last), len(s.pages[last]), len(page)
	s.pages[last] = append(s.pages[last], page...)
	s.addRef(ref)
}

func (s *staging[K, V]) addEncoded(f *family[K, V], ref pageRef, e *entry[K, V]) int {
	last := len(s.bytes) - 1
	if last < 0 || cap(s.bytes[last])-len(s.bytes[last]) < chunkSlack {
		s.bytes = append(s.bytes, f.pool.byteChunk())
		last++
	}
	before := len(s.bytes[last])
	after, err := f.appendEntry(s.bytes[last], e)
	if err != nil {
		s.err = cmp.Or(s.err, err)
		return 0
	}
	s.bytes[last] = after
	ref.chunk, ref.off, ref.n, ref.entries = int32(last), before, len(after)-before, 1
	s.addRef(ref)
	return ref.n
}

// addRef appends a ref, or lengthens the last one if the new one follows it.
func (s *staging[K, V]) addRef(r pageRef) {
	if len(s.refs) > 0 {
		if l := &s.refs[len(s.refs)-1]; l.group == r.group && l.start == r.start && l.chunk == r.chunk && l.zero == r.zero {
			l.n += r.n
			l.entries += r.entries
			return
		}
	}
	s.refs = append(s.refs, r)
}

func (s *staging[K, V]) describe() (name string, k kind, sig string) {
	return s.fam.name, s.fam.kind, s.fam.signature()
}

// write writes one section per group that has entries.
func (s *staging[K, V]) write(w *fileWriter) error {
	if s.err != nil {
		return s.err
	}
	slices.SortFunc(s.refs, func(a, b pageRef) int {
		return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.start, b.start))
	})
	for i := 0; i < len(s.refs); {
		group, count := s.refs[i].group, 0
		w.buf = w.buf[:0]
		for i < len(s.refs) && s.refs[i].group == group {
			n, next, err := s.appendRun(w, i)
			if err != nil {
				return err
			}
			count, i = count+n, next
		}
		if err := w.section(int(group), count); err != nil {
			return err
		}
	}
	return nil
}

// appendRun appends all entries of one group and start from ref i on.
func (s *staging[K, V]) appendRun(w *fileWriter, i int) (n, next int, err error) {
	first, head := s.refs[i], len(w.buf)
	w.buf = binary.LittleEndian.AppendUint64(w.buf, uint64(first.start))
	w.buf = binary.LittleEndian.AppendUint32(w.buf, 0)
	for ; i < len(s.refs) && s.refs[i].group == first.group && s.refs[i].start == first.start; i++ {
		r := &s.refs[i]
		if !s.fam.flat {
			w.buf = append(w.buf, s.bytes[r.chunk][r.off:r.off+r.n]...)
			n += r.entries
			continue
		}
		page := s.pages[r.chunk][r.off : r.off+r.n]
		for j := range page {
			if e := &page[j]; r.zero || e.key != s.fam.none[0].key {
				if w.buf, err = s.fam.appendEntry(w.buf, e); err != nil {
					return 0, 0, err
				}
				n++
			}
		}
	}
	if n == 0 {
		w.buf = w.buf[:head]
		return 0, i, nil
	}
	binary.LittleEndian.PutUint32(w.buf[head+8:], uint32(n))
	return n, i, nil
}

// cutRun reads the head of a run: the pane's start and the number of entries that follow.
func cutRun(src []byte) (start int64, n int, rest []byte, err error) {
	if len(src) < 12 {
		return 0, 0, nil, errShort
	}
	start = int64(binary.LittleEndian.Uint64(src))
	u := binary.LittleEndian.Uint32(src[8:])
	if rest = src[12:]; uint64(u) > uint64(len(rest))+1 {
		return 0, 0, nil, errLength
	}
	return start, int(u), rest, nil
}

func (s *staging[K, V]) behind() bool   { return false }
func (s *staging[K, V]) failure() error { return s.err }

func (s *staging[K, V]) release() { s.fam.pool.release(s) }

// pool keeps the memory of captures for the next one. The lock is there because the goroutine that wrote a snapshot
// gives back while the task takes.
type pool[K comparable, V any] struct {
	mu    sync.Mutex
	idle  []*staging[K, V]
	pages [][]entry[K, V]
	bytes [][]byte
}

func (p *pool[K, V]) staging(f *family[K, V]) *staging[K, V] {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s, ok := popLast(&p.idle); ok {
		return s
	}
	return &staging[K, V]{fam: f}
}

func (p *pool[K, V]) pageChunk(n int) []entry[K, V] {
	var e entry[K, V]
	p.mu.Lock()
	c, ok := popLast(&p.pages)
	p.mu.Unlock()
	if ok && cap(c) >= n {
		return c
	}
	return make([]entry[K, V], 0, max(n, chunkBytes/max(1, int(unsafe.Sizeof(e)))))
}

func (p *pool[K, V]) byteChunk() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := popLast(&p.bytes); ok {
		return c
	}
	return make([]byte, 0, chunkBytes)
}

func (p *pool[K, V]) release(s *staging[K, V]) {
	for i, c := range s.pages {
		clear(c) // lets go of the strings
		s.pages[i] = c[:0]
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pages = append(p.pages, s.pages...)
	for _, c := range s.bytes {
		if cap(c) <= maxChunk {
			p.bytes = append(p.bytes, c[:0])
		}
	}
	clear(s.pages)
	clear(s.bytes)
	s.refs, s.pages, s.bytes, s.err = s.refs[:0], s.pages[:0], s.bytes[:0], nil
	p.idle = append(p.idle, s)
}

func popLast[T any](list *[]T) (v T, ok bool) {
	last := len(*list) - 1
	if last < 0 {
		return v, false
	}
	v = (*list)[last]
	clear((*list)[last:])
	*list = (*list)[:last]
	return v, true
}
