package async

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// round answers one round of the window.
func round(w *window, took time.Duration, full bool) {
	for range w.size() {
		w.answered(took, full)
	}
}

func TestWindowGrowsByItsRoot(t *testing.T) {
	w := newWindow(16, false)
	var sizes []int
	for range 8 {
		sizes = append(sizes, w.size())
		round(&w, 10*time.Millisecond, true)
	}
	equal(t, "sizes", fmt.Sprint(sizes), "[4 6 8 11 14 16 16 16]")
}

func TestWindowThatIsNotFullStays(t *testing.T) {
	w := newWindow(16, false)
	for _, took := range []time.Duration{1, time.Millisecond, time.Hour} {
		round(&w, took, false)
		equal(t, "size", w.size(), 4)
	}
}

func TestWindowCeiling(t *testing.T) {
	for most, first := range map[int]int{1: 1, 2: 2, 4: 4, 100: 4} {
		w := newWindow(most, false)
		equal(t, "first size", w.size(), first)
		for range 100 {
			round(&w, time.Millisecond, true)
		}
		equal(t, "last size", w.size(), most)
		fixed := newWindow(most, true)
		equal(t, "fixed size", fixed.size(), most)
	}
}

// A destination that works on six batches at once and lets others queue.
func TestWindowStopsWhereQueueingBegins(t *testing.T) {
	w := newWindow(64, false)
	least, most := 64, 0
	for i := range 200 {
		round(&w, 10*time.Millisecond*time.Duration(max(6, w.size()))/6, true)
		if i > 50 {
			least, most = min(least, w.size()), max(most, w.size())
		}
	}
	if least < 6 || most > 20 {
		t.Errorf("window between %d and %d, want it between 6 and 20", least, most)
	}
}

// When it is slow whatever is sent, being careful doesn't help: the window comes back.
func TestWindowGetsUsedToASlowDestination(t *testing.T) {
	w := newWindow(16, false)
	for range 20 {
		round(&w, 10*time.Millisecond, true)
	}
	equal(t, "size", w.size(), 16)
	least, rounds := 16, 0
	for ; rounds < 30 && (w.size() < 16 || least == 16); rounds++ {
		before := w.size()
		round(&w, time.Second, true)
		least = min(least, w.size())
		if w.size() < before/2 {
			t.Errorf("from %d to %d in one round", before, w.size())
		}
	}
	if least > 4 || rounds > 12 {
		t.Errorf("down to %d, back after %d rounds", least, rounds)
	}
}

func TestFailuresHalveTheWindowOnceARound(t *testing.T) {
	w := newWindow(16, false)
	for range 10 {
		round(&w, time.Millisecond, true)
	}
	for range 16 { // all that was on its way
		w.fail(10, 5)
	}
	equal(t, "size", w.size(), 8)
	w.fail(20, 15)
	equal(t, "size after a later one", w.size(), 4)
	for at := time.Duration(100); at < 200; at += 10 {
		w.fail(at, at-5)
	}
	equal(t, "size at last", w.size(), 1)
	w.heal()
	equal(t, "size when it is up again", w.size(), 16)
}

func TestWindowIsNeverBelowOneOrOverTheCeiling(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		w := newWindow(1+r.IntN(20), false)
		for now := time.Duration(1); now < 500; now++ {
			switch r.IntN(5) {
			case 0:
				w.fail(now, now-time.Duration(r.IntN(3)))
			case 1:
				w.heal()
			default:
				w.answered(time.Duration(1+r.IntN(1_000_000)), r.IntN(3) > 0)
			}
			if w.size() < 1 || float64(w.size()) > w.most {
				t.Fatalf("size %d of at most %v", w.size(), w.most)
			}
		}
	}
}
