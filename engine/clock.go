package engine

import "math"

// clockKind is what is known of a clock. There is no magic maximum: an end is an end, not a very late time.
type clockKind uint8

const (
	clockNothing  clockKind = iota // active, nothing known yet: holds everybody back
	clockActive                    // no record at or before the time will follow
	clockIdle                      // has nothing to say for now: others don't wait for it
	clockFinished                  // will never say anything again
)

// clock is the state of event time on a channel, of a split or of a task. at is microseconds since 1970 UTC.
type clock struct {
	kind clockKind
	at   int64
}

// minTime is the time of a clock that knows nothing; maxTime is what an operator works with when its input has finished.
const (
	minTime = math.MinInt64
	maxTime = math.MaxInt64
)

// combine is the minimum of the active clocks; clockNothing if one of them knows nothing yet; idle if none is active but
// some may become so; finished if all are finished, and also if there are none at all.
func combine(cs []clock) clock {
	out := clock{kind: clockFinished, at: minTime}
	for _, c := range cs {
		switch c.kind {
		case clockNothing:
			return clock{kind: clockNothing, at: minTime}
		case clockIdle:
			if out.kind == clockFinished {
				out.kind = clockIdle
			}
		case clockActive:
			if out.kind != clockActive || c.at < out.at {
				out = c
			}
		case clockFinished:
		}
	}
	return out
}
