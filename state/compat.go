package state

import "strings"

// compatible tells whether bytes of one signature can be read as another. Structs may have gained and lost fields; all
// else must be the same.
func compatible(was, is string) bool {
	if was == is {
		return true
	}
	wasKey, wasVal, ok1 := cutKey(was)
	isKey, isVal, ok2 := cutKey(is)
	if ok1 && ok2 {
		return wasKey == isKey && compatible(wasVal, isVal)
	}
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
		aKey, aVal, _ := cutMap(a)
		bKey, bVal, _ := cutMap(b)
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
