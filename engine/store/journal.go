package store

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// journalFormat is the version in the first line of grants and commits.
const journalFormat = 1

// A journal is an append-only file of lines "length checksum text". The first line says what the file is and is written
// together with the file; each later one is one append, so a crash can tear only the last one.
//
// After an error nothing is known of the file's end, and a repeated fsync may lie. So the next append writes a whole new
// file from memory and renames it.
type journal struct {
	fs   FS
	path string
	kind string
	job  string

	mu sync.Mutex // serialises writes; held over I/O, because their order is what it guards
	f  OpenFile   // nil: write a new file before anything else
}

// lineHead is the length of "xxxxxxxx xxxxxxxxxxxxxxxx ".
const lineHead = 8 + 1 + 16 + 1

func appendLine(b []byte, text string) []byte {
	b = fmt.Appendf(b, "%08x %016x %s", len(text), xxhash.Sum64String(text), text)
	return append(b, '\n')
}

func (j *journal) header() string {
	return fmt.Sprintf("weirline %s %d %s", j.kind, journalFormat, strconv.QuoteToASCII(j.job))
}

// append adds a durable line. All gives the lines acknowledged before, in case the file must be written anew.
func (j *journal) append(text string, all func() []string) error {
	if j.f == nil {
		if err := j.rewrite(append(all(), text)); err != nil {
			return err
		}
		return j.settle()
	}
	_, err := j.f.Write(appendLine(nil, text))
	if err == nil {
		err = j.f.Sync()
	}
	if err != nil {
		_ = j.close() // the append's error is the one that counts
	}
	return err
}

// rewrite puts a file with these lines in the place of the old one. Settle makes it durable; until then, and after an
// error, appends write the file anew.
func (j *journal) rewrite(lines []string) error {
	_ = j.close() // it is replaced, whatever state it is in
	b := appendLine(nil, j.header())
	for _, l := range lines {
		b = appendLine(b, l)
	}
	return replace(j.fs, j.path, b)
}

// settle makes a rewrite durable and goes over to appending. A file that can't be opened is written anew next time.
func (j *journal) settle() error {
	if err := j.fs.SyncDir(filepath.Dir(j.path)); err != nil {
		return err
	}
	if f, err := j.fs.Append(j.path); err == nil {
		j.f = f
	}
	return nil
}

func (j *journal) close() error {
	f := j.f
	j.f = nil
	if f == nil {
		return nil
	}
	return f.Close()
}

// journalContent is what a file was found to have.
type journalContent struct {
	job   string
	lines []string // whole ones, without the first
	torn  bool     // the last append was cut off by a crash
}

// parseJournal reads a whole file. With an error that is ErrDamaged the lines that are whole are returned as well.
func parseJournal(kind string, data []byte) (journalContent, error) {
	var c journalContent
	var damage error
	for at := 0; at < len(data); {
		text, n := parseLine(data[at:])
		switch {
		case n > 0:
			c.lines = append(c.lines, text)
			at += n
		case at > 0 && isTorn(data[at:]):
			c.torn = true
			at = len(data)
		default:
			if damage == nil {
				damage = fmt.Errorf("%w: line at byte %d", ErrDamaged, at)
			}
			end := bytes.IndexByte(data[at:], '\n')
			if end < 0 {
				end = len(data) - at - 1
			}
			at += end + 1
		}
	}
	if len(c.lines) == 0 {
		return c, fmt.Errorf("%w: no first line", ErrDamaged)
	}
	job, err := parseHeader(kind, c.lines[0])
	if err != nil {
		return c, err
	}
	c.job = job
	c.lines = c.lines[1:]
	return c, damage
}

// parseLine returns a whole line's text and the line's length in bytes; 0 if it isn't whole.
func parseLine(b []byte) (string, int) {
	size, sum, ok := parseLineHead(b)
	if !ok || size > uint64(len(b)) || lineHead+size+1 > uint64(len(b)) {
		return "", 0
	}
	text := b[lineHead : lineHead+size]
	if b[lineHead+size] != '\n' || xxhash.Sum64(text) != sum {
		return "", 0
	}
	return string(text), int(lineHead + size + 1)
}

func parseLineHead(b []byte) (size, sum uint64, ok bool) {
	if len(b) < lineHead || b[8] != ' ' || b[lineHead-1] != ' ' {
		return 0, 0, false
	}
	size, err := strconv.ParseUint(string(b[:8]), 16, 32)
	if err != nil {
		return 0, 0, false
	}
	sum, err = strconv.ParseUint(string(b[9:lineHead-1]), 16, 64)
	return size, sum, err == nil
}

// isTorn tells a write that a crash cut short from damage. A torn line is the last one and lacks its end, or has zeros
// where blocks never reached the disk (no line contains zeros).
func isTorn(rest []byte) bool {
	if i := bytes.IndexByte(rest, '\n'); i >= 0 && i < len(rest)-1 {
		return false
	}
	if bytes.IndexByte(rest, 0) >= 0 {
		return true
	}
	if rest[len(rest)-1] == '\n' {
		return false
	}
	size, _, ok := parseLineHead(rest)
	if !ok {
		return len(rest) < lineHead
	}
	return uint64(len(rest)) < lineHead+size+1
}

func parseHeader(kind, text string) (job string, err error) {
	rest, ok := strings.CutPrefix(text, "weirline "+kind+" ")
	version, quoted, ok2 := strings.Cut(rest, " ")
	v, err := strconv.ParseUint(version, 10, 32)
	if !ok || !ok2 || err != nil {
		return "", fmt.Errorf("%w: first line %q", ErrDamaged, text)
	}
	if v > journalFormat {
		return "", &NewerError{has: uint32(v), knows: journalFormat}
	}
	if job, err = strconv.Unquote(quoted); err != nil {
		return "", fmt.Errorf("%w: first line %q", ErrDamaged, text)
	}
	return job, nil
}
