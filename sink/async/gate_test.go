package async

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/sink"
)

func clock() func() time.Duration {
	begun := time.Now()
	return func() time.Duration { return time.Since(begun) }
}

// With nothing on its way the gate always names a time, and that time comes: it can't hang.
func TestGateNamesATime(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 4))
		for range 50 {
			now := clock()
			g := newGate(1+r.IntN(5), r.IntN(5) == 0, Breaker{Failures: 1 + r.IntN(3), Open: time.Second}, now)
			type trip struct {
				t    ticket
				sent time.Duration
			}
			var out []trip
			for range 300 {
				at := g.when(now(), len(out))
				switch {
				case at == never && len(out) == 0:
					t.Fatal("never, with nothing on its way")
				case at != never && at > now()+time.Minute:
					t.Fatalf("only in %v", at-now())
				case at != never && r.IntN(2) == 0:
					<-time.After(at - now())
					if tk, ok := g.begin(now()); ok {
						out = append(out, trip{tk, now()})
					} else if len(out) == 0 {
						t.Fatalf("the time has come, but the gate says no")
					}
				case len(out) > 0:
					<-time.After(time.Duration(r.IntN(100)) * time.Millisecond)
					i := r.IntN(len(out))
					x := out[i]
					out = append(out[:i], out[i+1:]...)
					reply := reply{sent: x.sent, took: now() - x.sent, full: true, share: 1}
					switch r.IntN(3) {
					case 0:
						reply.failed, reply.share = true, 0
					case 1:
						reply.throttled, reply.share, reply.delay = true, 0, time.Duration(r.IntN(2000))*time.Millisecond
					}
					g.end(now(), x.t, reply)
				}
			}
		}
	})
}

func TestBreaker(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		now := clock()
		b := newBreaker(Breaker{Failures: 3, Open: time.Second}, now)
		answer := func(failed bool) {
			t.Helper()
			tk, ok := b.begin()
			if !ok {
				t.Fatal("the breaker lets nothing through")
			}
			b.end(tk, failed)
		}
		for _, failed := range []bool{true, true, false, true, true} {
			answer(failed)
			equal(t, "open", b.isOpen(), false)
		}
		late, _ := b.begin() // still on its way when it opens
		answer(true)
		equal(t, "open after three failures in a row", b.isOpen(), true)
		equal(t, "wait", b.when(now())-now(), time.Second+1)
		b.end(late, false)
		equal(t, "open after an old batch came home", b.isOpen(), true)
		if _, ok := b.begin(); ok {
			t.Error("an open breaker let a batch through")
		}
		<-time.After(b.when(now()) - now())
		trial, ok := b.begin()
		equal(t, "trial", ok, true)
		equal(t, "a second one", b.when(now()), never)
		b.end(trial, true)
		equal(t, "wait after a trial that failed", b.when(now())-now(), time.Second+1)
		<-time.After(b.when(now()) - now())
		answer(false)
		equal(t, "open after a trial that was answered", b.isOpen(), false)
		equal(t, "opened and closed", b.opened && b.closed, true)
	})
}

func TestNoBreaker(t *testing.T) {
	b := newBreaker(Breaker{Failures: -1}, clock())
	for range 100 {
		tk, ok := b.begin()
		equal(t, "lets through", ok, true)
		b.end(tk, true)
	}
	equal(t, "open", b.isOpen(), false)
}

func TestBudget(t *testing.T) {
	b := newBudget(0.1, 100, 4) // a reserve of 400, 100 a second
	equal(t, "reserve", b.when(0, 400), 0)
	b.spend(400)
	equal(t, "one more", b.when(0, 1), 10*time.Millisecond+1)
	b.earn(1000)
	equal(t, "after a thousand were sent", b.when(0, 100), 0)
	equal(t, "more than that", b.when(0, 101) > 0, true)
	b.spend(100)
	equal(t, "half a second's trickle", b.when(500*time.Millisecond, 50), 500*time.Millisecond)
	equal(t, "the reserve is full at last", b.when(time.Hour, 400), time.Hour)
	equal(t, "more than the reserve goes when it is full", b.when(time.Hour, 4000), time.Hour)
	b.earn(1_000_000)
	b.spend(400)
	equal(t, "no more than the reserve is saved", b.when(time.Hour, 1) > time.Hour, true)
	free := newBudget(-1, 100, 4)
	free.spend(1_000_000)
	equal(t, "without a budget", free.when(0, 1000), 0)
}

