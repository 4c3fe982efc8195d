package files

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Line is a line of a file, without its end, lent to Decode for the length of the call.
type Line struct {
	b        *block
	from, to int
}

// block is a piece of a file that lines are cut from.
type block struct {
	path string
	base int64 // offset in the file of data[0]
	data []byte
	text string // data as a string, made when it is first asked for
}

// Bytes is the line. It may be kept only as a value of type []byte, which the source declares as borrowed; anything else
// must be copied out of it. It must not be changed.
func (l Line) Bytes() []byte { return l.b.data[l.from:l.to:l.to] }

// Text is the line as a part of a string that all lines of a block share. It may be kept.
func (l Line) Text() string {
	if l.b.text == "" {
		l.b.text = string(l.b.data)
	}
	return l.b.text[l.from:l.to]
}

// Path is the file the line is in.
func (l Line) Path() string { return l.b.path }

// Offset is where in the uncompressed file the line starts.
func (l Line) Offset() int64 { return l.b.base + int64(l.from) }

// Text is a Decode that takes lines as they are.
func Text(l Line) (string, error) { return l.Text(), nil }

// Bytes is a Decode that takes lines as they are and copies nothing. The values are borrowed: they can be used up to the
// first operator that keeps or exchanges them.
func Bytes(l Line) ([]byte, error) { return l.Bytes(), nil }

// JSON is a Decode for lines that are JSON values. Fields that T doesn't have are ignored; an empty line is an error.
func JSON[T any](l Line) (T, error) {
	var v T
	if len(bytes.TrimSpace(l.Bytes())) == 0 {
		return v, fmt.Errorf("decode JSON: the line is empty")
	}
	if err := json.Unmarshal(l.Bytes(), &v); err != nil {
		return v, fmt.Errorf("decode JSON: %w", err)
	}
	return v, nil
}
