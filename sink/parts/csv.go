package parts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// CSV is comma separated values with the quoting of encoding/csv: a line for each record, its end a line feed.
//
//	parts.CSV[Order]{
//		Header: []string{"id", "total"},
//		Row: func(r *parts.Row, o Order) error {
//			r.Int(o.ID)
//			r.Float(o.Total)
//			return nil
//		},
//	}
//
// A record is [Bad] if Row returns an error, or not as many fields as Header has, or, without one, as the file's first record.
type CSV[T any] struct {
	Header []string // the first line of each file. Unset: none
	Comma  byte     // between fields. Unset: ','

	// Row adds the fields of a record to r, which it must not keep. Needed.
	Row func(r *Row, v T) error
}

var _ Joiner = CSV[string]{}

// Encoder makes one, or says what is wrong with the settings.
func (c CSV[T]) Encoder() (Encoder[T], error) {
	if c.Comma == 0 {
		c.Comma = ','
	}
	switch {
	case c.Row == nil:
		return nil, errors.New("CSV: Row is missing")
	case c.Comma == '"' || c.Comma == '\n' || c.Comma == '\r' || c.Comma >= utf8.RuneSelf:
		return nil, fmt.Errorf("CSV: Comma can't be %q", c.Comma)
	}
	return &csvEncoder[T]{row: c.Row, header: c.head(), comma: c.Comma, want: len(c.Header)}, nil
}

// Ext is ".csv".
func (CSV[T]) Ext() string { return ".csv" }

// Join puts files behind one another, with the first one's header.
func (c CSV[T]) Join(w io.Writer, files []*io.SectionReader) error {
	if c.Comma == 0 {
		c.Comma = ','
	}
	head := c.head()
	have := make([]byte, len(head))
	for i, f := range files {
		if i > 0 {
			if n, err := io.ReadFull(f, have); err != nil || !bytes.Equal(have, head) {
				return errors.Join(fmt.Errorf("join CSV: file %d of %d begins with %q, not with the header %q", i+1, len(files), have[:n], head), err)
			}
		}
		if _, err := io.Copy(w, f); err != nil {
			return err
		}
	}
	return nil
}

// head is the line of the header, without one nothing.
func (c CSV[T]) head() []byte {
	if len(c.Header) == 0 {
		return nil
	}
	r := Row{comma: c.Comma}
	for _, h := range c.Header {
		r.Text(h)
	}
	r.end()
	return r.b
}

type csvEncoder[T any] struct {
	buffer
	row    func(r *Row, v T) error
	header []byte
	comma  byte
	want   int // fields; 0 before the first record of a file without a header
	r      Row
}

func (e *csvEncoder[T]) Begin(w io.Writer) error {
	if len(e.header) == 0 {
		e.want = 0
	}
	e.b = append(e.b[:0], e.header...)
	e.w, e.sent = w, 0
	return nil
}

func (e *csvEncoder[T]) Append(v T) error {
	from := len(e.b)
	e.r = Row{b: e.b, comma: e.comma}
	err := e.row(&e.r, v)
	if e.want == 0 && err == nil {
		e.want = e.r.n
	}
	switch {
	case err != nil:
	case e.r.n == 0:
		err = errors.New("it has no fields")
	case e.r.n != e.want:
		err = fmt.Errorf("it has %d fields, want %d", e.r.n, e.want)
	}
	if err != nil {
		e.b = e.r.b[:from]
		return Bad(fmt.Errorf("encode record as CSV: %w", err))
	}
	e.r.end()
	e.b = e.r.b
	return e.spill()
}

// Row is a line of a [CSV] file. Each method adds a field.
type Row struct {
	b     []byte
	n     int  // fields
	bare  bool // a line of one empty field, which readers would skip
	comma byte
}

// Text adds a text.
func (r *Row) Text(s string) {
	r.next()
	if !r.quotes(s) {
		r.b = append(r.b, s...)
		r.bare = r.n == 1 && s == ""
		return
	}
	r.b = append(r.b, '"')
	for {
		i := strings.IndexByte(s, '"')
		if i < 0 {
			break
		}
		r.b = append(append(r.b, s[:i]...), `""`...)
		s = s[i+1:]
	}
	r.b = append(append(r.b, s...), '"')
}

// Int adds a whole number.
func (r *Row) Int(n int64) {
	r.next()
	r.b = strconv.AppendInt(r.b, n, 10)
}

// Uint adds a whole number that isn't negative.
func (r *Row) Uint(n uint64) {
	r.next()
	r.b = strconv.AppendUint(r.b, n, 10)
}

// Float adds a number, in as few digits as tell it from all others.
func (r *Row) Float(f float64) {
	r.next()
	r.b = strconv.AppendFloat(r.b, f, 'g', -1, 64)
}

// Bool adds true or false.
func (r *Row) Bool(v bool) {
	r.next()
	r.b = strconv.AppendBool(r.b, v)
}

func (r *Row) next() {
	if r.n > 0 {
		r.b = append(r.b, r.comma)
	}
	r.n++
	r.bare = false
}

func (r *Row) end() {
	if r.bare {
		r.b = append(r.b, `""`...)
	}
	r.b = append(r.b, '\n')
}

// quotes says whether a field needs them, as encoding/csv has it.
func (r *Row) quotes(s string) bool {
	switch s {
	case "":
		return false
	case `\.`:
		return true // ends the input of some databases
	}
	for i := range len(s) {
		if c := s[i]; c == r.comma || c == '"' || c == '\n' || c == '\r' {
			return true
		}
	}
	first, _ := utf8.DecodeRuneInString(s)
	return unicode.IsSpace(first)
}