// A destination that is down gets one batch now and again; when it is up, everything goes at once.
func TestDownAndUpAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		up := time.Now().Add(5 * time.Minute)
		worst := 0
		lastMinute := map[int]int{}
		d := &dest{}
		begun := time.Now()
		var mu sync.Mutex
		d.answer = func(context.Context, []rec) error {
			mu.Lock()
			lastMinute[int(time.Since(begun)/time.Minute)]++
			mu.Unlock()
			<-time.After(10 * time.Millisecond)
			if time.Now().Before(up) {
				return errDown
			}
			return nil
		}
		log, m := &logLines{}, newCounts()
		w := openTask(t, d, Sink[rec]{MaxBatch: 10, MaxBuffered: 1000}, testTask(log, m))
		write(t, w, seq("a", 0, 1000)...)
		<-time.After(time.Minute)
		synctest.Wait()
		equal(t, "breakers open", m.gauges["breakers_open"], 1)
		equal(t, "records held", m.gauges["buffered"], 1000)
		flush(t, w)
		synctest.Wait()
		for minute, n := range lastMinute {
			if minute > 0 && minute < 5 {
				worst = max(worst, n)
			}
		}
		if worst > 61 {
			t.Errorf("%d calls in a minute of failure, want about one a second", worst)
		}
		if late := time.Since(up); late > 2*time.Second {
			t.Errorf("all is delivered %v after it was up", late)
		}
		equal(t, "breakers open", m.gauges["breakers_open"], 0)
		equal(t, "log", strings.Join(log.lines, "\n"), "WARN send failed, records wait and are sent again\n"+
			"INFO destination counts as down, one batch at a time tries it\nINFO destination is up\nINFO destination takes records again")
	})
}

// The window and the rest from before a failure are there at once when the destination is up again.
func TestFullRateAfterAFailure(t *testing.T) {
	for _, down := range []time.Duration{time.Second, 5 * time.Second, time.Minute} {
		t.Run(fmt.Sprint(down), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				b := &bucket{latency: 10 * time.Millisecond}
				var downUntil atomic.Int64
				s := Sink[rec]{MaxBatch: 10, Send: func(ctx context.Context, batch []rec) error {
					if time.Now().UnixNano() < downUntil.Load() {
						return errDown
					}
					return b.send(ctx, batch)
				}}
				w, err := s.Writer(t.Context(), testTask(&logLines{}, newCounts()))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { w.Close() })
				feed(t, w, 10)
				<-time.After(2 * time.Second)
				full, _ := b.over(time.Second)
				downUntil.Store(time.Now().Add(down).UnixNano())
				<-time.After(down)
				begun := time.Now()
				for {
					if now, _ := b.over(100 * time.Millisecond); now >= 0.9*full {
						break
					}
					if time.Since(begun) > 10*time.Second {
						t.Fatal("not at full rate after 10 s")
					}
				}
				t.Logf("at %v batches a second again after %v", full, time.Since(begun))
			})
		})
	}
}

// A destination that throttles is not down.
func TestThrottlingOpensNoBreaker(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := &dest{answer: func(context.Context, []rec) error { return sink.RetryAfter(errTooMany, 0) }}
		w := open(t, d, Sink[rec]{MaxBatch: 1})
		write(t, w, seq("a", 0, 10)...)
		<-time.After(time.Minute)
		synctest.Wait()
		w.mu.Lock()
		equal(t, "breakers open", w.open, 0)
		equal(t, "paced", w.pace > 0, true)
		w.mu.Unlock()
	})
}
