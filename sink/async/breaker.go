package async

import (
	"errors"
	"time"

	"github.com/sony/gobreaker/v2"
)

// Breaker says when a part of the destination counts as down: nothing is sent to it then but one batch now and again, and
// when that is answered all goes on at once.
type Breaker struct {
	Failures int           // batches in a row that failed as a whole. Throttling and refusals aren't failures. Unset: 5, negative: no breaker
	Open     time.Duration // from the last of them, or from a trial that failed, to the next trial. Unset: 1 s
}

func (b Breaker) withDefaults() Breaker {
	if b.Failures == 0 {
		b.Failures = 5
	}
	if b.Open <= 0 {
		b.Open = time.Second
	}
	b.Open = min(b.Open, longest)
	return b
}

var errFailed = errors.New("batch failed")

// breaker is the breaker of one shard. The library has the rules; this adds when the next trial may go, which the library
// doesn't say.
type breaker struct {
	cb    *gobreaker.TwoStepCircuitBreaker[struct{}] // nil: no breaker
	clock func() time.Duration
	open  time.Duration
	state gobreaker.State
	until time.Duration // while open: when the next trial may go
	trial bool          // it is on its way

	opened, closed bool // since the caller looked last; a trial that failed isn't another opening
}

// ticket belongs to a batch on its way.
type ticket struct {
	done  func(error)
	trial bool
}

func newBreaker(b Breaker, clock func() time.Duration) *breaker {
	k := &breaker{clock: clock, open: b.Open}
	if b.Failures < 0 {
		return k
	}
	k.cb = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Timeout:       b.Open,
		ReadyToTrip:   func(c gobreaker.Counts) bool { return int(c.ConsecutiveFailures) >= b.Failures },
		OnStateChange: k.changed,
	})
	return k
}

func (k *breaker) changed(_ string, from, to gobreaker.State) {
	k.state = to
	switch to {
	case gobreaker.StateOpen:
		k.until = k.clock() + k.open + 1 // the library's own end of it is exclusive
		k.opened = k.opened || from == gobreaker.StateClosed
	case gobreaker.StateClosed:
		k.closed = true
	}
}

// when is when the next batch may go; never as long as a trial is on its way.
func (k *breaker) when(now time.Duration) time.Duration {
	switch {
	case k.state == gobreaker.StateClosed:
		return now
	case k.trial:
		return never
	}
	return max(now, k.until)
}

// begin books a batch that goes; false: not yet, ask when again.
func (k *breaker) begin() (ticket, bool) {
	if k.cb == nil {
		return ticket{}, true
	}
	done, err := k.cb.Allow()
	if err != nil {
		k.until = max(k.until, k.clock()+time.Millisecond)
		return ticket{}, false
	}
	k.trial = k.state == gobreaker.StateHalfOpen
	return ticket{done, k.trial}, true
}

// end books the answer to a batch.
func (k *breaker) end(t ticket, failed bool) {
	if t.done == nil {
		return
	}
	if t.trial {
		k.trial = false
	}
	var err error
	if failed {
		err = errFailed
	}
	t.done(err)
}

func (k *breaker) isOpen() bool { return k.state != gobreaker.StateClosed }
