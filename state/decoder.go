package state

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"

	"github.com/weirline/weirline/internal/fault"
)

// decoder turns stored bytes into JSON by a form. After the first failure err is set and nothing more is read.
type decoder struct {
	src []byte
	out []byte
	err error
}

// maxJSON is the most that one key or value may come to: a damaged signature could make much of little.
const maxJSON = 64 << 20

var (
	errForm    = errors.New("its signature doesn't tell how it's stored")
	errTooLong = errors.New("it's longer than 64 MiB as JSON")
	errCBOR    = errors.New("it isn't CBOR")
)

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.src = nil
}

func (d *decoder) failure() error {
	code := fault.DamagedEpoch
	if d.err == errForm || d.err == errTooLong {
		code = fault.BadState
	}
	return fault.Wrap(code, d.err, "an entry can't be shown")
}

// take hands out what was written.
func (d *decoder) take() json.RawMessage {
	out := d.out
	d.out = nil
	return out
}

// bytes cuts n bytes.
func (d *decoder) bytes(n int) []byte {
	if len(d.src) < n {
		d.fail(errShort)
		return nil
	}
	b := d.src[:n]
	d.src = d.src[n:]
	return b
}

// counted cuts a length and as many bytes.
func (d *decoder) counted() []byte {
	b, rest, err := cutBytes(d.src)
	if err != nil {
		d.fail(err)
		return nil
	}
	d.src = rest
	return b
}

func (d *decoder) write(s string) {
	if len(d.out)+len(s) > maxJSON {
		d.fail(errTooLong)
	} else if d.err == nil {
		d.out = append(d.out, s...)
	}
}

func (d *decoder) text(s string) {
	if len(d.out)+len(s) > maxJSON {
		d.fail(errTooLong)
	} else if d.err == nil {
		d.out = appendJSON(d.out, s)
	}
}

// appendJSON appends a string as JSON; what isn't UTF-8 in it is replaced.
func appendJSON(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			var b bytes.Buffer
			e := json.NewEncoder(&b)
			e.SetEscapeHTML(false)
			_ = e.Encode(s) // a string can't fail
			return append(dst, bytes.TrimSpace(b.Bytes())...)
		}
	}
	return append(append(append(dst, '"'), s...), '"')
}

func (d *decoder) base64(b []byte) { d.text(base64.StdEncoding.EncodeToString(b)) }

func (d *decoder) float(f float64, bits int) {
	switch {
	case f != f:
		d.write(`"NaN"`)
	case math.IsInf(f, 0):
		d.text(strconv.FormatFloat(f, 'g', -1, 64))
	default:
		d.write(strconv.FormatFloat(f, 'g', -1, bits))
	}
}

// form writes a value of a form.
func (d *decoder) form(f *form) {
	switch f.kind {
	case "fixed":
		d.plain(f.shape)
	case "cbor":
		in := decoder{src: d.counted(), out: d.out, err: d.err}
		in.cbor(0)
		if in.err == nil && len(in.src) > 0 {
			in.err = errCBOR
		}
		d.out, d.err = in.out, in.err
	case "binary":
		d.base64(d.counted())
	case "list":
		d.list('[', ']', func() { d.form(f.elem) })
	case "map":
		d.dict(f)
	}
}

// count reads a number of items.
func (d *decoder) count() int {
	n, rest, err := cutCount(d.src)
	if err != nil {
		d.fail(err)
		return 0
	}
	d.src = rest
	return n
}

func (d *decoder) list(open, end byte, item func()) {
	d.write(string(open))
	for i := range d.count() {
		if i > 0 {
			d.write(",")
		}
		if item(); d.err != nil {
			return
		}
	}
	d.write(string(end))
}

// dict writes a map form as an object.
func (d *decoder) dict(f *form) {
	var pairs []decoded
	for range d.count() {
		p := decoded{key: d.aside(func() { d.plain(f.key) }), val: d.aside(func() { d.form(f.elem) })}
		if pairs = append(pairs, p); d.err != nil {
			return
		}
	}
	d.object(pairs)
}

// decoded is a key and a value of an object, both as JSON.
type decoded struct{ key, val []byte }

// aside gives what f writes, without adding it to what is written.
func (d *decoder) aside(f func()) []byte {
	at := len(d.out)
	f()
	b := bytes.Clone(d.out[at:])
	d.out = d.out[:at]
	return b
}

// object writes pairs sorted by key. Keys that aren't strings are put into one.
func (d *decoder) object(pairs []decoded) {
	slices.SortStableFunc(pairs, func(a, b decoded) int { return bytes.Compare(a.key, b.key) })
	d.write("{")
	for i, p := range pairs {
		if i > 0 {
			d.write(",")
		}
		if len(p.key) > 0 && p.key[0] == '"' {
			d.write(string(p.key))
		} else {
			d.text(string(p.key))
		}
		d.write(":")
		d.write(string(p.val))
	}
	d.write("}")
}

// plain writes a key or a value of fixed size.
func (d *decoder) plain(s *shape) {
	n, array := s.length()
	switch {
	case d.err != nil:
	case s.head == "struct":
		d.write("{")
		for i, f := range s.fields {
			if i > 0 {
				d.write(",")
			}
			d.text(f.name)
			d.write(":")
			if d.plain(f.shape); d.err != nil {
				return
			}
		}
		d.write("}")
	case array && s.elem.head == "uint8":
		d.base64(d.bytes(n))
	case array:
		d.array(s.elem, n)
	default:
		d.part(s.head)
	}
}

func (d *decoder) array(elem *shape, n int) {
	d.write("[")
	for i := range n {
		if elem.hollow() { // nothing to see, however many there are
			break
		}
		if i > 0 {
			d.write(",")
		}
		if d.plain(elem); d.err != nil {
			return
		}
	}
	d.write("]")
}

// part writes one number, bool or string.
func (d *decoder) part(kind string) {
	if kind == "string" {
		d.text(string(d.counted()))
		return
	}
	k, ok := fixedKinds[kind]
	if !ok {
		d.fail(errForm)
		return
	}
	var whole [8]byte
	size := (&keyOp{kind: k}).size()
	if copy(whole[:], d.bytes(size)) < size {
		return
	}
	u := binary.LittleEndian.Uint64(whole[:])
	switch kind {
	case "bool":
		d.write(strconv.FormatBool(u != 0))
	case "float32":
		d.float(float64(math.Float32frombits(uint32(u))), 32)
	case "float64":
		d.float(math.Float64frombits(u), 64)
	case "uint", "uint8", "uint16", "uint32", "uint64":
		d.write(strconv.FormatUint(u, 10))
	default:
		free := 64 - 8*size
		d.write(strconv.FormatInt(int64(u<<free)>>free, 10))
	}
}
