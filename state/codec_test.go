package state

import (
	"encoding/binary"
	"errors"
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"
)

type celsius float32

type plain struct {
	A int8
	B uint64
	C bool
	D [3]celsius
	E struct{ F int }
}

type rich struct {
	Embedded
	Name  string
	At    time.Time
	Big   big.Int
	Map   map[structKey][]plain
	Ints  map[int16]string
	Ptr   *plain
	Bytes []byte
	Arr   [2]string
	Own   *version
	F     float64 `cbor:"f,omitempty"`
	J     int     `json:"j"`
}

// Embedded has a field that counts as one of rich.
type Embedded struct{ Inner int }

// version brings its own byte form.
type version struct{ major, minor byte }

func (v version) MarshalBinary() ([]byte, error) { return []byte{v.major, v.minor}, nil }

func (v *version) UnmarshalBinary(b []byte) error {
	if len(b) != 2 {
		return errors.New("want 2 bytes")
	}
	v.major, v.minor = b[0], b[1]
	return nil
}

func roundTrip[V any](t *testing.T, v V, sig string) {
	t.Helper()
	c, err := CodecOf[V]()
	if err != nil {
		t.Fatal(err)
	}
	if c.Signature() != sig {
		t.Errorf("signature %s, want %s", c.Signature(), sig)
	}
	b, err := c.Append([]byte("before"), &v)
	if err != nil {
		t.Fatal(err)
	}
	var back V
	rest, err := c.Decode(append(b[6:], "after"...), &back)
	if err != nil || string(rest) != "after" || !reflect.DeepEqual(back, v) {
		t.Errorf("got %+v, rest %q, %v; want %+v", back, rest, err, v)
	}
	for n := range len(b) - 6 {
		var v V
		if rest, err := c.Decode(b[6:6+n], &v); err == nil && len(b) > 6 {
			t.Errorf("%d of %d bytes were decoded, rest %q", n, len(b)-6, rest)
		}
	}
}

func TestCodecs(t *testing.T) {
	roundTrip(t, int64(-5), "fixed:int64")
	roundTrip(t, 7, "fixed:int")
	roundTrip(t, true, "fixed:bool")
	roundTrip(t, math.Copysign(0, -1), "fixed:float64")
	roundTrip(t, struct{}{}, "fixed:struct{}")
	roundTrip(t, plain{-1, 1 << 63, true, [3]celsius{1, 2, -3}, struct{ F int }{-9}},
		"fixed:struct{A int8,B uint64,C bool,D [3]float32,E struct{F int}}")
	roundTrip(t, version{3, 4}, "binary:state.version")
	roundTrip(t, "not \xff UTF-8", "cbor:string")
	roundTrip(t, []string{}, "cbor:[]string")
	roundTrip(t, map[string]bool{"x": true}, "cbor:map[string]bool")
	roundTrip(t, rich{
		Embedded{1},
		"n", time.Date(2026, 3, 4, 5, 6, 7, 89, time.UTC), *big.NewInt(-77),
		map[structKey][]plain{{User: "u", Shard: 1}: {{A: 1}}},
		map[int16]string{-2: "two"},
		&plain{A: 3},
		[]byte{1, 0},
		[2]string{"l", "r"},
		&version{1, 2}, 1.1, 9,
	}, "cbor:struct{Inner int,Name string,At time,Big own(big.Int),"+
		"Map map[struct{User string,Shard int8,On bool,Tag [3]uint8}][]struct{A int8,B uint64,C bool,D [3]float32,E struct{F int}},"+
		"Ints map[int16]string,Ptr *struct{A int8,B uint64,C bool,D [3]float32,E struct{F int}},Bytes []uint8,Arr [2]string,"+
		"Own *own(state.version),f float64,j int}")
}

