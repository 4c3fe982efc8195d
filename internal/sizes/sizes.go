// Package sizes tells how much memory records take, with what they point to.
//
//	weigh := sizes.Of[Order]() // once, where a queue is made
//	bytes := weigh(batch)
//
// What a type needs is found out once. Records without pointers all have one size, so weighing a batch of them is a
// multiplication. Of others at most [Samples] of a batch are looked at, evenly spread, and stand for the rest.
//
// A size is an estimate: spare room of slices counts, what allocators add and what several records share doesn't, nor is it
// noticed; what is behind more than [Depth] pointers isn't looked at. A Func may be used by any number of goroutines, and
// reads the records, so nobody may write to them meanwhile.
package sizes

import (
	"reflect"

	"github.com/weirline/weirline/source"
)

const (
	// Samples is how many records of a batch, or elements of a slice or map, are looked at.
	Samples = 4

	// Depth is how many pointers, slices, maps and interfaces inside one another are followed.
	Depth = 4
)

// Func is the size of a batch in bytes: its records, their times, and what was rejected.
type Func[T any] func(b *source.Batch[T]) int64

// Of makes the Func of a type.
func Of[T any]() Func[T] {
	typ := reflect.TypeFor[T]()
	flat := int64(typ.Size())
	if isFlat(typ) {
		return func(b *source.Batch[T]) int64 { return flat*int64(len(b.Values)) + rest(b) }
	}
	return func(b *source.Batch[T]) int64 {
		n := len(b.Values)
		seen, behind := min(n, Samples), int64(0)
		for i := range seen {
			behind += content(reflect.ValueOf(&b.Values[(2*i+1)*n/(2*seen)]).Elem(), Depth)
		}
		return flat*int64(n) + scale(behind, n, seen) + rest(b)
	}
}

// rest is what a batch has beside its records.
func rest[T any](b *source.Batch[T]) int64 {
	n := 8 * int64(len(b.Times))
	for i := range b.Rejects {
		n += int64(len(b.Rejects[i].Raw))
	}
	return n
}

// scale is what n have when seen of them have sum.
func scale(sum int64, n, seen int) int64 {
	if seen == 0 {
		return 0
	}
	return sum * int64(n) / int64(seen)
}

// isFlat says whether values of a type point to nothing.
func isFlat(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Array:
		return t.Len() == 0 || isFlat(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if !isFlat(t.Field(i).Type) {
				return false
			}
		}
		return true
	case reflect.String, reflect.Slice, reflect.Map, reflect.Pointer, reflect.Interface, reflect.Chan, reflect.Func, reflect.UnsafePointer:
		return false
	default:
		return true
	}
}

// content is how much a value points to, beside its own size.
func content(v reflect.Value, depth int) (n int64) {
	switch v.Kind() {
	case reflect.String:
		return int64(v.Len())
	case reflect.Struct:
		for i := range v.NumField() {
			n += content(v.Field(i), depth)
		}
		return n
	case reflect.Array:
		return elements(v, depth)
	case reflect.Slice:
		if n = int64(v.Type().Elem().Size()) * int64(v.Cap()); depth > 0 {
			n += elements(v, depth-1)
		}
		return n
	case reflect.Map:
		return entries(v, depth)
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return 0
		}
		e := v.Elem()
		if n = int64(e.Type().Size()); depth > 0 {
			n += content(e, depth-1)
		}
		return n
	default:
		return 0
	}
}

// elements is how much the elements of an array or slice point to.
func elements(v reflect.Value, depth int) (n int64) {
	if isFlat(v.Type().Elem()) {
		return 0
	}
	seen := min(v.Len(), Samples)
	for i := range seen {
		n += content(v.Index((2*i+1)*v.Len()/(2*seen)), depth)
	}
	return scale(n, v.Len(), seen)
}

// entries is how much a map has, with what its entries point to.
func entries(v reflect.Value, depth int) (n int64) {
	key, elem := v.Type().Key(), v.Type().Elem()
	n = int64(v.Len()) * int64(key.Size()+elem.Size())
	if depth == 0 || isFlat(key) && isFlat(elem) {
		return n
	}
	behind, seen := int64(0), 0
	for it := v.MapRange(); seen < Samples && it.Next(); seen++ {
		behind += content(it.Key(), depth-1) + content(it.Value(), depth-1)
	}
	return n + scale(behind, v.Len(), seen)
}
