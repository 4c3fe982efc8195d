package meter

import (
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
	want := []Value{{"a", -1, "commits", 1, true}, {"in", 1, "fetches", 8000, true}, {"in", 1, "lag", 7, false}}
	if got := s.List(); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}
