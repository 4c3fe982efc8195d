package state

import (
	"strconv"
	"strings"
)

// compatible tells whether bytes of one signature can be read as another. Structs may have gained and lost fields; all
// else must be the same.
func compatible(was, is string) bool {
	if was == is {
		return true
	}
	wasKey, wasVal, ok1 := strings.Cut(was, " -> ")
	isKey, isVal, ok2 := strings.Cut(is, " -> ")
	if ok1 && ok2 {
		return wasKey == isKey && compatible(wasVal, isVal)
	}
	was, is = strings.TrimPrefix(was, ttlForm), strings.TrimPrefix(is, ttlForm)
	for {
		a, okA := strings.CutPrefix(was, "list:")
		b, okB := strings.CutPrefix(is, "list:")
		if !okA || !okB {
			break
		}
		was, is = a, b
	}
	if a, okA := strings.CutPrefix(was, "map("); okA {
		b, okB := strings.CutPrefix(is, "map(")
		aKey, aVal, _ := strings.Cut(a, ")")
		bKey, bVal, _ := strings.Cut(b, ")")
		return okB && aKey == bKey && compatible(aVal, bVal)
	}
	a, okA := cutForm(was)
	b, okB := cutForm(is)
	if !okA || !okB {
		return was == is
	}
	sa, restA := parseShape(a)
	sb, restB := parseShape(b)
	return sa != nil && sb != nil && restA == "" && restB == "" && sa.fits(sb)
}

// cutForm splits the name of a form that follows the shape of the type from a signature.
func cutForm(sig string) (shape string, ok bool) {
	if rest, ok := strings.CutPrefix(sig, "fixed:"); ok {
		return rest, true
	}
	return strings.CutPrefix(sig, "cbor:")
}

// shape is a parsed shape as shapeOf writes it.
type shape struct {
	head   string // a kind, or "[]", "[4]", "*", "map[string]", "struct"
	elem   *shape
	fields []shapeField
}

type shapeField struct {
	name string
	*shape
}

// fits tells whether CBOR of one shape can be decoded into the other.
func (s *shape) fits(to *shape) bool {
	if s.head != to.head || (s.elem == nil) != (to.elem == nil) {
		return false
	}
	if s.elem != nil {
		return s.elem.fits(to.elem)
	}
	for _, f := range s.fields {
		for _, other := range to.fields {
			if f.name == other.name && !f.fits(other.shape) {
				return false
			}
		}
	}
	return true
}

// parseShape reads a shape from the front of src; nil if it isn't one.
func parseShape(src string) (s *shape, rest string) {
	switch {
	case strings.HasPrefix(src, "struct{"):
		return parseStruct(src[len("struct{"):])
	case strings.HasPrefix(src, "*"):
		return parseElem("*", src[1:])
	case strings.HasPrefix(src, "map["):
		_, after := parseShape(src[len("map["):])
		if !strings.HasPrefix(after, "]") {
			return nil, ""
		}
		return parseElem(src[:len(src)-len(after)+1], after[1:])
	case strings.HasPrefix(src, "["):
		if end := strings.IndexByte(src, ']'); end > 0 {
			return parseElem(src[:end+1], src[end+1:])
		}
		return nil, ""
	case strings.HasPrefix(src, "own("):
		// A type's name may have brackets of its own: pkg.Set[string].
		if end := strings.IndexByte(src, ')'); end > 0 {
			return &shape{head: src[:end+1]}, src[end+1:]
		}
		return nil, ""
	}
	end := strings.IndexAny(src, ",}]")
	if end < 0 {
		end = len(src)
	}
	if end == 0 {
		return nil, ""
	}
	return &shape{head: src[:end]}, src[end:]
}

func parseElem(head, src string) (*shape, string) {
	elem, rest := parseShape(src)
	if elem == nil {
		return nil, ""
	}
	return &shape{head: head, elem: elem}, rest
}

func parseStruct(src string) (*shape, string) {
	s := &shape{head: "struct"}
	for !strings.HasPrefix(src, "}") {
		name, after := src, ""
		if q, err := strconv.QuotedPrefix(src); err == nil {
			name, _ = strconv.Unquote(q)
			after = src[len(q):]
		} else if i := strings.IndexByte(src, ' '); i > 0 {
			name, after = src[:i], src[i:]
		}
		if !strings.HasPrefix(after, " ") {
			return nil, ""
		}
		f, rest := parseShape(after[1:])
		if f == nil {
			return nil, ""
		}
		s.fields = append(s.fields, shapeField{name, f})
		src = strings.TrimPrefix(rest, ",")
		if src == "" {
			return nil, ""
		}
	}
	return s, src[1:]
}
