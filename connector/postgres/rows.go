package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// copyHeader begins a COPY in the binary form: the signature, no flags, no extension.
const copyHeader = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"

// rows are the encoded rows of a batch, in the binary form of COPY: the number of fields, then for each its length, -1 for
// NULL, and its bytes.
type rows struct {
	types *pgtype.Map
	cols  []column
	buf   []byte // the header, then the rows
	ends  []int  // of each row, in buf
	index []int  // of each row, in the batch
	count bool   // a number follows each row's values
	next  int64  // that number
}

func (r *rows) reset() {
	r.buf = append(r.buf[:0], copyHeader...)
	r.ends, r.index = r.ends[:0], r.index[:0]
}

func (r *rows) len() int { return len(r.ends) }

// span is rows lo up to hi, without the header.
func (r *rows) span(lo, hi int) []byte {
	start := len(copyHeader)
	if lo > 0 {
		start = r.ends[lo-1]
	}
	return r.buf[start:r.ends[hi-1]]
}

var errNullKey = errors.New("it may not be NULL, as it is one of Keys")

// add encodes the row of the batch's record i. After an error nothing of it is left.
func (r *rows) add(i int, values []any) error {
	if len(values) != len(r.cols) {
		return fmt.Errorf("row has %d values for %d columns", len(values), len(r.cols))
	}
	start := len(r.buf)
	n := len(values)
	if r.count {
		n++
	}
	r.buf = binary.BigEndian.AppendUint16(r.buf, uint16(n))
	for c, v := range values {
		field := appendField
		if r.cols[c].text {
			field = appendTextField
		}
		buf, err := field(r.types, r.buf, r.cols[c].oid, v)
		if err == nil && r.cols[c].key && buf[len(r.buf)] == 0xff {
			err = errNullKey
		}
		if err != nil {
			r.buf = r.buf[:start]
			return fmt.Errorf("value of column %s: %w", r.cols[c].name, err)
		}
		r.buf = buf
	}
	if r.count {
		r.buf = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(r.buf, 8), uint64(r.next))
		r.next++
	}
	r.ends, r.index = append(r.ends, len(r.buf)), append(r.index, i)
	return nil
}

// appendField appends length and bytes of one value.
func appendField(types *pgtype.Map, dst []byte, oid uint32, v any) ([]byte, error) {
	at := len(dst)
	dst = append(dst, 0xff, 0xff, 0xff, 0xff) // -1
	buf, err := types.Encode(oid, pgx.BinaryFormatCode, v, dst)
	if err != nil {
		var terr error
		if buf, terr = appendText(types, dst, oid, v); terr != nil {
			return nil, err
		}
	}
	if buf == nil {
		return dst, nil
	}
	binary.BigEndian.PutUint32(buf[at:], uint32(len(buf)-at-4))
	return buf, nil
}

// appendTextField appends length and bytes of a value's text.
func appendTextField(types *pgtype.Map, dst []byte, oid uint32, v any) ([]byte, error) {
	at := len(dst)
	dst = append(dst, 0xff, 0xff, 0xff, 0xff) // -1
	text, ok := v.(string)
	buf := append(dst, text...)
	if !ok {
		var err error
		if buf, err = types.Encode(oid, pgx.TextFormatCode, v, dst); err != nil {
			return nil, err
		}
	}
	if buf == nil {
		return dst, nil
	}
	binary.BigEndian.PutUint32(buf[at:], uint32(len(buf)-at-4))
	return buf, nil
}

// appendText encodes a value that has no binary form for the column, such as a number as text, by way of the text the server
// would parse.
func appendText(types *pgtype.Map, dst []byte, oid uint32, v any) ([]byte, error) {
	text, ok := v.(string)
	if !ok {
		b, err := types.Encode(oid, pgx.TextFormatCode, v, nil)
		if err != nil {
			return nil, err
		}
		if b == nil {
			return nil, errors.New("value has no text form")
		}
		text = string(b)
	}
	var parsed any
	if err := types.Scan(oid, pgx.TextFormatCode, []byte(text), &parsed); err != nil {
		return nil, err
	}
	return types.Encode(oid, pgx.BinaryFormatCode, parsed, dst)
}

// fields takes the values out of an encoded row; nil is NULL.
func fields(row []byte, dst [][]byte) [][]byte {
	n := int(binary.BigEndian.Uint16(row))
	row = row[2:]
	for range n {
		size := int32(binary.BigEndian.Uint32(row))
		row = row[4:]
		if size < 0 {
			dst = append(dst, nil)
			continue
		}
		dst = append(dst, row[:size:size])
		row = row[size:]
	}
	return dst
}
