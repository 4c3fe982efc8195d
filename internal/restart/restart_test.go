package restart_test

import (
	"testing"
	"time"

	"github.com/weirline/weirline/internal/restart"
)

const second = time.Second

func TestBudget(t *testing.T) {
	base := restart.Strategy{Attempts: 2, Delay: second, Factor: 2, MaxDelay: 3 * second, Jitter: -1}
	rate, quiet := base, base
	rate.Per, quiet.Quiet = 10*second, 10*second
	for name, c := range map[string]struct {
		s      restart.Strategy
		at     []int   // seconds of the failures
		done   []int64 // checkpoints complete by then
		pauses []int   // seconds; -1 = no more
	}{
		"in a row":               {base, []int{0, 1, 2}, []int64{0, 0, 0}, []int{1, 2, -1}},
		"checkpoints in between": {base, []int{0, 1, 2, 3}, []int64{0, 0, 1, 1}, []int{1, 2, 1, 2}},
		"a rate":                 {rate, []int{0, 1, 9, 30}, []int64{0, 1, 2, 3}, []int{1, 2, -1, 1}},
		"a quiet time":           {quiet, []int{0, 1, 11, 12, 13}, []int64{0, 1, 2, 3, 4}, []int{1, 2, 1, 2, -1}},
	} {
		var b restart.Budget
		for i, at := range c.at {
			pause, ok := b.Next(c.s, time.Unix(int64(at), 0), c.done[i])
			if ok != (c.pauses[i] >= 0) || ok && pause != time.Duration(c.pauses[i])*second {
				t.Errorf("%s: failure %d: %v, %v, want %d s", name, i, pause, ok, c.pauses[i])
			}
		}
	}
	if sum := base.Longest(time.Hour); sum != 3*second {
		t.Errorf("all pauses are %v", sum)
	}
	if p := (restart.Strategy{Delay: second, Factor: 1, MaxDelay: time.Minute, Jitter: 0.5}).Pause(3, 0.5); p != 1250*time.Millisecond {
		t.Errorf("with jitter: %v", p)
	}
	for _, s := range []restart.Strategy{base, rate, quiet} {
		if s.Span() == "" {
			t.Error("a strategy doesn't say over what it counts")
		}
	}
}
