package engine_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/internal/bubble"
)

// TestAlignmentBoundsTheLead reads a fast and a slow source in one group: the fast one may be ahead by the drift, by what
// it reads in two rounds, and by what was fetched already.
func TestAlignmentBoundsTheLead(t *testing.T) {
	for _, group := range []string{"", "logs"} {
		bubble.Test(t, func(t *testing.T) {
			lead, paused := runAligned(t, group)
			t.Logf("group %q: the fast source was ahead by %d s, %d pauses", group, lead, paused)
			if group == "" && lead < 300 {
				t.Errorf("without alignment the lead was only %d s: the test shows nothing", lead)
			}
			if group != "" && (lead > 80 || paused == 0) {
				t.Errorf("the fast source was ahead by %d s, with %d pauses", lead, paused)
			}
		})
	}
}

func runAligned(t *testing.T, group string) (lead, paused int64) {
	fast := &enginetest.Script[stamped]{Splits: map[string][]enginetest.Step[stamped]{}}
	slow := &enginetest.Script[stamped]{Splits: map[string][]enginetest.Step[stamped]{}}
	for i := range int64(600) {
		fast.Splits["fast"] = append(fast.Splits["fast"], enginetest.Rec(stamped{"f", i}), enginetest.Wait[stamped](10*time.Millisecond))
	}
	for i := range int64(70) {
		slow.Splits["slow"] = append(slow.Splits["slow"], enginetest.Rec(stamped{"s", i * 10}), enginetest.Wait[stamped](300*time.Millisecond))
	}
	var at1, at2, worst atomic.Int64
	w := engine.Watermarks{Align: group, MaxDrift: 10 * time.Second}
	p := engine.New(engine.Config{Name: "align", Parallelism: 1})
	a := engine.From(p, "fast", fast).EventTime(at, w)
	b := engine.From(p, "slow", slow).EventTime(at, w)
	seen := func(newest *atomic.Int64) func(stamped) bool {
		return func(s stamped) bool {
			newest.Store(s.At)
			worst.Store(max(worst.Load(), at1.Load()-at2.Load()))
			return true
		}
	}
	engine.To(a.Filter("a", seen(&at1)), "out-a", &enginetest.Collect[stamped]{})
	engine.To(b.Filter("b", seen(&at2)), "out-b", &enginetest.Collect[stamped]{})
	run(t, p)
	for _, ts := range p.Status().Tasks {
		paused += ts.Paused
	}
	return worst.Load(), paused
}
