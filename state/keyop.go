package state

import (
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"unsafe"

	"github.com/cespare/xxhash/v2"
)

// keyKind is the kind of one plain part of a key. int and uint are 8 bytes in every byte form, whatever the machine.
type keyKind uint8

const (
	keyInt64 keyKind = iota + 1 // also uint64, and int and uint on 64-bit machines
	keyInt32
	keyUint32
	keyString
	keyInt8
	keyInt16
	keyUint8
	keyUint16
	keyIntNative  // int where it has 4 bytes
	keyUintNative // uint where it has 4 bytes
	keyBool
	keyFloat32
	keyFloat64
	keyBytes // array of n bytes
	keySkip  // n bytes of the form that have no place in memory
)

var plainKeyKinds = map[reflect.Kind]keyKind{
	reflect.Int64: keyInt64, reflect.Uint64: keyInt64, reflect.Int: nativeInt(keyIntNative), reflect.Uint: nativeInt(keyUintNative),
	reflect.Int32: keyInt32, reflect.Uint32: keyUint32, reflect.Int16: keyInt16, reflect.Uint16: keyUint16,
	reflect.Int8: keyInt8, reflect.Uint8: keyUint8, reflect.Bool: keyBool, reflect.String: keyString,
	reflect.Float32: keyFloat32, reflect.Float64: keyFloat64,
}

func nativeInt(small keyKind) keyKind {
	if unsafe.Sizeof(int(0)) == 8 {
		return keyInt64
	}
	return small
}

func (k keyKind) fast() bool { return k <= keyString }

// keyOp handles one part at an offset of the key.
type keyOp struct {
	kind keyKind
	off  uintptr
	n    int // of keyBytes
}

var (
	errShort   = errors.New("the bytes end too early")
	errBool    = errors.New("a bool is neither 0 nor 1")
	errNaN     = errors.New("a float is NaN")
	errTooWide = errors.New("an integer is too wide for this machine's int")
	errLength  = errors.New("a length is greater than what follows")
)

// hashOps mixes the parts one after the other, so their order counts. Part of the file format.
func hashOps(ops []keyOp, p unsafe.Pointer) uint64 {
	if len(ops) == 1 {
		return ops[0].hash(p)
	}
	h := uint64(len(ops))
	for i := range ops {
		h = mix(h*0x9e3779b97f4a7c15 ^ ops[i].hash(p))
	}
	return h
}

func (o *keyOp) hash(p unsafe.Pointer) uint64 {
	p = unsafe.Add(p, o.off)
	switch o.kind {
	case keyString:
		return xxhash.Sum64String(*(*string)(p))
	case keyBytes:
		return xxhash.Sum64(unsafe.Slice((*byte)(p), o.n))
	}
	return mix(o.bits(p))
}

// bits widens a fixed part to 64 bits; p points at the part.
func (o *keyOp) bits(p unsafe.Pointer) uint64 {
	switch o.kind {
	case keyInt64:
		return *(*uint64)(p)
	case keyInt32:
		return uint64(int64(*(*int32)(p)))
	case keyUint32:
		return uint64(*(*uint32)(p))
	case keyInt16:
		return uint64(int64(*(*int16)(p)))
	case keyUint16:
		return uint64(*(*uint16)(p))
	case keyInt8:
		return uint64(int64(*(*int8)(p)))
	case keyUint8, keyBool:
		return uint64(*(*uint8)(p))
	case keyIntNative:
		return uint64(int64(*(*int)(p)))
	case keyUintNative:
		return uint64(*(*uint)(p))
	case keyFloat64:
		return plainBits(*(*float64)(p))
	default: // keyFloat32
		f := *(*float32)(p)
		if f == 0 {
			return 0 // one zero, not two
		}
		return uint64(math.Float32bits(f))
	}
}

func (o *keyOp) isNaN(p unsafe.Pointer) bool {
	p = unsafe.Add(p, o.off)
	switch o.kind {
	case keyFloat32:
		f := *(*float32)(p)
		return f != f
	case keyFloat64:
		f := *(*float64)(p)
		return f != f
	}
	return false
}

// size is the number of bytes of the byte form, 0 for strings.
func (o *keyOp) size() int {
	switch o.kind {
	case keyInt64, keyIntNative, keyUintNative, keyFloat64:
		return 8
	case keyInt32, keyUint32, keyFloat32:
		return 4
	case keyInt16, keyUint16:
		return 2
	case keyInt8, keyUint8, keyBool:
		return 1
	case keyBytes:
		return o.n
	}
	return 0
}

func (o *keyOp) append(dst []byte, p unsafe.Pointer) []byte {
	p = unsafe.Add(p, o.off)
	switch o.kind {
	case keyString:
		s := *(*string)(p)
		return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
	case keyBytes:
		return append(dst, unsafe.Slice((*byte)(p), o.n)...)
	}
	b := o.bits(p)
	switch o.size() {
	case 8:
		return binary.LittleEndian.AppendUint64(dst, b)
	case 4:
		return binary.LittleEndian.AppendUint32(dst, uint32(b))
	case 2:
		return binary.LittleEndian.AppendUint16(dst, uint16(b))
	}
	return append(dst, byte(b))
}

func (o *keyOp) decode(src []byte, p unsafe.Pointer) (rest []byte, err error) {
	if o.kind == keyString {
		b, rest, err := cutBytes(src)
		if err == nil {
			*(*string)(unsafe.Add(p, o.off)) = string(b)
		}
		return rest, err
	}
	n := o.size()
	if len(src) < n {
		return nil, errShort
	}
	return src[n:], o.set(src[:n], unsafe.Add(p, o.off))
}

// set stores the bytes of a fixed part at p.
func (o *keyOp) set(src []byte, p unsafe.Pointer) error {
	switch o.kind {
	case keyInt64:
		*(*uint64)(p) = binary.LittleEndian.Uint64(src)
	case keyInt32, keyUint32:
		*(*uint32)(p) = binary.LittleEndian.Uint32(src)
	case keyInt16, keyUint16:
		*(*uint16)(p) = binary.LittleEndian.Uint16(src)
	case keyInt8, keyUint8:
		*(*uint8)(p) = src[0]
	case keyBytes:
		copy(unsafe.Slice((*byte)(p), o.n), src)
	case keyBool:
		if src[0] > 1 {
			return errBool
		}
		*(*bool)(p) = src[0] == 1
	case keyFloat32:
		f := math.Float32frombits(binary.LittleEndian.Uint32(src))
		*(*float32)(p) = f
		if f != f {
			return errNaN
		}
	case keyFloat64:
		f := math.Float64frombits(binary.LittleEndian.Uint64(src))
		*(*float64)(p) = f
		if f != f {
			return errNaN
		}
	default:
		return o.setNative(binary.LittleEndian.Uint64(src), p)
	}
	return nil
}

// setNative stores an int or uint where those have 4 bytes.
func (o *keyOp) setNative(b uint64, p unsafe.Pointer) error {
	if o.kind == keyIntNative {
		*(*int)(p) = int(int64(b))
		if int64(*(*int)(p)) != int64(b) {
			return errTooWide
		}
		return nil
	}
	*(*uint)(p) = uint(b)
	if uint64(*(*uint)(p)) != b {
		return errTooWide
	}
	return nil
}

// cutBytes reads a length and as many bytes from the front of src.
func cutBytes(src []byte) (b, rest []byte, err error) {
	n, w := binary.Uvarint(src)
	if w <= 0 {
		return nil, nil, errShort
	}
	if src = src[w:]; n > uint64(len(src)) {
		return nil, nil, errLength
	}
	return src[:n], src[n:], nil
}
