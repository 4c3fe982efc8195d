package state

import (
	"bytes"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/weirline/weirline/internal/fault"
)

// What may become wider, in the fixed form and in CBOR.
type (
	fixedNarrow struct {
		A  int8
		B  uint8
		C  [2]struct{ X int16 }
		D  int32
		E  uint16
		F  uint32
		G  float32
		H  bool
		I  int
		L  [3]uint8
		To int64
	}
	fixedWide struct {
		New int8
		A   int16
		B   uint64
		C   [2]struct{ X int }
		D   int64
		E   uint32
		F   uint
		G   float64
		H   bool
		I   int64
		L   [3]uint16
	}
	cborNarrow struct {
		Name string
		In   []struct{ A int8 }
		Of   map[string]int16
		Ptr  *int32
		Arr  [2]uint8
		Flt  []float32
		Deep map[string][]struct{ B uint32 }
		Raw  []byte
	}
	cborWide struct {
		Name string
		In   []struct{ A int64 }
		Of   map[string]int32
		Ptr  *int64
		Arr  [2]uint8
		Flt  []float64
		Deep map[string][]struct{ B uint64 }
		Raw  []byte
	}
)

func ptr[T any](v T) *T { return &v }

func TestNumbersMayBecomeWider(t *testing.T) {
	f := fixedNarrow{A: -128, B: 255, D: math.MinInt32, E: 65535, F: math.MaxUint32, G: 0.1, H: true, I: math.MinInt, L: [3]uint8{1, 254, 255}, To: 1}
	f.C[0].X, f.C[1].X = math.MinInt16, math.MaxInt16
	w := fixedWide{A: -128, B: 255, D: math.MinInt32, E: 65535, F: math.MaxUint32, G: float64(float32(0.1)), H: true, I: math.MinInt, L: [3]uint16{1, 254, 255}}
	w.C[0].X, w.C[1].X = math.MinInt16, math.MaxInt16
	widened(t, f, w)

	widened(t, cborNarrow{
		Name: "x", In: []struct{ A int8 }{{-128}, {127}}, Of: map[string]int16{"a": -30000, "b": 24}, Ptr: ptr(int32(math.MinInt32)),
		Arr: [2]uint8{1, 255}, Flt: []float32{0.1, float32(math.Inf(-1))}, Deep: map[string][]struct{ B uint32 }{"d": {{math.MaxUint32}}}, Raw: []byte{1, 200},
	}, cborWide{
		Name: "x", In: []struct{ A int64 }{{-128}, {127}}, Of: map[string]int32{"a": -30000, "b": 24}, Ptr: ptr(int64(math.MinInt32)),
		Arr: [2]uint8{1, 255}, Flt: []float64{float64(float32(0.1)), math.Inf(-1)}, Deep: map[string][]struct{ B uint64 }{"d": {{math.MaxUint32}}}, Raw: []byte{1, 200},
	})
}

// widened stores one type and declares another: over memory, over a disk that restores a file, over a disk that has it, and as
// items of an operator list.
func widened[V, W any](t *testing.T, was V, is W) {
	t.Helper()
	write := func(sc *Scope[int64]) {
		v := NewValue[V](sc, "v")
		at(sc, 7)
		v.Set(was)
	}
	sc := NewScope(keyOf[int64](t), 4, 0, 3)
	write(sc)
	file := fileOf(t, sc)

	disk := func(dir string) *Scope[int64] {
		sc := NewScope(keyOf[int64](t), 4, 0, 3)
		d, err := sorted{room: 1}.Open(dir)
		if err == nil {
			err = sc.UseDisk(d)
		}
		if err != nil {
			t.Fatal(err)
		}
		return sc
	}
	old := disk(t.TempDir())
	write(old)
	dir := filepath.Join(t.TempDir(), "files")
	old.Capture()
	snap := old.Captured()
	if err := snap.Checkpoint(dir); err != nil {
		t.Fatal(err)
	}
	snap.Release()

	for name, to := range map[string]*Scope[int64]{
		"memory": NewScope(keyOf[int64](t), 4, 0, 3), "file to disk": disk(t.TempDir()), "disk": disk(dir),
	} {
		if name != "disk" {
			if err := to.Restore(bytes.NewReader(file), int64(len(file))); err != nil {
				t.Fatal(err)
			}
		}
		w := NewValue[W](to, "v")
		if to.Err() != nil {
			t.Fatal(to.Err())
		}
		at(to, 7)
		if got, ok := w.Get(); !ok || !reflect.DeepEqual(got, is) {
			t.Errorf("%s: %+v, want %+v", name, got, is)
		}
	}

	var l, m Lists
	o := NewOperatorList[V](&l, "l")
	o.Add(was)
	o.Add(was)
	b, err := l.Encode("l")
	if err != nil {
		t.Fatal(err)
	}
	m.Restore("l", [][]byte{b}, 0, 1)
	if got := NewOperatorList[W](&m, "l").All(); m.Err() != nil || !reflect.DeepEqual(got, []W{is, is}) {
		t.Errorf("operator list: %+v, %v", got, m.Err())
	}
}

