package state

import (
	"fmt"
	"strings"
)

// mismatch says why bytes of one signature can't be read as another, beginning with the place where the two first differ; it's
// empty if they can. Structs may have gained and lost fields, numbers may have become wider; all else must be the same.
func mismatch(was, is string) string {
	if was == is {
		return ""
	}
	wasKey, wasVal, ok1 := cutKey(was)
	isKey, isVal, ok2 := cutKey(is)
	switch {
	case ok1 != ok2:
		return differs("the state", was, is)
	case ok1 && wasKey != isKey:
		return differs("the key", wasKey, isKey)
	case ok1:
		return formMismatch(wasVal, isVal, "")
	}
	return formMismatch(was, is, "")
}

func formMismatch(was, is, path string) string {
	if was == is {
		return ""
	}
	a, b := parseForm(was), parseForm(is)
	switch {
	case a == nil || b == nil || a.plain() != b.plain() || !a.plain() && (a.kind != b.kind || a.elem == nil):
		return differs(placeAt(path), was, is)
	case a.plain():
		return a.shape.mismatch(b.shape, a.kind == "cbor", path)
	case a.kind == "map" && a.key.String() != b.key.String():
		return differs("a key of "+placeAt(path), a.key, b.key)
	}
	return formMismatch(a.elemText(), b.elemText(), path+"[]")
}

// plain tells whether a form is the one of a type, by its shape.
func (f *form) plain() bool { return f.shape != nil }

// elemText is the signature of a list's items or a map's values.
func (f *form) elemText() string {
	if f.kind == "list" {
		return f.text
	}
	_, val, _ := cutMap(f.text)
	return val
}

func differs(what string, was, is any) string {
	return fmt.Sprintf("%s is %s and was %s", what, is, was)
}

func placeAt(path string) string {
	if path == "" {
		return "the value"
	}
	return path
}

// mismatch is as for signatures. In CBOR a list of bytes is a string of them, whose elements can't become wider.
func (s *shape) mismatch(to *shape, inCBOR bool, path string) string {
	switch {
	case s.elem == nil && to.elem == nil && widens(s.head, to.head):
		return ""
	case s.head != to.head || (s.elem == nil) != (to.elem == nil):
		return differs(placeAt(path), s, to)
	case s.elem != nil && s.head[0] == '[' && inCBOR && s.elem.head == "uint8" && to.elem.head != "uint8":
		return differs(placeAt(path), s, to) + ", which is stored as a string of bytes"
	case s.elem != nil && s.head[0] == '*':
		return s.elem.mismatch(to.elem, inCBOR, path)
	case s.elem != nil:
		return s.elem.mismatch(to.elem, inCBOR, path+"[]")
	}
	for _, f := range s.fields {
		for _, other := range to.fields {
			if f.name == other.name {
				if why := f.mismatch(other.shape, inCBOR, path+"."+quoteName(f.name)); why != "" {
					return why
				}
			}
		}
	}
	return ""
}

// String is the shape as signatures have it.
func (s *shape) String() string {
	switch {
	case s.elem != nil:
		return s.head + s.elem.String()
	case s.head != "struct":
		return s.head
	}
	parts := make([]string, len(s.fields))
	for i, f := range s.fields {
		parts[i] = quoteName(f.name) + " " + f.String()
	}
	return "struct{" + strings.Join(parts, ",") + "}"
}

// widths ranks the numbers of one sort. int and uint have 8 bytes wherever they are stored, and may have 4 in memory.
var widths = map[string]struct{ sort, rank int }{
	"int8": {1, 1}, "int16": {1, 2}, "int32": {1, 3}, "int": {1, 4}, "int64": {1, 5},
	"uint8": {2, 1}, "uint16": {2, 2}, "uint32": {2, 3}, "uint": {2, 4}, "uint64": {2, 5},
	"float32": {3, 1}, "float64": {3, 2},
}

// widens tells whether all values of one basic kind are values of another, or the two are the same.
func widens(was, is string) bool {
	a, b := widths[was], widths[is]
	return was == is && was != "struct" || a.sort != 0 && a.sort == b.sort && a.rank <= b.rank
}
