// Package plain is the byte form of plain values: CBOR. Toolkits that store a user's records by it refuse types that would lose
// something.
//
//	err := plain.Check[Order]("async sink")
//	data, err := plain.Append(nil, order)
//	order, err := plain.Decode[Order](data)
//
// Functions may be called from any goroutine.
package plain

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/weirline/weirline/internal/fault"
)

// Append appends the bytes of v to dst.
func Append[T any](dst []byte, v T) ([]byte, error) {
	data, err := encoder.Marshal(v)
	return append(dst, data...), err
}

// Decode reads what Append wrote.
func Decode[T any](data []byte) (T, error) {
	var v T
	err := decoder.Unmarshal(data, &v)
	return v, err
}

// encoder keeps nanoseconds and the offset of times; everything else is the library's default.
var encoder = func() cbor.EncMode {
	m, err := cbor.EncOptions{Time: cbor.TimeRFC3339Nano}.EncMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return m
}()

// decoder takes back whatever encoder wrote: large values, deep ones, strings that aren't UTF-8.
var decoder = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		MaxArrayElements: math.MaxInt32, MaxMapPairs: math.MaxInt32, MaxNestedLevels: math.MaxUint16, UTF8: cbor.UTF8DecodeInvalid,
	}.DecMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return m
}()

// Bytes is the byte form of v, nil if CBOR would lose a part of values of its type.
func Bytes(v any) []byte {
	t := reflect.TypeOf(v)
	if t == nil {
		return nil
	}
	keeps, known := kept.Load(t)
	if !known {
		keeps = lossy(t, t.String(), map[reflect.Type]bool{}) == ""
		kept.Store(t, keeps)
	}
	if keeps != true {
		return nil
	}
	data, err := encoder.Marshal(v)
	if err != nil {
		return nil
	}
	return data
}

// kept says of types whether CBOR keeps every part of their values.
var kept sync.Map

// Check says whether CBOR keeps every part of a T. who begins the error.
func Check[T any](who string) error {
	t := reflect.TypeFor[T]()
	if why := lossy(t, t.String(), map[reflect.Type]bool{}); why != "" {
		return fault.New(fault.BadType, "%s: records of type %s can't be stored with an epoch: %s", who, t, why).
			WithFix("use plain values with exported fields only, or set Encode and Decode")
	}
	return nil
}

// lossy names the first part of t that CBOR would lose, "" if there is none.
func lossy(t reflect.Type, path string, seen map[reflect.Type]bool) string {
	if seen[t] || ownForm(t) {
		return ""
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Func, reflect.Chan, reflect.Interface, reflect.UnsafePointer, reflect.Complex64, reflect.Complex128:
		return fmt.Sprintf("%s is a %s", path, t.Kind())
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return lossy(t.Elem(), path+"[]", seen)
	case reflect.Map:
		if why := lossy(t.Key(), path+" key", seen); why != "" {
			return why
		}
		return lossy(t.Elem(), path+"[]", seen)
	case reflect.Struct:
		for f := range t.Fields() {
			if why := lossyField(f, path+"."+f.Name, seen); why != "" {
				return why
			}
		}
	}
	return ""
}

func lossyField(f reflect.StructField, path string, seen map[reflect.Type]bool) string {
	tag, own := f.Tag.Lookup("cbor")
	switch {
	case own && tag == "-":
		return "" // the author left it out on purpose
	case f.Name == "_":
		return ""
	case f.Anonymous && f.Type.Kind() == reflect.Struct:
	case !f.IsExported():
		return path + " is not exported"
	case !own && strings.Split(f.Tag.Get("json"), ",")[0] == "-":
		return path + ` is left out by its json tag (say so with a tag cbor:"-", if it may be lost)`
	}
	return lossy(f.Type, path, seen)
}

// ownForm says whether t brings its own bytes.
func ownForm(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return t == reflect.TypeFor[time.Time]() ||
		p.Implements(reflect.TypeFor[cbor.Marshaler]()) && p.Implements(reflect.TypeFor[cbor.Unmarshaler]()) ||
		p.Implements(reflect.TypeFor[encoding.BinaryMarshaler]()) && p.Implements(reflect.TypeFor[encoding.BinaryUnmarshaler]())
}
