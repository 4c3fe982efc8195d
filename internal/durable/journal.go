package durable

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// journalFormat is the version in the first line of a journal.
const journalFormat = 1

// Journal is an append-only file of lines "length checksum text". The first line says what the file is and is written
// together with the file; each later one is one append, so a crash can tear only the last one. The fields are set before
// the first call; calls follow one another, which the owner sees to.
//
// After an error nothing is known of the file's end, and a repeated fsync may lie. So the next append writes a whole new
// file from memory and renames it.
type Journal struct {
	FS   FS
	Path string
	Kind string // what is in the lines; a file of another kind is refused
	Job  string // whose it is

	f File // nil: write a new file before anything else
}

// lineHead is the length of "xxxxxxxx xxxxxxxxxxxxxxxx ".
const lineHead = 8 + 1 + 16 + 1

func appendLine(b []byte, text string) []byte {
	b = fmt.Appendf(b, "%08x %016x %s", len(text), xxhash.Sum64String(text), text)
	return append(b, '\n')
}

func (j *Journal) header() string {
	return fmt.Sprintf("weirline %s %d %s", j.Kind, journalFormat, strconv.QuoteToASCII(j.Job))
}

// Append adds a durable line. All gives the lines acknowledged before, in case the file must be written anew.
func (j *Journal) Append(text string, all func() []string) error {
	if j.f == nil {
		if err := j.Rewrite(append(all(), text)); err != nil {
			return err
		}
		return j.Settle()
	}
	_, err := j.f.Write(appendLine(nil, text))
	if err == nil {
		err = j.f.Sync()
	}
	if err != nil {
		_ = j.Close() // the append's error is the one that counts
	}
	return err
}

// Rewrite puts a file with these lines in the place of the old one. Settle makes it durable; until then, and after an
// error, appends write the file anew.
func (j *Journal) Rewrite(lines []string) error {
	_ = j.Close() // it is replaced, whatever state it is in
	b := appendLine(nil, j.header())
	for _, l := range lines {
		b = appendLine(b, l)
	}
	return Replace(j.FS, j.Path, b)
}

// Settle makes a rewrite durable and goes over to appending. A file that can't be opened is written anew next time.
func (j *Journal) Settle() error {
	if err := j.FS.SyncDir(filepath.Dir(j.Path)); err != nil {
		return err
	}
	if f, err := j.FS.Append(j.Path); err == nil {
		j.f = f
	}
	return nil
}

// Close closes the file; an append opens it again.
func (j *Journal) Close() error {
	f := j.f
	j.f = nil
	if f == nil {
		return nil
	}
	return f.Close()
}

// Content is what a file was found to have.
type Content struct {
	Job   string
	Lines []string // whole ones, without the first
	Torn  bool     // the last append was cut off by a crash
}

// Read reads the file that is there. With an error that is ErrDamaged the lines that are whole are returned as well.
func (j *Journal) Read() (Content, error) {
	data, err := ReadFile(j.FS, j.Path)
	if err != nil {
		return Content{}, err
	}
	return ParseJournal(j.Kind, data)
}

// ParseJournal is Read for a file's content.
func ParseJournal(kind string, data []byte) (Content, error) {
	var c Content
	var damage error
	for at := 0; at < len(data); {
		text, n := parseLine(data[at:])
		switch {
		case n > 0:
			c.Lines = append(c.Lines, text)
			at += n
		case at > 0 && isTorn(data[at:]):
			c.Torn = true
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
	if len(c.Lines) == 0 {
		return c, fmt.Errorf("%w: no first line", ErrDamaged)
	}
	job, err := parseHeader(kind, c.Lines[0])
	if err != nil {
		return c, err
	}
	c.Job = job
	c.Lines = c.Lines[1:]
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
