package state

import (
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"unsafe"
)

// fixedOp moves one part of a value of fixed size. Parts whose bytes in memory are those of the file are merged.
type fixedOp struct {
	kind keyKind // 0: n bytes as they are; else one part, as in keys but with floats as they are
	off  uintptr
	n    int
	to   keyKind // of the part in memory, if it's a wider one; only to read what was stored before
}

const maxFixedOps = 1024

// littleEndian: the machine's byte order is the file's.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// fixedOps gives the ops of a type made of integers, floats and bools only; ok is false for all others.
func fixedOps(t reflect.Type) (ops []fixedOp, ok bool) {
	ok = addFixed(&ops, t, 0)
	return ops, ok && len(ops) <= maxFixedOps
}

func addFixed(ops *[]fixedOp, t reflect.Type, off uintptr) bool {
	if hasOwnCodec(t) || len(*ops) > maxFixedOps {
		return false
	}
	switch t.Kind() {
	case reflect.Array:
		for i := range t.Len() {
			if !addFixed(ops, t.Elem(), off+uintptr(i)*t.Elem().Size()) {
				return false
			}
		}
		return true
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			if f.Name != "_" && !addFixed(ops, f.Type, off+f.Offset) {
				return false
			}
		}
		return true
	}
	k, plain := plainKeyKinds[t.Kind()]
	if !plain || k == keyString {
		return false
	}
	op := fixedOp{kind: k, off: off, n: (&keyOp{kind: k}).size()}
	if k != keyBool && op.n == int(t.Size()) && (littleEndian || op.n == 1) {
		op.kind = 0
		if last := len(*ops) - 1; last >= 0 && (*ops)[last].kind == 0 && (*ops)[last].off+uintptr((*ops)[last].n) == off {
			(*ops)[last].n += op.n
			return true
		}
	}
	*ops = append(*ops, op)
	return true
}

// fixed is the codec of types of fixed size: the parts one after the other, little-endian, without padding.
type fixed[V any] struct {
	ops  []fixedOp
	size int
	sig  string
}

func newFixed[V any](ops []fixedOp, sig string) *fixed[V] {
	f := &fixed[V]{ops: ops, sig: sig}
	for _, op := range ops {
		f.size += op.n
	}
	return f
}

func (f *fixed[V]) Signature() string                   { return f.sig }
func (f *fixed[V]) reading(was string) (Codec[V], bool) { return readerOf(was, Codec[V](f)) }

func (f *fixed[V]) Append(dst []byte, v *V) ([]byte, error) {
	p := unsafe.Pointer(v)
	for i := range f.ops {
		op := &f.ops[i]
		at := unsafe.Add(p, op.off)
		switch {
		case op.kind != 0:
			dst = op.appendPart(dst, at)
		case op.n == 8: // most are; a copy of known length is an instruction
			dst = append(dst, (*[8]byte)(at)[:]...)
		default:
			dst = append(dst, unsafe.Slice((*byte)(at), op.n)...)
		}
	}
	return dst, nil
}

func (f *fixed[V]) Decode(src []byte, v *V) ([]byte, error) {
	if len(src) < f.size {
		return nil, fmt.Errorf("decode %T: %w", *v, errShort)
	}
	p := unsafe.Pointer(v)
	for i := range f.ops {
		op := &f.ops[i]
		at := unsafe.Add(p, op.off)
		switch {
		case op.kind == keySkip: // a field that went
		case op.kind == 0 && op.n == 8:
			*(*[8]byte)(at) = [8]byte(src)
		case op.kind == 0:
			copy(unsafe.Slice((*byte)(at), op.n), src)
		default:
			if err := op.setPart(src, at); err != nil {
				return nil, fmt.Errorf("decode %T: %w", *v, err)
			}
		}
		src = src[op.n:]
	}
	return src, nil
}

// appendPart writes a part whose form in memory isn't that of the file.
func (o *fixedOp) appendPart(dst []byte, at unsafe.Pointer) []byte {
	switch o.kind {
	case keyFloat64:
		return binary.LittleEndian.AppendUint64(dst, *(*uint64)(at))
	case keyFloat32:
		return binary.LittleEndian.AppendUint32(dst, *(*uint32)(at))
	}
	k := keyOp{kind: o.kind}
	return k.append(dst, at)
}

func (o *fixedOp) setPart(src []byte, at unsafe.Pointer) error {
	if o.to != 0 {
		return o.widen(src, at)
	}
	switch o.kind {
	case keyFloat64:
		*(*uint64)(at) = binary.LittleEndian.Uint64(src)
		return nil
	case keyFloat32:
		*(*uint32)(at) = binary.LittleEndian.Uint32(src)
		return nil
	}
	k := keyOp{kind: o.kind}
	return k.set(src[:o.n], at)
}

// widen stores a number in a part of the same sort that is wider.
func (o *fixedOp) widen(src []byte, at unsafe.Pointer) error {
	var bits uint64
	switch o.kind {
	case keyFloat32:
		*(*float64)(at) = float64(math.Float32frombits(binary.LittleEndian.Uint32(src)))
		return nil
	case keyInt8:
		bits = uint64(int8(src[0]))
	case keyInt16:
		bits = uint64(int16(binary.LittleEndian.Uint16(src)))
	case keyInt32:
		bits = uint64(int32(binary.LittleEndian.Uint32(src)))
	case keyUint8:
		bits = uint64(src[0])
	case keyUint16:
		bits = uint64(binary.LittleEndian.Uint16(src))
	case keyUint32:
		bits = uint64(binary.LittleEndian.Uint32(src))
	default:
		bits = binary.LittleEndian.Uint64(src)
	}
	k := keyOp{kind: o.to}
	return k.set(binary.LittleEndian.AppendUint64(make([]byte, 0, 8), bits), at)
}

// isEmpty tells whether values of V have no bytes at all.
func isEmpty[V any]() bool {
	ops, ok := fixedOps(reflect.TypeFor[V]())
	return ok && len(ops) == 0
}
