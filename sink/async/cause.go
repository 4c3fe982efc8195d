package async

import (
	"context"
	"errors"
	"time"
)

// cause is why a record is sent again.
type cause int

const (
	causeFailed    cause = iota // the whole batch
	causeTimeout                // the whole batch, by Timeout
	causePartial                // the record alone, or one before it of its key
	causeThrottled              // the destination asked for time
	causes                      // number of them
)

// answers counts what an answer says about the records of a batch.
type answers struct {
	n, again, throttled int
	delay               time.Duration // the longest the destination asked for
	err                 error         // of a record that is to be sent again
}

func tally(v verdict, n int) answers {
	t := answers{n: n}
	if v.all == done && v.single == nil && v.each == nil {
		return t
	}
	for i := range n {
		what, why := v.of(i)
		if what != again {
			continue
		}
		t.again++
		t.err = why
		if d, ok := askedFor(why); ok {
			t.throttled++
			t.delay = max(t.delay, d)
		}
	}
	return t
}

// isThrottled says whether the destination asked for time for most records.
func (t answers) isThrottled() bool { return 2*t.throttled > t.n }

// isFailed says whether it did nothing with any of them.
func (t answers) isFailed() bool { return t.again == t.n && !t.isThrottled() }

func (t answers) cause(why error) cause {
	if _, ok := askedFor(why); ok {
		return causeThrottled
	}
	switch {
	case !t.isFailed():
		return causePartial
	case errors.Is(why, context.DeadlineExceeded):
		return causeTimeout
	}
	return causeFailed
}

// reply is what the gate learns of it.
func (t answers) reply(sent, took time.Duration, full bool) reply {
	return reply{
		sent: sent, took: took, full: full, share: float64(t.n-t.again) / float64(t.n),
		throttled: t.isThrottled(), delay: t.delay, failed: t.isFailed(),
	}
}
