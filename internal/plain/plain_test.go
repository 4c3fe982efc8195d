package plain_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/plain"
)

func equal[V comparable](t *testing.T, what string, got, want V) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

type inner struct{ A int }

type kept struct {
	S    string
	B    []byte
	At   time.Time
	M    map[string][]float64
	P    *inner
	Tree []kept
	inner
	Skip func() `cbor:"-"`
}

func TestCodecRefusesWhatItWouldLose(t *testing.T) {
	refused := map[string]error{
		"func":       plain.Check[func()]("test"),
		"chan":       plain.Check[struct{ C chan int }]("test"),
		"interface":  plain.Check[any]("test"),
		"map value":  plain.Check[map[string]error]("test"),
		"unexported": plain.Check[struct{ a int }]("test"),
		"deep":       plain.Check[[]map[int]struct{ A struct{ b int } }]("test"),
		"json hidden": plain.Check[struct { //nolint:govet // the tag is the case
			A int `json:"-"`
		}]("test"),
		"complex": plain.Check[complex128]("test"),
	}
	for name, err := range refused {
		if fault.CodeOf(err) != fault.BadType.ID {
			t.Errorf("%s: got %v, want %s", name, err, fault.BadType.ID)
		}
	}
	if err := errors.Join(plain.Check[kept]("test"), plain.Check[string]("test"), plain.Check[time.Time]("test"), plain.Check[[]byte]("test")); err != nil {
		t.Error(err)
	}
}

func TestCodecKeepsValues(t *testing.T) {
	at := time.Date(2024, 2, 29, 1, 2, 3, 456789012, time.FixedZone("x", 3600))
	in := kept{
		S: "not utf-8: \xff\xfe", B: []byte{0, 255}, At: at, M: map[string][]float64{"": {math.Inf(1), -0.5}},
		P: &inner{7}, inner: inner{8}, Tree: []kept{{S: "leaf"}},
	}
	data, err := plain.Append([]byte("x"), in)
	if err != nil {
		t.Fatal(err)
	}
	out, err := plain.Decode[kept](data[1:])
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "string", out.S, in.S)
	equal(t, "bytes", string(out.B), string(in.B))
	equal(t, "time", out.At.Equal(at), true)
	equal(t, "map", out.M[""][0], math.Inf(1))
	equal(t, "pointer", *out.P, *in.P)
	equal(t, "embedded", out.A, 8)
	equal(t, "tree", out.Tree[0].S, "leaf")

	long := make([]int, 200_000)
	data, err = plain.Append(nil, long)
	equal(t, "error", err, nil)
	back, err := plain.Decode[[]int](data)
	equal(t, "error of a long slice", err, nil)
	equal(t, "length", len(back), len(long))
}
