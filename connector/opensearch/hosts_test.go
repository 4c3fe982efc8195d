package opensearch

import (
	"fmt"
	"testing"
	"time"
)

func TestHosts(t *testing.T) {
	h := newHosts([]string{"a", "b", "c"})
	now := time.Now()
	picks := func(n int) (got string) {
		for range n {
			_, u := h.pick(now)
			got += u
		}
		return got
	}
	is := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: asked %s, want %s", what, got, want)
		}
	}
	is("all well", picks(4), "abca")
	if !h.note(1, false, now) || h.note(1, false, now) {
		t.Error("b isn't left out once")
	}
	is("b failed", picks(4), "caca")
	now = now.Add(leftOutFirst)
	is("b has another try", picks(3), "bca")
	h.note(1, false, now)
	now = now.Add(leftOutFirst)
	is("b failed again", picks(3), "cac")
	now = now.Add(leftOutFirst)
	h.note(1, true, now)
	is("b is well", picks(3), "abc")
	for i := range 3 {
		h.note(i, false, now.Add(time.Duration(i)))
	}
	is("none is well", picks(1), "a")
	h.note(0, false, now.Add(5))
	is("none is well, a was tried", picks(1), "b")
	for range 40 {
		h.note(2, false, now)
		now = now.Add(leftOutMost)
	}
	if d := h.all[2].asleep.Sub(now); d != 0 {
		t.Errorf("c is left out for %v longer than the longest time", d)
	}
	if _, u := newHosts([]string{"only"}).pick(now); u != "only" {
		t.Error(fmt.Sprint("asked ", u))
	}
}
