package state

import (
	"bytes"
	"cmp"
	"encoding/binary"
)

// visitor gets an entry of a group: its key, also as bytes, the number of the signature its value was stored under, and bytes
// that begin with the value; it returns what follows that. The bytes are good during the call only.
type visitor[K comparable] func(k K, key []byte, form byte, src []byte) (rest []byte, err error)

// readGroup calls visit for each entry that the disk has of a group, each once: single entries, then those of the pack that
// none of them is for. over is how many single entries there are if there is a pack, else -1.
func (f *family[K, V]) readGroup(d Scanner, start int64, g int, visit visitor[K]) (over int, err error) {
	prefix := f.groupKey(nil, start, g)
	packed, err := hasPack(d, prefix)
	if err != nil {
		return 0, err
	}
	if !packed {
		return -1, f.singles(d, prefix, nil, visit)
	}
	seen := map[string]bool{}
	if err := f.singles(d, prefix, seen, visit); err != nil {
		return 0, err
	}
	return len(seen), f.packed(d, prefix, seen, visit)
}

// hasPack tells whether a group has a pack.
func hasPack(d Scanner, prefix []byte) (has bool, err error) {
	from, to := packBounds(prefix)
	err = d.Scan(from, to, func(_, _ []byte) bool {
		has = true
		return false
	})
	return has, err
}

// packBounds are those of the chunks of a group's pack.
func packBounds(prefix []byte) (from, to []byte) {
	return append(bytes.Clone(prefix), tagPack), append(bytes.Clone(prefix), tagEntry)
}

// singles calls visit for each single entry of a group. If there is a pack, seen notes the keys, and of which the pack's entry
// is gone; of those visit isn't called.
func (f *family[K, V]) singles(d Scanner, prefix []byte, seen map[string]bool, visit visitor[K]) error {
	from := append(bytes.Clone(prefix), tagEntry)
	var bad error
	err := d.Scan(from, after(prefix), func(key, raw []byte) bool {
		key = key[len(from):]
		if seen != nil {
			gone := len(raw) == 1 && raw[0] == formGone
			if seen[string(key)] = gone; gone {
				return true
			}
		}
		bad = f.single(key, raw, visit)
		return bad == nil
	})
	return cmp.Or(bad, err)
}

func (f *family[K, V]) single(key, raw []byte, visit visitor[K]) error {
	k, rest, err := f.keys.Decode(key)
	if err != nil {
		return err
	}
	if len(rest) > 0 || len(raw) == 0 {
		return errLength
	}
	rest, err = visit(k, key, raw[0], raw[1:])
	if err == nil && len(rest) > 0 {
		return errLength
	}
	return err
}

// packed calls visit for each entry of a group's pack but those in over.
func (f *family[K, V]) packed(d Scanner, prefix []byte, over map[string]bool, visit visitor[K]) error {
	from, to := packBounds(prefix)
	var bad error
	err := d.Scan(from, to, func(_, raw []byte) bool {
		bad = f.chunk(raw, over, visit)
		return bad == nil
	})
	return cmp.Or(bad, err)
}

func (f *family[K, V]) chunk(raw []byte, over map[string]bool, visit visitor[K]) error {
	if len(raw) < chunkHead {
		return errShort
	}
	form, src := raw[0], raw[chunkHead:]
	for range binary.LittleEndian.Uint32(raw[1:]) {
		k, val, err := f.keys.Decode(src)
		if err != nil {
			return err
		}
		key := src[:len(src)-len(val)]
		known := false
		if len(over) > 0 {
			_, known = over[string(key)]
		}
		if known {
			_, src, err = f.cutValue(form, val)
		} else {
			src, err = visit(k, key, form, val)
		}
		if err != nil {
			return err
		}
	}
	if len(src) > 0 {
		return errLength
	}
	return nil
}

// decode reads a value from the front of src.
func (f *family[K, V]) decode(form byte, src []byte, v *V) (rest []byte, err error) {
	if int(form) >= len(f.codecs) {
		return nil, damaged("a value of state %q has an unknown form", f.name)
	}
	return f.codecs[form].Decode(src, v)
}

// decodeAll reads a single entry's value.
func (f *family[K, V]) decodeAll(raw []byte, v *V) error {
	if len(raw) == 0 {
		return errShort
	}
	rest, err := f.decode(raw[0], raw[1:], v)
	if err == nil && len(rest) > 0 {
		return errLength
	}
	f.sized(len(raw))
	return err
}

// cutValue divides src after the value that it begins with.
func (f *family[K, V]) cutValue(form byte, src []byte) (val, rest []byte, err error) {
	var v V
	rest, err = f.decode(form, src, &v)
	return src[:len(src)-len(rest)], rest, err
}

// unfold makes the entries of a group that may have a pack ones that can be found: all of them in memory if there is room, else
// single ones on the disk. That waits for nobody: while a capture is on its way to the disk, they go to memory.
func (t *table[K, V]) unfold(g int) (all bool) {
	f := t.fam
	has, err := hasPack(f.b.disk, f.groupKey(nil, t.start, g))
	f.b.must(err, "look for a packed key group")
	if has && t.fill(g, f.b.idle()) {
		return true
	}
	if has {
		t.loosen(g)
	}
	t.back[g].packed = noPack
	return false
}

// loosen turns a group's pack on the disk into single entries.
func (t *table[K, V]) loosen(g int) {
	f := t.fam
	w := f.b.disk.Batch()
	err := f.loosened(w, f.groupKey(nil, t.start, g))
	if err == nil {
		err = w.Commit()
	}
	f.b.must(err, "unpack a key group")
	t.back[g].packed, t.back[g].over = noPack, 0
}

func (f *family[K, V]) loosened(w Batch, prefix []byte) error {
	over := map[string]bool{}
	err := f.singles(f.b.disk, prefix, over, func(_ K, _ []byte, form byte, src []byte) ([]byte, error) {
		_, rest, err := f.cutValue(form, src)
		return rest, err
	})
	if err != nil {
		return err
	}
	key := append(bytes.Clone(prefix), tagEntry)
	for k, gone := range over {
		if gone {
			if err := w.Delete(append(key[:len(prefix)+1], k...)); err != nil {
				return err
			}
		}
	}
	err = f.packed(f.b.disk, prefix, over, func(_ K, k []byte, form byte, src []byte) ([]byte, error) {
		val, rest, err := f.cutValue(form, src)
		if err != nil {
			return nil, err
		}
		f.b.value = append(append(f.b.value[:0], form), val...)
		return rest, w.Set(append(key[:len(prefix)+1], k...), f.b.value)
	})
	if err != nil {
		return err
	}
	return w.DeleteRange(packBounds(prefix))
}
