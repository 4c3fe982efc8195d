package async

import (
	"math/rand/v2"
	"time"
)

// Retry says when a record that failed is sent again. The delay doubles with each attempt of a record.
type Retry struct {
	Base     time.Duration // delay after the first failure. Unset: 100 ms
	Max      time.Duration // longest delay. Unset: 10 s
	Jitter   float64       // part of the delay that is random, 0 to 1. Unset: 0.5, negative: none
	Attempts int           // sends after which a record counts as refused by the destination. Unset: no limit
}

func (r Retry) withDefaults() Retry {
	if r.Base <= 0 {
		r.Base = 100 * time.Millisecond
	}
	if r.Max <= 0 {
		r.Max = 10 * time.Second
	}
	if r.Jitter == 0 {
		r.Jitter = 0.5
	}
	r.Jitter = min(max(r.Jitter, 0), 1)
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

// random is the share of the jitter drawn for one failure, so that what failed together is sent again together.
func random() float64 { return rand.Float64() }
