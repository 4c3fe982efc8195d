package kafka

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/weirline/weirline/sink"
)

// age watches how old the open transaction gets. At half of its timeout an epoch is asked for, which ends it; at 70 % it takes
// no more, so that what would be rolled back with it doesn't grow. The task's goroutine calls it.
type age struct {
	timeout time.Duration
	t       sink.Task
	wake    func()

	begun time.Time    // zero: no transaction is open
	old   *atomic.Bool // it is past 70 %; one for each, as a timer of the last may be late
	stop  []func()
}

func newAge(timeout time.Duration, t sink.Task, wake func()) *age {
	return &age{timeout: timeout, t: t, wake: wake, old: &atomic.Bool{}}
}

func (a *age) begin() {
	old := &atomic.Bool{}
	a.begun, a.old = time.Now(), old
	a.stop = []func(){
		at(a.timeout/2, a.t.Request),
		at(a.timeout*7/10, func() {
			old.Store(true)
			a.t.Metrics.Count("held_transactions", 1)
			a.t.Log.Warn("a kafka transaction is old; it takes no more records until a checkpoint ends it", "timeout", a.timeout)
		}),
		at(a.timeout, a.wake), // to find out that it is over
	}
}

// at calls f once, in another goroutine, unless it is stopped before. After stop returns f may still be running.
func at(d time.Duration, f func()) (stop func()) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	off := context.AfterFunc(ctx, f)
	return func() {
		off()
		cancel()
	}
}

// end forgets the open transaction.
func (a *age) end() {
	for _, stop := range a.stop {
		stop()
	}
	a.begun, a.stop, a.old = time.Time{}, nil, &atomic.Bool{}
	a.look()
}

func (a *age) held() bool { return a.old.Load() }

func (a *age) deadline() time.Time { return a.begun.Add(a.timeout) }

func (a *age) over() bool { return !a.begun.IsZero() && time.Now().After(a.deadline()) }

// look tells the age as a part of the timeout.
func (a *age) look() {
	v := 0.0
	if !a.begun.IsZero() {
		v = float64(time.Since(a.begun)) / float64(a.timeout)
	}
	a.t.Metrics.Gauge("transaction_age_ratio", v)
}
