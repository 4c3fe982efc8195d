package embedded

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// The append-only log is a sequence of entries, each: length of the body (4 bytes, big endian), CRC-32C of the body
// (4 bytes), body. A body is a list of unsigned varints and of strings with their length in front:
// time, seed, database, number of commands, and per command the number of words and the words.
const aofHeader = 8

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// entry is one atomic step of the log: a write command, or the commands of a transaction.
type entry struct {
	at   int64 // logical time, microseconds since 1970
	seed uint64
	db   int
	cmds [][]string
}

func (e entry) encode() []byte {
	b := make([]byte, aofHeader, 256)
	b = binary.AppendUvarint(b, uint64(e.at))
	b = binary.AppendUvarint(b, e.seed)
	b = binary.AppendUvarint(b, uint64(e.db))
	b = binary.AppendUvarint(b, uint64(len(e.cmds)))
	for _, cmd := range e.cmds {
		b = binary.AppendUvarint(b, uint64(len(cmd)))
		for _, word := range cmd {
			b = binary.AppendUvarint(b, uint64(len(word)))
			b = append(b, word...)
		}
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-aofHeader))
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[aofHeader:], crcTable))
	return b
}

var errBody = errors.New("malformed entry")

// bodyReader takes an entry's body apart. The first thing that doesn't fit makes bad true and all later answers zero.
type bodyReader struct {
	b   []byte
	bad bool
}

func (r *bodyReader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count is a number of things that take at least a byte each.
func (r *bodyReader) count() int {
	v := r.uint()
	if v > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return 0
	}
	return int(v)
}

func (r *bodyReader) word() string {
	n := r.count()
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func decodeEntry(body []byte) (entry, error) {
	r := &bodyReader{b: body}
	e := entry{at: int64(r.uint()), seed: r.uint(), db: int(r.uint())}
	e.cmds = make([][]string, r.count())
	for i := range e.cmds {
		e.cmds[i] = make([]string, r.count())
		for j := range e.cmds[i] {
			e.cmds[i][j] = r.word()
		}
		r.bad = r.bad || len(e.cmds[i]) == 0
	}
	if r.bad || len(r.b) > 0 {
		return entry{}, errBody
	}
	return e, nil
}

// readLog calls apply for every entry of the file, in order, and returns how many bytes at the end are no whole entry:
// what a crash leaves of a write. Damage anywhere else is an error. A missing file is an empty one.
func readLog(path string, apply func(entry) error) (torn int64, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	r := bufio.NewReaderSize(f, 1<<20)
	for pos, size := int64(0), info.Size(); pos < size; {
		var head [aofHeader]byte
		if size-pos < aofHeader {
			return size - pos, nil
		}
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return 0, err
		}
		n := int64(binary.BigEndian.Uint32(head[:4]))
		if n > size-pos-aofHeader {
			return size - pos, nil
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(r, body); err != nil {
			return 0, err
		}
		next := pos + aofHeader + n
		e, err := decodeEntry(body)
		if crc32.Checksum(body, crcTable) != binary.BigEndian.Uint32(head[4:]) {
			if next == size {
				return size - pos, nil
			}
			err = errors.New("checksum doesn't match")
		}
		if err == nil {
			err = apply(e)
		}
		if err != nil {
			return 0, fmt.Errorf("read entry at byte %d of %s: %w; move the file away to start empty", pos, path, err)
		}
		pos = next
	}
	return 0, nil
}
