package async

import (
	"math/rand/v2"
	"time"

	"github.com/weirline/weirline/sink"
)

// Retry says when a record that failed is sent again, and how long. The delay doubles with each attempt of a record.
type Retry struct {
	Base     time.Duration // delay after the first failure. Unset: 100 ms
	Max      time.Duration // longest delay. Unset: 5 s
	Jitter   float64       // part of the delay that is random, 0 to 1. Unset: 0.5, negative: none
	Attempts int           // batches a record may be in before it counts as refused by the destination. Unset: no limit

	// Age is how long after it was first written a record that is not delivered counts as refused, restarts included; a
	// minute is always left after one.
	// Unset: 24 h, negative: no limit.
	Age time.Duration

	// Budget is how many records may be sent again, as a share of those sent for the first time, in each shard: what is
	// over it waits. As many as are in MaxInFlight batches, and one batch a second (100 records at least), are always
	// allowed, and throttled records don't count. Unset: 0.1, negative: no budget.
	Budget float64
}

// longest bounds times that are set or asked for, so that no sum with them overflows.
const longest = 100 * 365 * 24 * time.Hour

func (r Retry) withDefaults() Retry {
	if r.Base <= 0 {
		r.Base = 100 * time.Millisecond
	}
	if r.Max <= 0 {
		r.Max = 5 * time.Second
	}
	if r.Jitter == 0 {
		r.Jitter = 0.5
	}
	r.Jitter = min(max(r.Jitter, 0), 1)
	if r.Age == 0 {
		r.Age = 24 * time.Hour
	}
	r.Max, r.Age = min(r.Max, longest), min(r.Age, longest)
	if r.Budget == 0 {
		r.Budget = 0.1
	}
	return r
}

// delay is how long to wait after so many attempts; random is between 0 and 1.
func (r Retry) delay(attempts int, random float64) time.Duration {
	d := r.Base
	for range attempts - 1 {
		if d >= r.Max {
			break
		}
		d *= 2
	}
	d = min(d, r.Max)
	return d - time.Duration(r.Jitter*random*float64(d))
}

// askedFor is the delay the destination asks for.
func askedFor(err error) (d time.Duration, ok bool) {
	d, ok = sink.RetryDelay(err)
	return min(d, longest), ok
}

// random is the share of the jitter drawn for one failure, so that what failed together is sent again together.
func random() float64 { return rand.Float64() }
