package flight_test

import (
	"reflect"
	"testing"

	"github.com/weirline/weirline/internal/flight"
	"github.com/weirline/weirline/source"
)

type order struct {
	ID    string
	Cents int64
}

type sent struct {
	sender int
	batch  source.Batch[order]
}

func log(t testing.TB) ([]byte, []sent) {
	c, err := flight.Of[order]()
	if err != nil {
		t.Fatal(err)
	}
	all := []sent{
		{3, source.Batch[order]{Values: []order{{"a", 1}, {"b", -2}}, Times: []int64{-5, source.NoTime}}},
		{0, source.Batch[order]{Values: []order{{"c", 3}}}},
	}
	var b []byte
	for _, s := range all {
		if b, err = c.Append(b, s.sender, &s.batch); err != nil {
			t.Fatal(err)
		}
	}
	return b, all
}

func read(b []byte) (got []sent, err error) {
	c, err := flight.Of[order]()
	if err != nil {
		return nil, err
	}
	err = c.Read(b, func(sender int, batch any) error {
		got = append(got, sent{sender, *batch.(*source.Batch[order])})
		return nil
	})
	return got, err
}

func TestRoundTrip(t *testing.T) {
	b, want := log(t)
	got, err := read(b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for n := range b {
		if got, err := read(b[:n]); err == nil && len(got) == len(want) {
			t.Errorf("%d of %d bytes are enough", n, len(b))
		}
	}
}

func TestAnotherTypeIsRefused(t *testing.T) {
	b, _ := log(t)
	c, err := flight.Of[int]()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Read(b, func(int, any) error { return nil }); err == nil {
		t.Error("records of another type were read")
	}
	if _, err := flight.Of[func()](); err == nil {
		t.Error("functions were accepted")
	}
}

func FuzzRead(f *testing.F) {
	b, _ := log(f)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := read(b); err == nil && len(got) > len(b) {
			t.Errorf("%d batches from %d bytes", len(got), len(b))
		}
	})
}