func TestFixedFormIsForEver(t *testing.T) {
	c, _ := CodecOf[plain]()
	b, _ := c.Append(nil, &plain{-1, 2, true, [3]celsius{1}, struct{ F int }{-2}})
	want := append([]byte{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0x80, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0}, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	if !reflect.DeepEqual(b, want) {
		t.Errorf("% x, want % x", b, want)
	}
	b[9] = 2
	if _, err := c.Decode(b, new(plain)); !errors.Is(err, errBool) {
		t.Errorf("a bool of 2: %v", err)
	}
}

type half struct{ N int }

func (half) MarshalBinary() ([]byte, error) { return nil, nil }

type tree struct{ Left, Right []tree }

type hiding struct {
	Deep struct {
		Shown  int
		hidden int
	}
}

func TestRefusals(t *testing.T) {
	_ = hiding{}.Deep.hidden
	for want, err := range map[string]error{
		".P.Q[] is a interface":                  errOf(CodecOf[struct{ P struct{ Q [2]any } }]()),
		"field hiding.Deep.hidden is unexported": errOf(CodecOf[hiding]()),
		`.Skips.B is tagged "-"`: errOf(CodecOf[[]struct {
			Skips struct {
				A int
				B int `cbor:"-"`
			}
		}]()),
		`.J is tagged "-"`: errOf(CodecOf[struct {
			J int `json:"-"`
		}]()),
		"are both stored as \"A\"": errOf(CodecOf[struct {
			A int
			B int `cbor:"A"`
		}]()),
		"contains itself":                    errOf(CodecOf[tree]()),
		"has MarshalBinary but not":          errOf(CodecOf[map[string]half]()),
		"is a interface":                     errOf(CodecOf[[]any]()),
		"is a func":                          errOf(CodecOf[struct{ F func() }]()),
		"is a chan":                          errOf(CodecOf[*chan int]()),
		"is a complex64":                     errOf(CodecOf[complex64]()),
		"is a uintptr":                       errOf(CodecOf[uintptr]()),
		"pointer to a ptr":                   errOf(CodecOf[**int]()),
		"key is a ptr":                       errOf(CodecOf[map[*int]int]()),
		"an embedded pointer without a name": errOf(CodecOf[struct{ *Embedded }]()),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
}

func TestIsFlat(t *testing.T) {
	for typ, want := range map[reflect.Type]bool{
		reflect.TypeFor[int]():                         true,
		reflect.TypeFor[string]():                      true,
		reflect.TypeFor[person]():                      true,
		reflect.TypeFor[time.Time]():                   true,
		reflect.TypeFor[[3]plain]():                    true,
		reflect.TypeFor[version]():                     true,
		reflect.TypeFor[struct{ A []int }]():           false,
		reflect.TypeFor[[2]*int]():                     false,
		reflect.TypeFor[map[string]int]():              false,
		reflect.TypeFor[big.Int]():                     false,
		reflect.TypeFor[struct{ m struct{ p any } }](): false,
	} {
		if IsFlat(typ) != want {
			t.Errorf("IsFlat(%s) = %v", typ, !want)
		}
	}
}

// compatible tells whether bytes of one signature can be read as another.
func compatible(was, is string) bool { return mismatch(was, is) == "" }

func TestCompatible(t *testing.T) {
	for _, c := range []struct {
		was, is string
		want    bool
	}{
		{"string -> cbor:struct{A int,B string}", "string -> cbor:struct{B string,C []int}", true},
		{"string -> cbor:struct{A int,B string}", "int64 -> cbor:struct{A int,B string}", false},
		{"cbor:struct{A int,B string}", "cbor:struct{A int,B []string}", false},
		{"cbor:[]struct{A map[string]struct{X int}}", "cbor:[]struct{A map[string]struct{Y int}}", true},
		{"cbor:[]struct{A map[string]struct{X int}}", "cbor:[]struct{A map[int]struct{X int}}", false},
		{`cbor:struct{"a b" int,C *[4]string}`, `cbor:struct{D bool,"a b" int}`, true},
		{`cbor:struct{"a b" int,C *[4]string}`, `cbor:struct{C *[5]string}`, false},
		{"list:cbor:struct{A string}", "list:cbor:struct{A string,B int}", true},
		{"list:cbor:struct{A string}", "cbor:struct{A string}", false},
		{"map(int)cbor:struct{A string}", "map(int)cbor:struct{}", true},
		{"map(int)cbor:struct{A string}", "map(int8)cbor:struct{A string}", false},
		{"cbor:struct{A own(x.T[int]),B int}", "cbor:struct{A own(x.T[int])}", true},
		{"cbor:struct{A own(x.T)}", "cbor:struct{A own(x.U)}", false},
		{"fixed:struct{A int,B int}", "fixed:struct{A int}", true},
		{"fixed:struct{A int,B int}", "cbor:struct{A int,C string}", true},
		{"fixed:struct{A int,B int}", "cbor:struct{A int8,C string}", false},
		{"cbor:struct{", "cbor:struct{A int}", false},
		{"fixed:int64", "fixed:int32", false},
		{"fixed:int64", "cbor:string", false},
	} {
		if got := compatible(c.was, c.is); got != c.want {
			t.Errorf("compatible(%s, %s) = %v", c.was, c.is, got)
		}
	}
}

// Any bytes are decoded without a panic and without memory out of proportion.
func FuzzCodecDecode(f *testing.F) {
	richC, err := CodecOf[rich]()
	if err != nil {
		f.Fatal(err)
	}
	plainC, _ := CodecOf[plain]()
	list := listForm[plain]{item: plainC}
	dict := mapForm[string, []string]{key: keyOf[string](f), val: cborForm[[]string]{}}
	b, _ := richC.Append(nil, &rich{Name: "x"})
	f.Add(b)
	f.Add(binary.AppendUvarint(nil, 1<<40))
	f.Fuzz(func(t *testing.T, src []byte) {
		for _, err := range []error{
			errOf(richC.Decode(src, new(rich))), errOf(plainC.Decode(src, new(plain))),
			errOf(list.Decode(src, new([]plain))), errOf(dict.Decode(src, new(map[string][]string))),
		} {
			if err != nil && err.Error() == "" {
				t.Error("an error without text")
			}
		}
	})
}

func FuzzCompatible(f *testing.F) {
	f.Add("cbor:struct{A int}", "cbor:struct{B []map[string]*[3]own(x)}")
	f.Fuzz(func(t *testing.T, a, b string) {
		if a == b && !compatible(a, b) {
			t.Error("not compatible with itself")
		}
		compatible(a, b)
	})
}
