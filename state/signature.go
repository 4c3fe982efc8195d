package state

import (
	"strconv"
	"strings"
)

// A signature says how keys and values are stored:
//
//	state    key " -> " form            key is the shape of the key's parts, with "@int64" behind it for timers
//	form     "fixed:" shape             the parts one after the other
//	         "cbor:" shape              a length and CBOR
//	         "binary:" type             a length and what the type's MarshalBinary gave
//	         "list:" form               a count and the items
//	         "map(" key ")" form        a count and the pairs
//	         "none"                     nothing
//	shape    a basic kind, "[]" shape, "[3]" shape, "*" shape, "map[" shape "]" shape, "struct{" name " " shape "," ... "}",
//	         "own(" type ")", "time"

// form is a parsed form.
type form struct {
	kind  string // "fixed", "cbor", "binary", "list", "map", "none"
	key   *shape // of a map
	elem  *form  // of a list or map
	shape *shape // of fixed and cbor
	text  string // what follows the kind
}

// parseState reads the signature of a keyed state; ok is false if it isn't one.
func parseState(sig string) (key *shape, timer bool, val *form, ok bool) {
	key, rest := parseShape(sig)
	rest, timer = strings.CutPrefix(rest, "@int64")
	rest, ok = strings.CutPrefix(rest, " -> ")
	if key == nil || !ok {
		return nil, false, nil, false
	}
	val = parseForm(rest)
	return key, timer, val, val != nil
}

// cutKey splits the signature of a keyed state into those of key and value.
func cutKey(sig string) (key, val string, ok bool) {
	if s, rest := parseShape(sig); s != nil {
		at := strings.Index(rest, " -> ")
		if at < 0 {
			return "", "", false
		}
		at += len(sig) - len(rest)
		return sig[:at], sig[at+len(" -> "):], true
	}
	return strings.Cut(sig, " -> ")
}

// cutMap splits what follows "map(" in a signature.
func cutMap(src string) (key, val string, ok bool) {
	if s, rest := parseShape(src); s != nil && strings.HasPrefix(rest, ")") {
		return src[:len(src)-len(rest)], rest[1:], true
	}
	return "", "", false
}

// parseForm reads a form; nil if it isn't one.
func parseForm(src string) *form { return parseFormAt(src, 0) }

func parseFormAt(src string, depth int) *form {
	if depth > maxNesting {
		return nil
	}
	if src == "none" {
		return &form{kind: src}
	}
	if inner, ok := strings.CutPrefix(src, "map("); ok {
		key, val, ok := cutMap(inner)
		if !ok {
			return nil
		}
		k, _ := parseShape(key)
		return withElem(&form{kind: "map", key: k, text: inner}, val, depth)
	}
	kind, text, _ := strings.Cut(src, ":")
	f := &form{kind: kind, text: text}
	switch kind {
	case "list":
		return withElem(f, text, depth)
	case "fixed", "cbor":
		s, rest := parseShape(text)
		if s == nil || rest != "" {
			return nil
		}
		f.shape = s
		return f
	case "binary":
		return f
	}
	return nil
}

func withElem(f *form, src string, depth int) *form {
	if f.elem = parseFormAt(src, depth+1); f.elem == nil {
		return nil
	}
	return f
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

// maxNesting bounds what is read of a signature; no type that is stored goes as deep.
const maxNesting = 500

// parseShape reads a shape from the front of src; nil if it isn't one.
func parseShape(src string) (s *shape, rest string) { return parseShapeAt(src, 0) }

func parseShapeAt(src string, depth int) (s *shape, rest string) {
	switch {
	case depth > maxNesting:
		return nil, ""
	case strings.HasPrefix(src, "struct{"):
		return parseStruct(src[len("struct{"):], depth)
	case strings.HasPrefix(src, "*"):
		return parseElem("*", src[1:], depth)
	case strings.HasPrefix(src, "map["):
		_, after := parseShapeAt(src[len("map["):], depth+1)
		if !strings.HasPrefix(after, "]") {
			return nil, ""
		}
		return parseElem(src[:len(src)-len(after)+1], after[1:], depth)
	case strings.HasPrefix(src, "["):
		if end := strings.IndexByte(src, ']'); end > 0 {
			return parseElem(src[:end+1], src[end+1:], depth)
		}
		return nil, ""
	case strings.HasPrefix(src, "own("):
		// A type's name may have brackets of its own: pkg.Set[func(string)].
		if end := closing(src); end > 0 {
			return &shape{head: src[:end+1]}, src[end+1:]
		}
		return nil, ""
	}
	end := strings.IndexFunc(src, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
	if end < 0 {
		end = len(src)
	}
	if end == 0 {
		return nil, ""
	}
	return &shape{head: src[:end]}, src[end:]
}

// closing is where the first round bracket of src is closed, 0 if it isn't.
func closing(src string) int {
	open := 0
	for i := range len(src) {
		switch src[i] {
		case '(':
			open++
		case ')':
			if open--; open == 0 {
				return i
			}
		}
	}
	return 0
}

func parseElem(head, src string, depth int) (*shape, string) {
	elem, rest := parseShapeAt(src, depth+1)
	if elem == nil {
		return nil, ""
	}
	return &shape{head: head, elem: elem}, rest
}

func parseStruct(src string, depth int) (*shape, string) {
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
		f, rest := parseShapeAt(after[1:], depth+1)
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

// length is the number of elements of an array's shape; ok is false if it isn't one.
func (s *shape) length() (n int, ok bool) {
	if s.elem == nil || len(s.head) < 3 || s.head[0] != '[' {
		return 0, false
	}
	n, err := strconv.Atoi(s.head[1 : len(s.head)-1])
	return n, err == nil && n >= 0
}

// hollow tells whether a plain shape has no bytes at all.
func (s *shape) hollow() bool {
	if s.head == "struct" {
		for _, f := range s.fields {
			if !f.hollow() {
				return false
			}
		}
		return true
	}
	n, ok := s.length()
	return ok && (n == 0 || s.elem.hollow())
}