// Each pair of types that is accepted, and what is said of each that is refused.
func TestMismatch(t *testing.T) {
	for _, c := range [][3]string{
		{"fixed:int8", "fixed:int16", ""},
		{"fixed:int32", "fixed:int", ""},
		{"fixed:int", "fixed:int64", ""},
		{"fixed:uint8", "fixed:uint", ""},
		{"fixed:float32", "fixed:float64", ""},
		{"fixed:[3]uint8", "fixed:[3]uint32", ""},
		{"fixed:struct{A uint8}", "cbor:struct{A uint16,B string}", ""},
		{"cbor:struct{A int8,B string}", "fixed:struct{A int64}", ""},
		{"cbor:[]int8", "cbor:[]int16", ""},
		{"cbor:map[string]uint8", "cbor:map[string]uint64", ""},
		{"list:fixed:int8", "list:fixed:int32", ""},
		{"map(string)fixed:float32", "map(string)fixed:float64", ""},
		{"int64 -> map(int8)list:fixed:int8", "int64 -> map(int8)list:fixed:int64", ""},
		{"int64@int64 -> none", "int64@int64 -> none", ""},

		{"fixed:int64", "fixed:int32", "the value is int32 and was int64"},
		{"fixed:int64", "fixed:int", "the value is int and was int64"},
		{"fixed:int32", "fixed:uint64", "the value is uint64 and was int32"},
		{"fixed:uint8", "fixed:int64", "the value is int64 and was uint8"},
		{"fixed:int32", "fixed:float64", "the value is float64 and was int32"},
		{"fixed:float64", "fixed:float32", "the value is float32 and was float64"},
		{"fixed:bool", "fixed:int8", "the value is int8 and was bool"},
		{"cbor:struct{A string,B []struct{C int,D int64}}", "cbor:struct{B []struct{D int8,C string}}", ".B[].C is string and was int"},
		{`cbor:struct{"a b" map[string]*int64}`, `cbor:struct{"a b" map[string]*int32}`, `."a b"[] is int32 and was int64`},
		{"cbor:struct{B []uint8}", "cbor:struct{B []uint16}", ".B is []uint16 and was []uint8, which is stored as a string of bytes"},
		{"cbor:struct{B [4]uint8,C string}", "cbor:struct{B [4]uint16,C string}", ".B is [4]uint16 and was [4]uint8, which is stored as a string of bytes"},
		{"cbor:struct{B map[int8]int8}", "cbor:struct{B map[int16]int8}", ".B is map[int16]int8 and was map[int8]int8"},
		{"cbor:struct{B [2]string}", "cbor:struct{B [3]string}", ".B is [3]string and was [2]string"},
		{"cbor:struct{B time}", "cbor:struct{B struct{X int}}", ".B is struct{X int} and was time"},
		{"int32 -> fixed:int8", "int64 -> fixed:int8", "the key is int64 and was int32"},
		{"map(int8)fixed:int8", "map(int16)fixed:int8", "a key of the value is int16 and was int8"},
		{"list:fixed:int64", "list:fixed:int8", "[] is int8 and was int64"},
		{"list:fixed:int64", "fixed:int64", "the value is fixed:int64 and was list:fixed:int64"},
		{"binary:x.T", "binary:x.U", "the value is binary:x.U and was binary:x.T"},
		{"fixed:int64", "binary:x.U", "the value is binary:x.U and was fixed:int64"},
	} {
		if got := mismatch(c[0], c[1]); got != c[2] {
			t.Errorf("%s to %s: %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

// A refusal names both schemas and the place, wherever the state comes from.
func TestRefusedChangesNameThePlace(t *testing.T) {
	sc := NewScope(keyOf[int64](t), 4, 0, 3)
	v := NewValue[cborWide](sc, "v")
	at(sc, 7)
	v.Set(cborWide{Name: "x"})
	file := fileOf(t, sc)
	to := restoredScope(t, file, noon)
	NewValue[cborNarrow](to, "v")
	var l, m Lists
	NewOperatorList[cborWide](&l, "l").Add(cborWide{})
	b, err := l.Encode("l")
	if err != nil {
		t.Fatal(err)
	}
	m.Restore("l", [][]byte{b}, 0, 1)
	NewOperatorList[cborNarrow](&m, "l")
	for _, err := range []error{to.Err(), m.Err()} {
		for _, want := range []string{"declared as", "In []struct{A int8}", "stored as", "In []struct{A int64}", ": .In[].A is int8 and was int64"} {
			if !strings.Contains(fmt.Sprint(err), want) || fault.CodeOf(err) != fault.BadState.ID {
				t.Errorf("%v doesn't say %q", err, want)
			}
		}
	}
}
