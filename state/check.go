package state

import (
	"encoding"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/weirline/weirline/internal/fault"
)

// Check refuses a type of which storing and restoring would lose something: functions, channels, unsafe pointers,
// interfaces, unexported or excluded fields, recursion. The error names the path to the part, as in "field Stats.hidden
// is unexported". A type with MarshalBinary and UnmarshalBinary (or the CBOR pair) is taken as it is.
func Check(t reflect.Type) error {
	return check(t, rootName(t), nil)
}

func rootName(t reflect.Type) string {
	if t.Name() != "" {
		return t.Name()
	}
	return t.String()
}

func refuse(format string, args ...any) error {
	return fault.New(fault.BadType, format, args...).
		WithFix("use exported fields of plain types, or give the type MarshalBinary and UnmarshalBinary")
}

func check(t reflect.Type, path string, above []reflect.Type) error {
	if own, err := ownCodec(t, path); own || err != nil {
		return err
	}
	if slices.Contains(above, t) {
		return refuse("%s: type %s contains itself; how deep a value goes isn't known, and one that points back to itself can't be stored", path, t)
	}
	if t.Name() != "" {
		above = append(slices.Clip(above), t)
	}
	switch t.Kind() {
	case reflect.Slice:
		return check(t.Elem(), path+"[]", above)
	case reflect.Array:
		return check(t.Elem(), path+"[]", above)
	case reflect.Pointer:
		if k := t.Elem().Kind(); k == reflect.Pointer || k == reflect.Map || k == reflect.Slice {
			return refuse("%s is a pointer to a %s (%s): a nil inside can't be told from a nil pointer", path, k, t)
		}
		return check(t.Elem(), path, above)
	case reflect.Map:
		b := keyBuilder{}
		if err := b.add(t.Key(), 0, path+" key"); err != nil {
			return err
		}
		return check(t.Elem(), path+"[]", above)
	case reflect.Struct:
		return checkStruct(t, path, above)
	}
	if _, ok := plainKeyKinds[t.Kind()]; ok {
		return nil
	}
	return refuse("%s is a %s (%s), which can't be stored", path, t.Kind(), t)
}

func checkStruct(t reflect.Type, path string, above []reflect.Type) error {
	seen := map[string]string{}
	for _, f := range structFields(t) {
		at := path + "." + f.path
		if f.hidden != "" {
			return refuse("field %s is %s and would be lost", at, f.hidden)
		}
		if other := seen[f.name]; other != "" {
			return refuse("fields %s and %s are both stored as %q: one would be lost", other, at, f.name)
		}
		seen[f.name] = at
		if err := check(f.typ, at, above); err != nil {
			return err
		}
	}
	return nil
}

// field is a field as CBOR sees it: those of untagged embedded structs count as fields of the outer one.
type field struct {
	name   string // in the stored form
	path   string // in Go
	typ    reflect.Type
	off    uintptr
	hidden string // why it would be lost, or ""
}

func structFields(t reflect.Type) []field {
	var all []field
	for i := range t.NumField() {
		f := t.Field(i)
		tag, tagged := f.Tag.Lookup("cbor")
		if !tagged {
			tag = f.Tag.Get("json")
		}
		name, _, _ := strings.Cut(tag, ",")
		switch {
		case f.Name == "_" && tag == "":
			continue
		case f.Name == "_":
			all = append(all, field{path: f.Name, hidden: "tagged " + tag})
			continue
		case !f.IsExported():
			all = append(all, field{path: f.Name, typ: f.Type, hidden: "unexported"})
			continue
		case tag == "-":
			all = append(all, field{path: f.Name, typ: f.Type, hidden: `tagged "-"`})
			continue
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct && !hasOwnCodec(f.Type):
			for _, in := range structFields(f.Type) {
				in.path, in.off = f.Name+"."+in.path, in.off+f.Offset
				all = append(all, in)
			}
			continue
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Pointer:
			all = append(all, field{path: f.Name, hidden: "an embedded pointer without a name tag"})
			continue
		case name == "":
			name = f.Name
		}
		all = append(all, field{name: name, path: f.Name, typ: f.Type, off: f.Offset})
	}
	return all
}

