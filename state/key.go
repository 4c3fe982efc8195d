package state

import (
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"strings"
	"unsafe"

	"github.com/cespare/xxhash/v2"

	"github.com/weirline/weirline/internal/fault"
)

// Key knows how to hash and write keys of type K: integers, floats, bools, strings, and structs and arrays of those.
// Hashes and bytes are the same for ever, in every process and on every architecture. A Key is immutable and may be
// used by any number of goroutines.
type Key[K comparable] struct {
	ops     []keyOp
	fast    keyKind // the only op's kind if K is a plain integer or string, else 0
	size    int     // bytes of the byte form, -1 if it varies
	floats  bool
	strings bool
	sig     string
}

// KeyOf builds the Key of K by reflection; do it once. It refuses types with pointers, interfaces, channels and other
// things whose identity doesn't outlive the process, and says where they are.
func KeyOf[K comparable]() (*Key[K], error) {
	t := reflect.TypeFor[K]()
	b := keyBuilder{}
	if err := b.add(t, 0, rootName(t)); err != nil {
		return nil, err
	}
	c := &Key[K]{ops: b.ops, sig: keyShape(t)}
	for _, op := range b.ops {
		c.strings = c.strings || op.kind == keyString
		c.floats = c.floats || op.kind == keyFloat32 || op.kind == keyFloat64
		c.size += op.size()
	}
	if c.strings {
		c.size = -1
	}
	if len(b.ops) == 1 && b.ops[0].off == 0 && b.ops[0].kind.fast() {
		c.fast = b.ops[0].kind
	}
	return c, nil
}

// Signature names the shape of K, such as "struct{User string,Shard int32}".
func (c *Key[K]) Signature() string { return c.sig }

// Hash is the stable hash of k. It doesn't allocate.
func (c *Key[K]) Hash(k K) uint64 {
	p := unsafe.Pointer(&k)
	switch c.fast {
	case keyInt64:
		return mix(*(*uint64)(p))
	case keyString:
		return xxhash.Sum64String(*(*string)(p))
	}
	return hashOps(c.ops, p)
}

// HashAll writes the hashes of ks to dst, which it grows if it must, and returns it with length len(ks).
func (c *Key[K]) HashAll(ks []K, dst []uint64) []uint64 {
	if cap(dst) < len(ks) {
		dst = make([]uint64, len(ks))
	}
	dst = dst[:len(ks)]
	if len(ks) == 0 {
		return dst
	}
	first := unsafe.Pointer(unsafe.SliceData(ks))
	switch c.fast {
	case keyInt64:
		for i, v := range unsafe.Slice((*uint64)(first), len(ks)) {
			dst[i] = mix(v)
		}
	case keyInt32:
		for i, v := range unsafe.Slice((*int32)(first), len(ks)) {
			dst[i] = mix(uint64(int64(v)))
		}
	case keyUint32:
		for i, v := range unsafe.Slice((*uint32)(first), len(ks)) {
			dst[i] = mix(uint64(v))
		}
	case keyString:
		for i, v := range unsafe.Slice((*string)(first), len(ks)) {
			dst[i] = xxhash.Sum64String(v)
		}
	default:
		for i := range ks {
			dst[i] = hashOps(c.ops, unsafe.Pointer(&ks[i]))
		}
	}
	return dst
}

// Valid is false for a key that has a NaN in it: such a key isn't even equal to itself and can't be found again.
func (c *Key[K]) Valid(k K) bool {
	if !c.floats {
		return true
	}
	p := unsafe.Pointer(&k)
	for _, op := range c.ops {
		if op.isNaN(p) {
			return false
		}
	}
	return true
}

// AppendBytes appends the stable byte form of k to dst. The form says where it ends.
func (c *Key[K]) AppendBytes(dst []byte, k K) []byte {
	p := unsafe.Pointer(&k)
	if c.fast == keyInt64 {
		return binary.LittleEndian.AppendUint64(dst, *(*uint64)(p))
	}
	for i := range c.ops {
		dst = c.ops[i].append(dst, p)
	}
	return dst
}

// Decode reads a key from the front of src and returns what follows it. Strings in it are copies.
func (c *Key[K]) Decode(src []byte) (k K, rest []byte, err error) {
	p := unsafe.Pointer(&k)
	if c.fast == keyInt64 && len(src) >= 8 {
		*(*uint64)(p) = binary.LittleEndian.Uint64(src)
		return k, src[8:], nil
	}
	for i := range c.ops {
		if src, err = c.ops[i].decode(src, p); err != nil {
			var none K
			return none, nil, fmt.Errorf("decode key of type %s: %w", c.sig, err)
		}
	}
	return k, src, nil
}

// slotHash, routeHash and clone make a Key usable as the keyer of a table.
func (c *Key[K]) slotHash(k K) uint64  { return c.Hash(k) }
func (c *Key[K]) routeHash(k K) uint64 { return c.Hash(k) }

// clone gives a key whose strings pin nothing else: a key cut out of a block of input must not keep the block alive.
func (c *Key[K]) clone(k K) K {
	if c.strings {
		p := unsafe.Pointer(&k)
		for _, op := range c.ops {
			if op.kind == keyString {
				s := (*string)(unsafe.Add(p, op.off))
				*s = strings.Clone(*s)
			}
		}
	}
	return k
}

// mix spreads an integer over 64 bits: a bijection whose every output bit depends on every input bit. Part of the file
// format: it must never change.
func mix(x uint64) uint64 {
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	return x ^ x>>32
}

const maxKeyOps = 4096

// keyBuilder flattens a key type into ops.
type keyBuilder struct{ ops []keyOp }

func (b *keyBuilder) add(t reflect.Type, off uintptr, path string) error {
	if len(b.ops) > maxKeyOps {
		return fault.New(fault.BadType, "key type %s has more than %d parts", path, maxKeyOps)
	}
	if k, ok := plainKeyKinds[t.Kind()]; ok {
		b.ops = append(b.ops, keyOp{kind: k, off: off})
		return nil
	}
	switch t.Kind() {
	case reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			b.ops = append(b.ops, keyOp{kind: keyBytes, off: off, n: t.Len()})
			return nil
		}
		for i := range t.Len() {
			if err := b.add(t.Elem(), off+uintptr(i)*t.Elem().Size(), fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
		return nil
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			if f.Name == "_" {
				continue
			}
			if err := b.add(f.Type, off+f.Offset, path+"."+f.Name); err != nil {
				return err
			}
		}
		return nil
	}
	return fault.New(fault.BadType, "%s is a %s (%s), which can't be part of a key: %s", path, t.Kind(), t, keyRefusals[t.Kind()]).
		WithFix("use integers, floats, bools, strings, or structs and arrays of those as key")
}

var keyRefusals = map[reflect.Kind]string{
	reflect.Pointer:       "an address means nothing after a restart",
	reflect.UnsafePointer: "an address means nothing after a restart",
	reflect.Uintptr:       "an address means nothing after a restart",
	reflect.Interface:     "its type isn't known, so it has no stable hash",
	reflect.Chan:          "it can't be stored",
	reflect.Func:          "it can't be stored",
	reflect.Complex64:     "complex numbers have no byte form here",
	reflect.Complex128:    "complex numbers have no byte form here",
}

// plainBits are the bits of a float by which it's hashed and stored: one zero, not two.
func plainBits(f float64) uint64 {
	if f == 0 {
		return 0
	}
	return math.Float64bits(f)
}
