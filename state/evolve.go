package state

import (
	"reflect"
	"strconv"
	"strings"
)

// readerOf is the codec that reads what was stored under the signature was into V, whose own codec is c. The signatures
// must be compatible.
func readerOf[V any](was string, c Codec[V]) (Codec[V], bool) {
	text, fixedForm := strings.CutPrefix(was, "fixed:")
	switch {
	case was == c.Signature():
		return c, true
	case fixedForm:
		return oldFixed[V](text)
	}
	return cborForm[V]{sig: was}, strings.HasPrefix(was, "cbor:")
}

// place is where a part of a value lies in memory.
type place struct {
	kind keyKind
	off  uintptr
}

// oldFixed reads the fixed form of another shape: parts that V has too, by their path, are taken and perhaps widened, others
// skipped.
func oldFixed[V any](text string) (Codec[V], bool) {
	s, rest := parseShape(text)
	if s == nil || rest != "" {
		return nil, false
	}
	places := map[string]place{}
	findPlaces(places, reflect.TypeFor[V](), 0, "")
	ops, ok := s.fixedOps(nil, places, "")
	if !ok {
		return nil, false
	}
	return newFixed[V](ops, "fixed:"+text), true
}

func findPlaces(places map[string]place, t reflect.Type, off uintptr, path string) {
	switch {
	case hasOwnCodec(t) || len(places) > maxFixedOps:
	case t.Kind() == reflect.Struct:
		for _, f := range structFields(t) {
			findPlaces(places, f.typ, off+f.off, path+"."+f.name)
		}
	case t.Kind() == reflect.Array:
		for i := range t.Len() {
			findPlaces(places, t.Elem(), off+uintptr(i)*t.Elem().Size(), path+"["+strconv.Itoa(i)+"]")
		}
	default:
		if k, ok := plainKeyKinds[t.Kind()]; ok {
			places[path] = place{k, off}
		}
	}
}

// fixedOps lists the parts of a fixed form in their order; ok is false if it can't be one.
func (s *shape) fixedOps(ops []fixedOp, places map[string]place, path string) (_ []fixedOp, ok bool) {
	ok = len(ops) <= maxFixedOps
	switch {
	case s.head == "struct":
		for i := 0; ok && i < len(s.fields); i++ {
			ops, ok = s.fields[i].fixedOps(ops, places, path+"."+s.fields[i].name)
		}
		return ops, ok
	case s.elem != nil:
		n, err := strconv.Atoi(strings.Trim(s.head, "[]"))
		ok = ok && err == nil
		for i := 0; ok && i < n; i++ {
			ops, ok = s.elem.fixedOps(ops, places, path+"["+strconv.Itoa(i)+"]")
		}
		return ops, ok
	}
	k, known := fixedKinds[s.head]
	op := fixedOp{kind: keySkip, n: (&keyOp{kind: k}).size()}
	if p, had := places[path]; had {
		op.kind, op.off = k, p.off
		if p.kind != k {
			op.to = p.kind
		}
	}
	return append(ops, op), ok && known
}

// fixedKinds are the kinds of parts by the names that shapes use.
var fixedKinds = func() map[string]keyKind {
	m := map[string]keyKind{}
	for k, v := range plainKeyKinds {
		if v != keyString {
			m[k.String()] = v
		}
	}
	return m
}()