var (
	typeTime = reflect.TypeFor[time.Time]()
	typeBig  = reflect.TypeFor[big.Int]()
)

// ownCodec tells whether a type brings its own byte form, and refuses one that brings half of it.
func ownCodec(t reflect.Type, path string) (bool, error) {
	if t == typeTime || t == typeBig {
		return true, nil
	}
	if t.Kind() == reflect.Pointer || t.Kind() == reflect.Interface {
		return false, nil
	}
	p := reflect.PointerTo(t)
	for _, pair := range []struct {
		out, in   reflect.Type
		outN, inN string
	}{
		{reflect.TypeFor[encoding.BinaryMarshaler](), reflect.TypeFor[encoding.BinaryUnmarshaler](), "MarshalBinary", "UnmarshalBinary"},
		{reflect.TypeFor[cbor.Marshaler](), reflect.TypeFor[cbor.Unmarshaler](), "MarshalCBOR", "UnmarshalCBOR"},
	} {
		switch out, in := p.Implements(pair.out), p.Implements(pair.in); {
		case out && in:
			return true, nil
		case out:
			return false, refuse("%s: type %s has %s but not %s", path, t, pair.outN, pair.inN)
		case in:
			return false, refuse("%s: type %s has %s but not %s", path, t, pair.inN, pair.outN)
		}
	}
	return false, nil
}

func hasOwnCodec(t reflect.Type) bool {
	own, err := ownCodec(t, "")
	return own && err == nil
}

func hasBinary(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return t != typeTime && t.Kind() != reflect.Pointer && t.Kind() != reflect.Interface &&
		p.Implements(reflect.TypeFor[encoding.BinaryMarshaler]()) && p.Implements(reflect.TypeFor[encoding.BinaryUnmarshaler]())
}

// IsFlat tells whether a shallow copy of a value is a snapshot of it: there is nothing in it that can be changed through
// a copy. Strings and time.Time count as flat, for what they point to never changes.
func IsFlat(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Array:
		return t.Len() == 0 || IsFlat(t.Elem())
	case reflect.Struct:
		if t == typeTime {
			return true
		}
		for i := range t.NumField() {
			if !IsFlat(t.Field(i).Type) {
				return false
			}
		}
		return true
	}
	_, plain := plainKeyKinds[t.Kind()]
	return plain
}

// shapeOf writes the stored shape of a type that was checked: names of fields, not of types.
func shapeOf(t reflect.Type) string {
	switch {
	case t == typeTime:
		return "time"
	case hasOwnCodec(t):
		return "own(" + t.String() + ")"
	}
	switch t.Kind() {
	case reflect.Slice:
		return "[]" + shapeOf(t.Elem())
	case reflect.Array:
		return fmt.Sprintf("[%d]%s", t.Len(), shapeOf(t.Elem()))
	case reflect.Pointer:
		return "*" + shapeOf(t.Elem())
	case reflect.Map:
		return "map[" + shapeOf(t.Key()) + "]" + shapeOf(t.Elem())
	case reflect.Struct:
		var parts []string
		for _, f := range structFields(t) {
			if f.hidden == "" {
				parts = append(parts, quoteName(f.name)+" "+shapeOf(f.typ))
			}
		}
		return "struct{" + strings.Join(parts, ",") + "}"
	}
	return t.Kind().String()
}

// keyShape writes the shape of a key that was checked: all its parts in the order of its byte form, for which methods and
// tags don't count.
func keyShape(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Array:
		return fmt.Sprintf("[%d]%s", t.Len(), keyShape(t.Elem()))
	case reflect.Struct:
		var parts []string
		for _, f := range structFields(t) {
			switch {
			case f.typ == nil: // a name of "_"
			case f.hidden != "":
				parts = append(parts, quoteName(f.path)+" "+keyShape(f.typ))
			default:
				parts = append(parts, quoteName(f.name)+" "+keyShape(f.typ))
			}
		}
		return "struct{" + strings.Join(parts, ",") + "}"
	}
	return t.Kind().String()
}

// quoteName keeps plain names readable and all others unambiguous.
func quoteName(s string) string {
	for _, r := range s {
		if r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') {
			return fmt.Sprintf("%q", s)
		}
	}
	return s
}
