package state

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"runtime"

	"github.com/cespare/xxhash/v2"

	"github.com/weirline/weirline/internal/fault"
)

// A file of keyed state, all numbers little-endian:
//
//	header   magic (8), version (4), zero (4)
//	section  per state and key group, as many as there are: runs of {start (8), count (4), entries {key, value}}
//	index    uvarints and strings: groups, first, last+1; per state name, kind, signature, and per section
//	         group, offset, length, count, checksum (8)
//	footer   offset of the index (8), its length (8), checksum of header, index and those two (8), magic (8)
const (
	fileMagic   = "WLSTATE\n"
	footMagic   = "\nWLSTEND"
	fileVersion = 1
	headerSize  = 16
	footerSize  = 32
)

// kind is the kind of a declared state; part of the format.
type kind byte

const (
	kindValue kind = iota + 1
	kindMap
	kindList
	kindPanes
	kindTimers
	kindReducing
	kindAggregating
)

func (k kind) String() string {
	names := [...]string{"?", "value", "map", "list", "panes", "timers", "reducing", "aggregating"}
	if int(k) >= len(names) {
		k = 0
	}
	return names[k]
}

// part is the captured content of one declared state, without its types.
type part interface {
	describe() (name string, k kind, sig string)
	write(w *fileWriter) error
	release()
	behind() bool   // it's on a disk
	failure() error // of collecting it
}

// fileWriter writes a file front to back.
type fileWriter struct {
	w        io.Writer
	at       int64
	buf      []byte // the section being made
	index    []byte
	sections []byte // index entries of the state being written
	count    int    // of them
	view     View   // of the disk, if there is one
}

func header() []byte {
	h := binary.LittleEndian.AppendUint32([]byte(fileMagic), fileVersion)
	return append(h, 0, 0, 0, 0)
}

func (w *fileWriter) write(b []byte) error {
	n, err := w.w.Write(b)
	w.at += int64(n)
	return err
}

// section writes buf as the section of a group.
func (w *fileWriter) section(group, count int) error {
	if count == 0 {
		return nil
	}
	w.sections = appendNumbers(w.sections, group, int(w.at), len(w.buf), count)
	w.sections = binary.LittleEndian.AppendUint64(w.sections, xxhash.Sum64(w.buf))
	w.count++
	err := w.write(w.buf)
	runtime.Gosched() // a task that waits for the processor isn't held up by a whole file
	return err
}

// part writes one state's sections and notes them in the index.
func (w *fileWriter) part(p part) error {
	name, k, sig := p.describe()
	w.sections, w.count = w.sections[:0], 0
	if err := p.write(w); err != nil {
		return fmt.Errorf("write state %q: %w", name, err)
	}
	w.index = append(appendString(w.index, name), byte(k))
	w.index = binary.AppendUvarint(appendString(w.index, sig), uint64(w.count))
	w.index = append(w.index, w.sections...)
	return nil
}

// finish writes index and footer.
func (w *fileWriter) finish() error {
	foot := binary.LittleEndian.AppendUint64(nil, uint64(w.at))
	foot = binary.LittleEndian.AppendUint64(foot, uint64(len(w.index)))
	foot = binary.LittleEndian.AppendUint64(foot, indexSum(header(), w.index, foot))
	if err := w.write(w.index); err != nil {
		return err
	}
	return w.write(append(foot, footMagic...))
}

func indexSum(parts ...[]byte) uint64 {
	var d xxhash.Digest
	d.Reset()
	for _, p := range parts {
		_, _ = d.Write(p) // never fails
	}
	return d.Sum64()
}

