package state

import (
	"encoding/binary"
	"math"
	"math/big"
	"strconv"
)

// CBOR's major types.
const (
	cborUint = iota
	cborNegative
	cborBytes
	cborText
	cborArray
	cborMap
	cborTag
	cborSimple
)

const (
	cborEndless  = 31 // length of an item that goes on until a break
	cborMaxDepth = 256
)

// cbor writes one item of CBOR as JSON. Types may bring CBOR of their own, so that all of it must be known.
func (d *decoder) cbor(depth int) {
	if depth > cborMaxDepth {
		d.fail(errCBOR)
		return
	}
	major, info, arg := d.head()
	if d.err != nil {
		return
	}
	switch major {
	case cborUint:
		d.write(strconv.FormatUint(arg, 10))
	case cborNegative:
		n := new(big.Int).SetUint64(arg)
		d.write(n.Not(n).String())
	case cborBytes:
		d.base64(d.chunks(major, info, arg))
	case cborText:
		d.text(string(d.chunks(major, info, arg)))
	case cborArray:
		d.write("[")
		d.items(info, arg, func(i int) {
			if i > 0 {
				d.write(",")
			}
			d.cbor(depth + 1)
		})
		d.write("]")
	case cborMap:
		var pairs []decoded
		d.items(info, arg, func(int) {
			pairs = append(pairs, decoded{d.aside(func() { d.cbor(depth + 1) }), d.aside(func() { d.cbor(depth + 1) })})
		})
		d.object(pairs)
	case cborTag:
		d.tagged(arg, depth)
	case cborSimple:
		d.simple(info, arg)
	}
}

// head reads an item's first bytes.
func (d *decoder) head() (major, info byte, arg uint64) {
	b := d.bytes(1)
	if d.err != nil {
		return 0, 0, 0
	}
	major, info = b[0]>>5, b[0]&31
	switch {
	case info < 24:
		return major, info, uint64(info)
	case info <= 27:
		var whole [8]byte
		n := 1 << (info - 24)
		copy(whole[8-n:], d.bytes(n))
		return major, info, binary.BigEndian.Uint64(whole[:])
	case info != cborEndless || major == cborUint || major == cborNegative || major == cborTag:
		d.fail(errCBOR)
	}
	return major, info, 0
}

// chunks is the content of a string of bytes or text.
func (d *decoder) chunks(major, info byte, arg uint64) []byte {
	if info != cborEndless {
		if arg > uint64(len(d.src)) {
			d.fail(errShort)
			return nil
		}
		return d.bytes(int(arg))
	}
	var all []byte
	for !d.ended() {
		m, i, n := d.head()
		if m != major || i == cborEndless {
			d.fail(errCBOR)
			return nil
		}
		all = append(all, d.chunks(m, i, n)...)
	}
	return all
}

// items calls f for each item of an array or map.
func (d *decoder) items(info byte, n uint64, f func(i int)) {
	if info != cborEndless && n > uint64(len(d.src)) { // each has a byte at least
		d.fail(errShort)
	}
	for i := 0; d.err == nil; i++ {
		if info == cborEndless && d.ended() || info != cborEndless && uint64(i) == n {
			return
		}
		f(i)
	}
}

// ended reads a break, if there is one; true also after a failure.
func (d *decoder) ended() bool {
	if len(d.src) == 0 {
		d.fail(errShort)
	}
	if d.err == nil && d.src[0] != cborSimple<<5|cborEndless {
		return false
	}
	d.bytes(min(1, len(d.src)))
	return true
}

// tagged writes numbers of any size as such, and of everything else the content.
func (d *decoder) tagged(tag uint64, depth int) {
	if (tag == 2 || tag == 3) && len(d.src) > 0 && d.src[0]>>5 == cborBytes {
		major, info, arg := d.head()
		b := d.chunks(major, info, arg)
		if len(b) > maxDigits {
			d.base64(b) // writing it in decimals takes time by the square of its length
			return
		}
		n := new(big.Int).SetBytes(b)
		if tag == 3 {
			n.Not(n)
		}
		d.write(n.String())
		return
	}
	d.cbor(depth + 1)
}

// maxDigits is how many bytes of a number are written as such.
const maxDigits = 4 << 10

func (d *decoder) simple(info byte, arg uint64) {
	switch {
	case info == 25:
		d.float(halfFloat(uint16(arg)), 32)
	case info == 26:
		d.float(float64(math.Float32frombits(uint32(arg))), 32)
	case info == 27:
		d.float(math.Float64frombits(arg), 64)
	case arg == 20, arg == 21:
		d.write(strconv.FormatBool(arg == 21))
	case info == cborEndless:
		d.fail(errCBOR)
	case arg == 22, arg == 23:
		d.write("null")
	default:
		d.write(strconv.FormatUint(arg, 10))
	}
}

// halfFloat is a float of 16 bits.
func halfFloat(h uint16) float64 {
	exp, frac := int(h>>10&31), float64(h&1023)
	var f float64
	switch exp {
	case 0:
		f = math.Ldexp(frac, -24)
	case 31:
		if f = math.Inf(1); frac != 0 {
			f = math.NaN()
		}
	default:
		f = math.Ldexp(1024+frac, exp-25)
	}
	if h&0x8000 != 0 {
		return -f
	}
	return f
}
