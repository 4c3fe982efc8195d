package async

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/sink"
)

const forEver = time.Duration(math.MaxInt64)

// A time without end means never, not at once.
func TestLongestTimes(t *testing.T) {
	cases := map[string]struct {
		sink  Sink[rec]
		err   error
		calls int
	}{
		"linger": {Sink[rec]{Linger: forEver}, nil, 0},
		"age":    {Sink[rec]{Retry: Retry{Age: forEver, Base: time.Hour, Max: forEver, Jitter: -1}}, errDown, 4},
		"delay":  {Sink[rec]{}, sink.RetryAfter(errDown, forEver), 1},
		"open":   {Sink[rec]{Breaker: Breaker{Failures: 1, Open: forEver}, Retry: Retry{Age: -1}}, errDown, 1},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				calls := 0
				d := &dest{answer: func(context.Context, []rec) error {
					if calls++; calls > 100 {
						return nil // enough
					}
					return c.err
				}}
				w := open(t, d, c.sink)
				<-time.After(time.Second)
				write(t, w, rec{"a", 0})
				<-time.After(10 * time.Hour)
				synctest.Wait()
				equal(t, "calls", calls, c.calls)
				equal(t, "refused", refusedNow(w), "")
			})
		})
	}
}
