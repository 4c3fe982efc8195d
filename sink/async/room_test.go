package async

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/sink"
)

func TestRoomAndOverdraft(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		d := &dest{answer: func(context.Context, []rec) error { <-gate; return nil }}
		w := open(t, d, Sink[rec]{MaxBatch: 2, MaxInFlight: 1, MaxBuffered: 4})
		var woken atomic.Int32
		w.OnRoom(func() { woken.Add(1) })
		write(t, w, seq("a", 0, 3)...)
		equal(t, "room with one place left", w.Room(), true)
		write(t, w, seq("a", 3, 10)...) // one batch over the limit: must not wait
		equal(t, "room over the limit", w.Room(), false)

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := w.Write(ctx, seq("a", 10, 11)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("write without room and with a cancelled context: %v", err)
		}
		if err := w.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("flush with a cancelled context: %v", err)
		}
		equal(t, "wake-ups while full", woken.Load(), 0)
		for range 4 {
			gate <- struct{}{}
			synctest.Wait()
		}
		equal(t, "wake-ups", woken.Load(), 1)
		equal(t, "room", w.Room(), true)
		close(gate)
		flush(t, w)
		equal(t, "delivered", len(d.delivered()), 10) // the one whose Write failed isn't among them
	})
}

func TestWriteWaitsForRoom(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := &dest{answer: func(context.Context, []rec) error { <-time.After(time.Second); return nil }}
		w := open(t, d, Sink[rec]{MaxInFlight: 1, MaxBufferedBytes: 10, Size: func(rec) int { return 5 }})
		begun := time.Now()
		write(t, w, seq("a", 0, 2)...)
		equal(t, "first write", time.Since(begun), 0)
		write(t, w, seq("a", 2, 4)...) // full: sent without linger
		equal(t, "second write", time.Since(begun), time.Second)
	})
}

func TestLanesKeepOrder(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		busy := map[string]bool{}
		seen := map[string]int{}
		mu := make(chan struct{}, 1)
		d := &dest{answer: func(_ context.Context, batch []rec) error {
			mu <- struct{}{}
			keys := map[string]bool{}
			for _, r := range batch {
				keys[r.K] = true
				if seen[r.K] != r.N {
					t.Errorf("%v came after %d", r, seen[r.K])
				}
				seen[r.K] = r.N + 1
			}
			for k := range keys {
				if busy[k] {
					t.Errorf("two batches of key %s on their way", k)
				}
				busy[k] = true
			}
			wait := time.Duration(len(batch)%7) * time.Millisecond
			<-mu
			<-time.After(wait)
			mu <- struct{}{}
			for k := range keys {
				delete(busy, k)
			}
			<-mu
			return nil
		}}
		w := open(t, d, Sink[rec]{MaxBatch: 7, MaxInFlight: 5, Key: func(r rec) string { return r.K }})
		for i := range 200 {
			for _, k := range []string{"a", "b", "c", "d", "e"} {
				write(t, w, rec{k, i})
			}
		}
		flush(t, w)
		equal(t, "delivered", len(d.delivered()), 1000)
		equal(t, "lanes left", len(w.lanes), 0)
	})
}

func TestSlowKeyHoldsNoOther(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := &dest{answer: func(_ context.Context, batch []rec) error {
			errs := map[int]error{}
			for i, r := range batch {
				if r.K == "slow" {
					errs[i] = sink.RetryAfter(errDown, time.Hour)
				}
			}
			if len(errs) > 0 {
				return &Partial{errs}
			}
			return nil
		}}
		w := open(t, d, Sink[rec]{MaxInFlight: 1, Linger: linger, Key: func(r rec) string { return r.K }})
		write(t, w, seq("slow", 0, 50)...)
		write(t, w, seq("a", 0, 50)...)
		<-time.After(time.Second)
		synctest.Wait()
		equal(t, "delivered of the other key", len(d.delivered()), 50)
	})
}

func TestStreakIsLoggedOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		log, m := &logLines{}, newCounts()
		d := &dest{answer: script(errDown, errDown, errDown)}
		w := openTask(t, d, Sink[rec]{MaxBatch: 3, MaxInFlight: 1, Retry: Retry{Jitter: -1}}, testTask(log, m))
		written := time.Now()
		write(t, w, seq("a", 0, 3)...)
		flush(t, w)
		synctest.Wait()
		equal(t, "log", strings.Join(log.lines, "\n"),
			"WARN send failed, records wait and are sent again\nINFO destination takes records again")
		warn, info := log.attrs[0], log.attrs[1]
		equal(t, "waiting", warn["waiting_records"].Int64(), 3)
		equal(t, "since", warn["waiting_since"].Time().Equal(written), true)
		equal(t, "resent by a restart", warn["a_restart_would_resend_records"].Int64(), 3)
		equal(t, "duration", info["duration"].Duration(), 700*time.Millisecond)
		equal(t, "attempts", m.counts["attempts"], 4)
		equal(t, "sent", m.counts["sent"], 3)
		equal(t, "sent again", m.counts["retries_failed"], 9)
		equal(t, "buffered", m.gauges["buffered"], 0)
		equal(t, "in flight", m.gauges["in_flight"], 0)
		equal(t, "times of Send", m.seen["send_seconds"], 4)

		d.answer = script(errDown)
		write(t, w, seq("a", 3, 4)...)
		flush(t, w)
		synctest.Wait()
		equal(t, "lines after a second streak", len(log.lines), 4)
	})
}

func TestOldestRecordShowsWhileSendHangs(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		m := newCounts()
		d := &dest{answer: func(ctx context.Context, _ []rec) error { <-ctx.Done(); return ctx.Err() }}
		w := openTask(t, d, Sink[rec]{Timeout: -1}, testTask(&logLines{}, m))
		write(t, w, rec{"a", 0})
		<-time.After(90 * time.Second)
		if _, err := w.Snapshot(); err != nil {
			t.Fatal(err)
		}
		equal(t, "oldest_seconds", m.gauges["oldest_seconds"], 90)
		equal(t, "in_flight", m.gauges["in_flight"], 1)
	})
}

func TestClose(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		returned := 0
		d := &dest{answer: func(ctx context.Context, _ []rec) error {
			<-ctx.Done()
			<-time.After(time.Second)
			returned++
			return ctx.Err()
		}}
		log := &logLines{}
		w := openTask(t, d, Sink[rec]{MaxBatch: 1, MaxInFlight: 1}, testTask(log, newCounts()))
		write(t, w, seq("a", 0, 3)...)
		synctest.Wait()
		equal(t, "first close", w.Close(), nil)
		equal(t, "calls of Send that Close waited for", returned, 1)
		equal(t, "second close", w.Close(), nil)
		equal(t, "write after close", w.Write(t.Context(), seq("a", 0, 1)), errClosed)
		equal(t, "flush after close", w.Flush(t.Context()), errClosed)
		equal(t, "log lines", len(log.lines), 0)

		unused := open(t, d, Sink[rec]{})
		equal(t, "close unused", unused.Close(), nil)
		lingering := open(t, d, Sink[rec]{Linger: time.Hour})
		write(t, lingering, rec{"a", 0})
		equal(t, "close with the timer set", lingering.Close(), nil)
	})
}
