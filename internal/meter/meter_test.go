package meter

import (
	"math"
	"slices"
	"sync"
	"testing"
)

func TestViewsShareAValue(t *testing.T) {
	s := New()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			v := s.Of("in", 1)
			for range 1000 {
				v.Count("fetches", 2)
			}
			v.Gauge("lag", 7)
		})
	}
	s.Of("a", -1).Count("commits", 1)
	all.Wait()
	want := []Value{{"a", -1, "commits", 1, true, nil}, {"in", 1, "fetches", 8000, true, nil}, {"in", 1, "lag", 7, false, nil}}
	if got := s.List(); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestDistribution(t *testing.T) {
	s := New()
	v := s.Of("out", 0)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for _, x := range []float64{0, 0.001, 0.0011, 0.5, 60, 61} {
				v.Observe("send_seconds", x)
			}
		})
	}
	all.Wait()
	got := s.List()[0]
	want := Distribution{Count: 24}
	for i, n := range map[int]uint64{0: 8, 1: 4, 8: 4, 14: 4, 15: 4} {
		want.Buckets[i] = n
	}
	if got.Distribution == nil || *got.Distribution != want {
		t.Errorf("got %+v, want %+v", got.Distribution, want)
	}
	if sum := 4 * (0.001 + 0.0011 + 0.5 + 60 + 61); math.Abs(got.Value-sum) > 1e-9 {
		t.Errorf("sum: %v, want %v", got.Value, sum)
	}
	v.Gauge("lag", 1)
	v.Observe("lag", 2) // a name used twice must not end the job
}
