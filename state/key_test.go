package state

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
)

func keyOf[K comparable](tb testing.TB) *Key[K] {
	tb.Helper()
	k, err := KeyOf[K]()
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

type sixteen struct {
	A [16]byte
	B int16
	C uint8
	D bool
	E float32
	F float64
	G int
	H [2]string
}

// The hashes and bytes are part of the file format: if this test fails, the code is wrong and not the test.
func TestKeyFormIsForEver(t *testing.T) {
	one := sixteen{[16]byte{1, 2}, -3, 4, true, 1.5, -2.25, -7, [2]string{"a", "bc"}}
	for _, c := range []struct {
		name  string
		hash  uint64
		bytes string
		h     uint64
		b     []byte
	}{
		formOf(t, "int64 1", int64(1), 0x4179b061e0c0e0d0, "0100000000000000"),
		formOf(t, "int -1", -1, 0x448e29ced4103459, "ffffffffffffffff"),
		formOf(t, "int8 -1", int8(-1), 0x448e29ced4103459, "ff"),
		formOf(t, "uint32", uint32(1<<31), 0x25716a8621f298ed, "00000080"),
		formOf(t, "string", "weir", 0x25cb98be5b82688e, "0477656972"),
		formOf(t, "empty", "", 0xef46db3751d8e999, "00"),
		formOf(t, "struct", one, 0xaed1ff52d514ffb0,
			"01020000000000000000000000000000fdff04010000c03f00000000000002c0f9ffffffffffffff0161026263"),
	} {
		if c.h != c.hash || fmt.Sprintf("%x", c.b) != c.bytes {
			t.Errorf("%s: hash %#x bytes %x, want %#x %s", c.name, c.h, c.b, c.hash, c.bytes)
		}
	}
}

func formOf[K comparable](t *testing.T, name string, k K, hash uint64, bytes string) (c struct {
	name  string
	hash  uint64
	bytes string
	h     uint64
	b     []byte
},
) {
	key := keyOf[K](t)
	c.name, c.hash, c.bytes, c.h, c.b = name, hash, bytes, key.Hash(k), key.AppendBytes(nil, k)
	back, rest, err := key.Decode(append(c.b, "rest"...))
	if err != nil || back != k || string(rest) != "rest" {
		t.Errorf("%s: decoded %v, rest %q, %v", name, back, rest, err)
	}
	if all := key.HashAll([]K{k, k}, nil); all[0] != c.h || all[1] != c.h {
		t.Errorf("%s: HashAll %x, Hash %x", name, all, c.h)
	}
	return c
}

func TestZeroHasOneForm(t *testing.T) {
	type both struct {
		A float32
		B float64
	}
	key, minus := keyOf[both](t), both{float32(math.Copysign(0, -1)), math.Copysign(0, -1)}
	if key.Hash(minus) != key.Hash(both{}) || !bytes.Equal(key.AppendBytes(nil, minus), key.AppendBytes(nil, both{})) {
		t.Error("-0 and 0 are equal but have two forms")
	}
	nan := both{A: float32(math.NaN())}
	if key.Valid(nan) || key.Valid(both{B: math.NaN()}) || !key.Valid(minus) {
		t.Error("Valid is wrong about NaN")
	}
	if _, _, err := key.Decode([]byte{0, 0, 0xc0, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0}); err == nil {
		t.Error("NaN was decoded")
	}
}

func TestKeyRefusals(t *testing.T) {
	type deep struct {
		Plain int
		In    [2]struct{ P *int }
	}
	for want, err := range map[string]error{
		"deep.In[0].P is a ptr":    errOf(KeyOf[deep]()),
		"is a interface":           errOf(KeyOf[any]()),
		"is a chan":                errOf(KeyOf[chan int]()),
		"uintptr (uintptr)":        errOf(KeyOf[uintptr]()),
		"complex128 is a complex1": errOf(KeyOf[complex128]()),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
}

func errOf[T any](_ T, err error) error { return err }

func TestHashSpreads(t *testing.T) {
	const n, groups = 1 << 16, 128
	for name, gen := range map[string]func(i int) uint64{
		"sequence":  func(i int) uint64 { return uint64(i) },
		"strides":   func(i int) uint64 { return uint64(i) << 20 },
		"high bits": func(i int) uint64 { return uint64(i) << 48 },
	} {
		byGroup, bySlot := make([]int, groups), make([]int, n/64)
		for i := range n {
			h := mix(gen(i))
			byGroup[Group(h, groups)]++
			bySlot[h%uint64(len(bySlot))]++
		}
		for g, c := range byGroup {
			if c < n/groups*3/4 || c > n/groups*5/4 {
				t.Errorf("%s: group %d has %d of %d", name, g, c, n)
			}
		}
		for s, c := range bySlot {
			if c > 64*2 {
				t.Errorf("%s: slot %d has %d keys, 64 expected", name, s, c)
			}
		}
	}
}

func TestRangesCoverAllGroups(t *testing.T) {
	for _, groups := range []int{1, 2, 7, 16, 100, 128, 1000} {
		for p := 1; p <= groups+3; p++ {
			next := 0
			for task := range p {
				first, last := Range(task, p, groups)
				if first != next {
					t.Fatalf("task %d of %d: groups %d-%d, want from %d", task, p, first, last, next)
				}
				for g := first; g <= last; g++ {
					if Owner(g, p, groups) != task {
						t.Fatalf("group %d of %d: owner %d of %d, want %d", g, groups, Owner(g, p, groups), p, task)
					}
				}
				next = last + 1
			}
			if next != groups {
				t.Fatalf("%d tasks cover %d of %d groups", p, next, groups)
			}
		}
	}
}

func TestHotPathsDoNotAllocate(t *testing.T) {
	key := keyOf[sixteen](t)
	sc := NewScope(key, 8, 0, 7)
	v, p, k := NewValue[int64](sc, "v"), NewPanes[benchAcc](sc, "p"), sixteen{H: [2]string{"x", "y"}}
	hs := make([]uint64, 1)
	if n := testing.AllocsPerRun(100, func() {
		hs = key.HashAll([]sixteen{k}, hs)
		sc.Warm(hs)
		sc.SetKey(k, key.Hash(k))
		*v.Ref()++
		p.At(5).N++
		v.Get()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Any bytes are decoded without a panic, and what was decoded is written as the same bytes.
func FuzzKeyDecode(f *testing.F) {
	key := keyOf[sixteen](f)
	f.Add(key.AppendBytes(nil, sixteen{H: [2]string{"a", "b"}}))
	f.Fuzz(func(t *testing.T, src []byte) {
		k, rest, err := key.Decode(src)
		if err != nil {
			return
		}
		again, _, err := key.Decode(key.AppendBytes(nil, k))
		if err != nil || !reflect.DeepEqual(again, k) || len(rest) > len(src) {
			t.Errorf("%v became %v: %v", k, again, err)
		}
	})
}
