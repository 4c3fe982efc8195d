package parts

import (
	"fmt"
	"io"
)

// Text is whatever Encode makes of each record, one after another.
type Text[T any] struct {
	// Encode appends a record, its line end too, to dst. Unset: text and bytes as they are, other types as fmt prints them,
	// each followed by a line feed.
	Encode func(dst []byte, v T) []byte
}

var _ Joiner = Text[string]{}

// Encoder makes one. There is nothing to be wrong.
func (t Text[T]) Encoder() (Encoder[T], error) {
	if t.Encode == nil {
		t.Encode = line[T]()
	}
	return &textEncoder[T]{encode: t.Encode}, nil
}

// Ext is "".
func (Text[T]) Ext() string { return "" }

// Join puts files behind one another.
func (Text[T]) Join(w io.Writer, files []*io.SectionReader) error { return concat(w, files) }

type textEncoder[T any] struct {
	buffer
	encode func(dst []byte, v T) []byte
}

func (e *textEncoder[T]) Append(v T) error {
	e.b = e.encode(e.b, v)
	return e.spill()
}

// line is the default of Encode.
func line[T any]() func([]byte, T) []byte {
	var f any = func(dst []byte, v T) []byte { return fmt.Appendln(dst, v) }
	switch any(*new(T)).(type) {
	case string:
		f = func(dst []byte, v string) []byte { return append(append(dst, v...), '\n') }
	case []byte:
		f = func(dst, v []byte) []byte { return append(append(dst, v...), '\n') }
	}
	return f.(func([]byte, T) []byte)
}
