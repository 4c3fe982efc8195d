package source

import (
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"testing"

	"github.com/weirline/weirline/internal/fault"
)

type plainSplit struct {
	Name string
	At   int64
}

func (p plainSplit) ID() string { return p.Name }

type packedSplit struct{ n uint64 }

func (p packedSplit) ID() string { return "packed" }

func (p packedSplit) MarshalBinary() ([]byte, error) {
	return binary.BigEndian.AppendUint64(nil, p.n), nil
}

func (p *packedSplit) UnmarshalBinary(b []byte) error {
	if len(b) != 8 {
		return errors.New("want 8 bytes")
	}
	p.n = binary.BigEndian.Uint64(b)
	return nil
}

type heapSplit struct{ packedSplit }

func (h *heapSplit) ID() string { return "heap" }

type halfSplit struct{ N int } // only marshals: JSON is used both ways

func (h halfSplit) ID() string                     { return "half" }
func (h halfSplit) MarshalText() ([]byte, error)   { return []byte("7"), nil }
func (h *halfSplit) UnmarshalText(b []byte) error  { h.N = len(b); return nil }
func (h halfSplit) MarshalBinary() ([]byte, error) { return nil, errors.New("must not be used") }

func roundTrip[S Split](t *testing.T, s S) {
	t.Helper()
	b, err := EncodeSplit(s)
	if err != nil {
		t.Fatalf("EncodeSplit(%+v): %v", s, err)
	}
	back, err := DecodeSplit[S](b)
	if err != nil {
		t.Fatalf("DecodeSplit(%q): %v", b, err)
	}
	if !reflect.DeepEqual(back, s) {
		t.Errorf("round trip of %+v gave %+v", s, back)
	}
}

func TestCodecRoundTrip(t *testing.T) {
	roundTrip(t, plainSplit{Name: "a\x00b \ufffd <&>", At: math.MaxInt64})
	roundTrip(t, plainSplit{Name: `literal \ufffd`, At: math.MinInt64})
	roundTrip(t, &plainSplit{Name: "pointer", At: 3})
	roundTrip(t, packedSplit{n: math.MaxUint64})
	roundTrip(t, &heapSplit{packedSplit{n: 9}})
	roundTrip(t, halfSplit{N: 1})
}

func TestCodecRefuses(t *testing.T) {
	if _, err := EncodeSplit(plainSplit{Name: "bad\xff"}); fault.CodeOf(err) != fault.BadPosition.ID {
		t.Errorf("text that isn't UTF-8: err = %v, want %s", err, fault.BadPosition.ID)
	}
	for _, in := range []string{"", "null", " null ", "7", `{"At":"x"}`, `{"At":1}{}`, `{"At":1e99}`} {
		if s, err := DecodeSplit[plainSplit]([]byte(in)); fault.CodeOf(err) != fault.BadPosition.ID {
			t.Errorf("DecodeSplit(%q) = %+v, %v; want %s", in, s, err, fault.BadPosition.ID)
		}
	}
	if _, err := DecodeSplit[packedSplit]([]byte("short")); fault.CodeOf(err) != fault.BadPosition.ID {
		t.Errorf("short binary: err = %v, want %s", err, fault.BadPosition.ID)
	}
}

func TestCodecFieldsMayBeAdded(t *testing.T) {
	s, err := DecodeSplit[plainSplit]([]byte(`{"Name":"x","Newer":1}`))
	if err != nil || s != (plainSplit{Name: "x"}) {
		t.Errorf("got %+v, %v", s, err)
	}
}
