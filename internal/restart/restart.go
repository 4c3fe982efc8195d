// Package restart counts the failures of a part of a job, and says when it is tried again and when no more.
//
//	var b restart.Budget
//	pause, ok := b.Next(strategy, time.Now(), checkpointsSoFar)
//
// A Budget belongs to one goroutine.
package restart

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Strategy is engine.Restart, which explains the fields, with its defaults filled in.
type Strategy struct {
	Attempts int
	Delay    time.Duration
	Factor   float64
	MaxDelay time.Duration
	Jitter   float64
	Per      time.Duration
	Quiet    time.Duration
}

// Budget counts failures against a strategy. Its zero value has none.
type Budget struct {
	failures  []time.Time // that still count
	completed int64       // checkpoints complete at the last one
}

// Next counts a failure. It returns the pause before the next attempt, and false if there should be none.
func (b *Budget) Next(s Strategy, now time.Time, completed int64) (time.Duration, bool) {
	switch n := len(b.failures); {
	case s.Per > 0:
		b.failures = slices.DeleteFunc(b.failures, func(t time.Time) bool { return now.Sub(t) >= s.Per })
	case s.Quiet > 0 && n > 0 && now.Sub(b.failures[n-1]) >= s.Quiet, s.Quiet <= 0 && completed > b.completed:
		b.failures = nil
	}
	b.completed = completed
	b.failures = append(b.failures, now)
	n := len(b.failures)
	return s.Pause(n, rand.Float64()), n <= s.Attempts //nolint:gosec // it only spreads restarts
}

// Count is how many failures count still.
func (b *Budget) Count() int { return len(b.failures) }

// Pause is that before restart n of a row, the first being 1. jitter is the part of Jitter that is added.
func (s Strategy) Pause(n int, jitter float64) time.Duration {
	d := min(float64(s.Delay)*math.Pow(s.Factor, float64(n-1)), float64(s.MaxDelay))
	return time.Duration(max(0, d+d*max(0, s.Jitter)*jitter))
}

// Longest is what the pauses of all restarts of a row come to, added up no further than most.
func (s Strategy) Longest(most time.Duration) (sum time.Duration) {
	for n := 1; n <= s.Attempts && sum < most; n++ {
		sum += s.Pause(n, 1)
	}
	return sum
}

// Span says over what restarts are counted.
func (s Strategy) Span() string {
	switch {
	case s.Per > 0:
		return "within " + s.Per.String()
	case s.Quiet > 0:
		return "without " + s.Quiet.String() + " of quiet in between"
	}
	return "without a checkpoint in between"
}