func appendNumbers(dst []byte, ns ...int) []byte {
	for _, n := range ns {
		dst = binary.AppendUvarint(dst, uint64(n))
	}
	return dst
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// section is one group of one state as found in a file.
type section struct {
	name   string
	kind   kind
	sig    string
	state  int // its number in the file
	groups int // of the job
	group  int
	off    int64
	size   int
	count  int
	sum    uint64
	data   []byte
	spool  uint32 // where it waits on the disk
}

// fileIndex is what the index of a file says.
type fileIndex struct {
	groups   int
	first    int // of the task that wrote it
	last     int
	states   []section // name, kind and signature of each, in order
	names    []string
	sections []section
}

func damaged(format string, args ...any) error {
	return fault.New(fault.DamagedEpoch, "state file: "+format, args...)
}

// readIndex reads and checks header, footer and index.
func readIndex(r io.ReaderAt, size int64) (*fileIndex, error) {
	if size < headerSize+footerSize {
		return nil, damaged("%d bytes are too few, it's truncated", size)
	}
	head, foot := make([]byte, headerSize), make([]byte, footerSize)
	if err := readAt(r, head, 0); err != nil {
		return nil, err
	}
	if string(head[:8]) != fileMagic {
		return nil, damaged("it doesn't begin like one")
	}
	if v := binary.LittleEndian.Uint32(head[8:]); v != fileVersion {
		if v < fileVersion {
			return nil, damaged("version %d never existed", v)
		}
		return nil, fault.New(fault.NewerFormat, "state file has version %d; this binary reads up to %d", v, fileVersion)
	}
	if err := readAt(r, foot, size-footerSize); err != nil {
		return nil, err
	}
	off, n := binary.LittleEndian.Uint64(foot), binary.LittleEndian.Uint64(foot[8:])
	if string(foot[24:]) != footMagic || off < headerSize || off > uint64(size) || n != uint64(size)-footerSize-off {
		return nil, damaged("it doesn't end like one, it's truncated or overwritten")
	}
	index := make([]byte, n)
	if err := readAt(r, index, int64(off)); err != nil {
		return nil, err
	}
	if indexSum(head, index, foot[:16]) != binary.LittleEndian.Uint64(foot[16:]) {
		return nil, damaged("the index has a bad checksum")
	}
	return parseIndex(index, off)
}

func readAt(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	return fault.Wrap(fault.DamagedEpoch, err, "read state file at %d", off)
}

// indexReader reads the parts of an index; after the first failure all is zero and bad is set.
type indexReader struct {
	src []byte
	bad bool
}

func (r *indexReader) number(limit uint64) int {
	u, w := binary.Uvarint(r.src)
	if w <= 0 || u > limit {
		r.bad, r.src = true, nil
		return 0
	}
	r.src = r.src[w:]
	return int(u)
}

func (r *indexReader) text() string {
	b, rest, err := cutBytes(r.src)
	r.src = rest
	r.bad = r.bad || err != nil
	return string(b)
}

func (r *indexReader) fixed(n int) []byte {
	if len(r.src) < n {
		r.bad, r.src = true, nil
		return make([]byte, n)
	}
	b := r.src[:n]
	r.src = r.src[n:]
	return b
}

// parseIndex reads an index whose sections lie before end.
func parseIndex(index []byte, end uint64) (*fileIndex, error) {
	r := indexReader{src: index}
	f := &fileIndex{groups: r.number(math.MaxInt32)}
	f.first = r.number(math.MaxInt32)
	f.last = r.number(math.MaxInt32) - 1
	for len(r.src) > 0 && !r.bad {
		s := section{name: r.text(), kind: kind(r.fixed(1)[0]), sig: r.text(), groups: f.groups}
		s.state = len(f.states)
		f.names, f.states = append(f.names, s.name), append(f.states, s)
		for range r.number(uint64(len(r.src))) {
			s.group = r.number(uint64(max(0, f.groups-1)))
			s.off = int64(r.number(end))
			s.size = r.number(end - uint64(s.off))
			s.count = r.number(uint64(s.size))
			s.sum = binary.LittleEndian.Uint64(r.fixed(8))
			f.sections = append(f.sections, s)
		}
	}
	if r.bad {
		return nil, damaged("the index can't be read")
	}
	return f, nil
}
