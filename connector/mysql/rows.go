package mysql

import (
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// rows are the rows of a batch as SQL text: (1,'a'),(2,'b').
type rows struct {
	columns []string
	check   driver.NamedValueChecker // the client library's conversions
	buf     []byte
	ends    []int // of each row, in buf
	index   []int // of each row, in the batch
}

func (r *rows) reset() { r.buf, r.ends, r.index = r.buf[:0], r.ends[:0], r.index[:0] }

func (r *rows) len() int { return len(r.ends) }

// span is rows lo up to hi.
func (r *rows) span(lo, hi int) []byte {
	start := 0
	if lo > 0 {
		start = r.ends[lo-1] + 1 // after the comma
	}
	return r.buf[start:r.ends[hi-1]]
}

// fit is where to end a statement that begins with row lo, so that its rows have at most so many bytes. It holds one row in
// any case.
func (r *rows) fit(lo, hi, bytes int) int {
	n := lo + 1
	for n < hi && len(r.span(lo, n+1)) <= bytes {
		n++
	}
	return n
}

// add encodes the row of the batch's record i. After an error nothing of it is left.
func (r *rows) add(i int, values []any, most int) error {
	if len(values) != len(r.columns) {
		return fmt.Errorf("row has %d values for %d columns", len(values), len(r.columns))
	}
	start := len(r.buf)
	if r.len() > 0 {
		r.buf = append(r.buf, ',')
	}
	r.buf = append(r.buf, '(')
	for c, v := range values {
		if c > 0 {
			r.buf = append(r.buf, ',')
		}
		buf, err := r.value(r.buf, v)
		if err != nil {
			r.buf = r.buf[:start]
			return fmt.Errorf("value of column %s: %w", r.columns[c], err)
		}
		r.buf = buf
	}
	r.buf = append(r.buf, ')')
	if n := len(r.buf) - start; n > most {
		r.buf = r.buf[:start]
		return fmt.Errorf("row has %d bytes as SQL, the server's max_allowed_packet has room for %d", n, most)
	}
	r.ends, r.index = append(r.ends, len(r.buf)), append(r.index, i)
	return nil
}

// value appends one value.
func (r *rows) value(dst []byte, v any) ([]byte, error) {
	if dst, ok := appendValue(dst, v); ok {
		return dst, nil
	}
	switch v := v.(type) {
	case float32:
		return appendFloat(dst, float64(v), 32)
	case float64:
		return appendFloat(dst, v, 64)
	}
	nv := driver.NamedValue{Value: v}
	if err := r.check.CheckNamedValue(&nv); err != nil {
		return nil, err
	}
	if f, ok := nv.Value.(float64); ok {
		return appendFloat(dst, f, 64)
	}
	dst, ok := appendValue(dst, nv.Value)
	if !ok {
		return nil, fmt.Errorf("%T has no form in SQL", v)
	}
	return dst, nil
}

// appendValue appends a value of the types that need no conversion and are always fine.
func appendValue(dst []byte, v any) ([]byte, bool) {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...), true
	case int:
		return strconv.AppendInt(dst, int64(v), 10), true
	case int64:
		return strconv.AppendInt(dst, v, 10), true
	case uint64:
		return strconv.AppendUint(dst, v, 10), true
	case string:
		return appendText(dst, v), true
	case []byte:
		if v == nil {
			return append(dst, "null"...), true
		}
		return appendText(append(dst, "_binary"...), v), true
	case json.RawMessage:
		if v == nil {
			return append(dst, "null"...), true
		}
		return appendText(dst, v), true
	case bool:
		if v {
			return append(dst, '1'), true
		}
		return append(dst, '0'), true
	case time.Time:
		return v.UTC().AppendFormat(dst, "'2006-01-02 15:04:05.999999'"), true
	}
	return dst, false
}

func appendFloat(dst []byte, f float64, bits int) ([]byte, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, errors.New("the server has no NaN and no infinity")
	}
	return strconv.AppendFloat(dst, f, 'e', -1, bits), nil // with an exponent it is a float for the server, too
}

// appendText appends a string between quotes. The session's sql_mode has no NO_BACKSLASH_ESCAPES.
func appendText[S string | []byte | json.RawMessage](dst []byte, s S) []byte {
	dst = append(dst, '\'')
	from := 0
	for i := range len(s) {
		var c byte
		switch s[i] {
		case '\'', '\\':
			c = s[i]
		case 0:
			c = '0'
		default:
			continue
		}
		dst = append(append(dst, s[from:i]...), '\\', c)
		from = i + 1
	}
	return append(append(dst, s[from:]...), '\'')
}
