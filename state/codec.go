package state

import (
	"bytes"
	"encoding"
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

// Codec turns values into bytes and back. Sealed: all codecs are made by [CodecOf]; they are immutable and may be used by any
// number of goroutines, each with its own values.
type Codec[V any] interface {
	// Append appends the byte form of *v to dst. The form says where it ends. It keeps nothing.
	Append(dst []byte, v *V) ([]byte, error)
	// Decode reads a value from the front of src into *v, which should be zero, and returns what follows. The value
	// shares no memory with src. After an error *v is undefined.
	Decode(src []byte, v *V) (rest []byte, err error)
	// Signature names the codec and the shape of V, as in "cbor:struct{Name string}".
	Signature() string
	// reading is the codec for bytes stored under another, compatible signature.
	reading(was string) (c Codec[V], ok bool)
}

// CodecOf chooses the codec of V, or refuses V as [Check] does. Types of fixed size get a fixed form; types with
// MarshalBinary and UnmarshalBinary use those; all others are written as CBOR with field names.
func CodecOf[V any]() (Codec[V], error) {
	t := reflect.TypeFor[V]()
	if err := Check(t); err != nil {
		return nil, err
	}
	if hasBinary(t) {
		return ownForm[V]{sig: "binary:" + t.String()}, nil
	}
	if ops, ok := fixedOps(t); ok {
		return newFixed[V](ops, "fixed:"+shapeOf(t)), nil
	}
	return cborForm[V]{sig: "cbor:" + shapeOf(t)}, nil
}

// CBOR modes: nothing is rounded, refused or limited on the way back that was written on the way out.
var (
	cborOut = must(cbor.EncOptions{Time: cbor.TimeRFC3339Nano, NaNConvert: cbor.NaNConvertNone, InfConvert: cbor.InfConvertNone}.UserBufferEncMode())
	cborIn  = must(cbor.DecOptions{
		UTF8: cbor.UTF8DecodeInvalid, FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		MaxArrayElements: math.MaxInt32, MaxMapPairs: math.MaxInt32, MaxNestedLevels: 256,
	}.DecMode())
	scratch = sync.Pool{New: func() any { return new(bytes.Buffer) }}
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // only if the constants above contradict each other
	}
	return v
}

// cborForm is a length and the CBOR of the plain value.
type cborForm[V any] struct{ sig string }

func (c cborForm[V]) Signature() string                   { return c.sig }
func (c cborForm[V]) reading(was string) (Codec[V], bool) { return readerOf(was, Codec[V](c)) }

func (c cborForm[V]) Append(dst []byte, v *V) ([]byte, error) {
	b := scratch.Get().(*bytes.Buffer)
	defer scratch.Put(b)
	b.Reset()
	if err := cborOut.MarshalToBuffer(v, b); err != nil {
		return dst, fmt.Errorf("encode %T: %w", *v, err)
	}
	return append(binary.AppendUvarint(dst, uint64(b.Len())), b.Bytes()...), nil
}

func (c cborForm[V]) Decode(src []byte, v *V) ([]byte, error) {
	b, rest, err := cutBytes(src)
	if err == nil {
		err = cborIn.Unmarshal(b, v)
	}
	if err != nil {
		return nil, fmt.Errorf("decode %T: %w", *v, err)
	}
	return rest, nil
}

// ownForm is a length and what MarshalBinary gave.
type ownForm[V any] struct{ sig string }

func (c ownForm[V]) Signature() string                   { return c.sig }
func (c ownForm[V]) reading(was string) (Codec[V], bool) { return c, was == c.sig }

func (c ownForm[V]) Append(dst []byte, v *V) ([]byte, error) {
	b, err := any(v).(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return dst, fmt.Errorf("encode %T: %w", *v, err)
	}
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...), nil
}

func (c ownForm[V]) Decode(src []byte, v *V) ([]byte, error) {
	b, rest, err := cutBytes(src)
	if err == nil {
		err = any(v).(encoding.BinaryUnmarshaler).UnmarshalBinary(bytes.Clone(b))
	}
	if err != nil {
		return nil, fmt.Errorf("decode %T: %w", *v, err)
	}
	return rest, nil
}

// listForm is a count and the items.
type listForm[V any] struct{ item Codec[V] }

func (c listForm[V]) Signature() string { return "list:" + c.item.Signature() }

func (c listForm[V]) reading(was string) (Codec[[]V], bool) {
	item, ok := c.item.reading(strings.TrimPrefix(was, "list:"))
	return listForm[V]{item: item}, ok
}

func (c listForm[V]) Append(dst []byte, v *[]V) ([]byte, error) {
	dst = binary.AppendUvarint(dst, uint64(len(*v)))
	var err error
	for i := range *v {
		if dst, err = c.item.Append(dst, &(*v)[i]); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func (c listForm[V]) Decode(src []byte, v *[]V) ([]byte, error) {
	n, src, err := cutCount(src)
	if err != nil {
		return nil, err
	}
	*v = make([]V, 0, n)
	for range n {
		var item V
		if src, err = c.item.Decode(src, &item); err != nil {
			return nil, err
		}
		*v = append(*v, item)
	}
	return src, nil
}

// mapForm is a count and the pairs, in no order.
type mapForm[K comparable, V any] struct {
	key *Key[K]
	val Codec[V]
}

func (c mapForm[K, V]) Signature() string {
	return "map(" + c.key.Signature() + ")" + c.val.Signature()
}

func (c mapForm[K, V]) reading(was string) (Codec[map[K]V], bool) {
	_, was, ok := cutMap(strings.TrimPrefix(was, "map("))
	if !ok {
		return nil, false
	}
	val, ok := c.val.reading(was)
	return mapForm[K, V]{key: c.key, val: val}, ok
}

func (c mapForm[K, V]) Append(dst []byte, v *map[K]V) ([]byte, error) {
	dst = binary.AppendUvarint(dst, uint64(len(*v)))
	var err error
	for k, val := range *v {
		if !c.key.Valid(k) {
			return dst, fmt.Errorf("encode a map: %w: it could not be found again", errNaN)
		}
		if dst, err = c.val.Append(c.key.AppendBytes(dst, k), &val); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func (c mapForm[K, V]) Decode(src []byte, v *map[K]V) ([]byte, error) {
	n, src, err := cutCount(src)
	if err != nil {
		return nil, err
	}
	*v = make(map[K]V, n)
	for range n {
		var k K
		var val V
		if k, src, err = c.key.Decode(src); err != nil {
			return nil, err
		}
		if src, err = c.val.Decode(src, &val); err != nil {
			return nil, err
		}
		(*v)[k] = val
	}
	return src, nil
}

// cutCount reads a number of items from the front of src. Each has at least one byte; only the one pair of two empty
// structs has none.
func cutCount(src []byte) (n int, rest []byte, err error) {
	u, w := binary.Uvarint(src)
	if w <= 0 {
		return 0, nil, errShort
	}
	if src = src[w:]; u > uint64(len(src))+1 {
		return 0, nil, errLength
	}
	return int(u), src, nil
}
