package async

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

func refusedNow(w *writer[rec]) string {
	var out []string
	for _, r := range w.Rejects() {
		out = append(out, fmt.Sprintf("%v(%d): %v", r.Value, r.Attempts, r.Err))
	}
	return strings.Join(out, "\n")
}

func TestTooOldRecordsAreRefused(t *testing.T) {
	for name, key := range map[string]func(rec) string{"without key": nil, "with key": byKey} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				d := &dest{answer: func(context.Context, []rec) error { return errDown }}
				w := open(t, d, Sink[rec]{MaxBatch: 2, MaxInFlight: 1, Key: key, Retry: Retry{Age: time.Minute}})
				woken := 0
				w.OnRoom(func() { woken++ })
				write(t, w, seq("a", 0, 5)...)
				<-time.After(30 * time.Second)
				write(t, w, rec{"b", 0})
				<-time.After(30*time.Second - time.Millisecond)
				synctest.Wait()
				equal(t, "refused before their time", refusedNow(w), "")
				<-time.After(time.Millisecond)
				synctest.Wait()
				rs := w.Rejects()
				equal(t, "refused", len(rs), 5)
				for i, r := range rs {
					if r.Value != (rec{"a", i}) || fault.CodeOf(r.Err) != fault.SinkRejected.ID || !errors.Is(r.Err, errDown) ||
						!strings.Contains(r.Err.Error(), "not delivered within 1m0s") {
						t.Errorf("refused number %d: %+v", i, r)
					}
				}
				equal(t, "wake-ups", woken, 1)
				d.mu.Lock()
				d.answer = nil
				d.mu.Unlock()
				flush(t, w)
				equal(t, "delivered", fmt.Sprint(d.delivered()), "[b0]")
				equal(t, "refused in the end", refusedNow(w), "")
			})
		})
	}
}

// A record on its way when its time is up may still be delivered; if not it is refused.
func TestTooOldOnItsWay(t *testing.T) {
	for _, err := range []error{nil, errDown} {
		bubble.Test(t, func(t *testing.T) {
			d := &dest{answer: func(context.Context, []rec) error { <-time.After(2 * time.Second); return err }}
			w := open(t, d, Sink[rec]{Linger: -1, Retry: Retry{Age: time.Second}})
			write(t, w, rec{"a", 0})
			flush(t, w)
			if got := refusedNow(w); (got == "") != (err == nil) {
				t.Errorf("answer %v: refused %q", err, got)
			}
			equal(t, "delivered", len(d.delivered()) == 1, err == nil)
		})
	}
}

func TestNoAgeLimit(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		up := time.Now().Add(48 * time.Hour)
		d := &dest{answer: func(context.Context, []rec) error {
			if time.Now().Before(up) {
				return errDown
			}
			return nil
		}}
		w := open(t, d, Sink[rec]{Retry: Retry{Age: -1, Max: time.Hour}})
		write(t, w, rec{"a", 0})
		flush(t, w)
		equal(t, "delivered", len(d.delivered()), 1)
	})
}

// The time written is stored: restarts don't give a record another day.
func TestAgeCountsAcrossRestarts(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		down := &dest{answer: func(context.Context, []rec) error { return errDown }}
		cfg := Sink[rec]{Retry: Retry{Age: time.Hour}}
		w := open(t, down, cfg)
		write(t, w, rec{"a", 0})
		<-time.After(20 * time.Minute)
		write(t, w, rec{"a", 1})
		var state []byte
		for range 3 { // one restart after the other
			var err error
			state, err = w.Snapshot()
			equal(t, "error", err, nil)
			equal(t, "close", w.Close(), nil)
			<-time.After(10 * time.Minute) // it is down, too
			w = open(t, down, cfg)
			equal(t, "error", w.Restore([][]byte{state}), nil)
		}
		<-time.After(10*time.Minute - 2*time.Millisecond)
		synctest.Wait()
		equal(t, "refused after 59 minutes", refusedNow(w), "")
		<-time.After(2 * time.Millisecond)
		synctest.Wait()
		if got := refusedNow(w); !strings.HasPrefix(got, "a0(") || strings.Contains(got, "\n") {
			t.Errorf("refused after an hour: %q, want a0", got)
		}
		<-time.After(20 * time.Minute)
		synctest.Wait()
		if got := refusedNow(w); !strings.HasPrefix(got, "a1(") {
			t.Errorf("refused after 80 minutes: %q, want a1", got)
		}
		flush(t, w)
	})
}

// A job that was stopped for long tries what it had left before it refuses any of it.
func TestRestoredRecordsHaveAChance(t *testing.T) {
	for _, down := range []bool{false, true} {
		bubble.Test(t, func(t *testing.T) {
			d := &dest{answer: func(context.Context, []rec) error { return errDown }}
			w := open(t, d, Sink[rec]{})
			write(t, w, seq("a", 0, 3)...)
			state, err := w.Snapshot()
			equal(t, "error", err, nil)
			equal(t, "close", w.Close(), nil)
			<-time.After(48 * time.Hour)
			if !down {
				d = &dest{}
			}
			w = open(t, d, Sink[rec]{Breaker: Breaker{Failures: -1}})
			equal(t, "error", w.Restore([][]byte{state}), nil)
			begun := time.Now()
			flush(t, w)
			refused := len(w.Rejects())
			if took := time.Since(begun); !down && (refused > 0 || len(d.delivered()) != 3) || down && (refused != 3 || took > lastChance) {
				t.Errorf("down: %v, %d refused after %v, %v delivered", down, refused, took, d.delivered())
			}
		})
	}
}

func TestClockSetBack(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		hang := &dest{answer: func(ctx context.Context, _ []rec) error { <-ctx.Done(); return ctx.Err() }}
		w := open(t, hang, Sink[rec]{})
		w.start = w.start.Add(48 * time.Hour) // the process before this one had another clock
		write(t, w, seq("a", 0, 3)...)
		state, err := w.Snapshot()
		equal(t, "error", err, nil)
		d := &dest{}
		w = open(t, d, Sink[rec]{Linger: linger})
		equal(t, "error", w.Restore([][]byte{state}), nil)
		write(t, w, rec{"a", 3})
		<-time.After(linger)
		synctest.Wait()
		equal(t, "sent", d.sent(), "[a0 a1 a2 a3]")
	})
}

func TestStateOfFormat1IsRead(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		old := []byte{1, 2, 1, 5, 2, 0x18, 0x20} // the numbers 5 and 32
		var got []int
		w, err := Sink[int]{
			Send:  func(_ context.Context, batch []int) error { got = append(got, batch...); return nil },
			Retry: Retry{Age: time.Hour},
		}.Writer(t.Context(), sink.Task{})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if err := w.(sink.Stateful).Restore([][]byte{old}); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		equal(t, "records", fmt.Sprint(got), "[5 32]")
	})
}

// States of several tasks are merged by age.
func TestStatesAreMergedByAge(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		hang := &dest{answer: func(ctx context.Context, _ []rec) error { <-ctx.Done(); return ctx.Err() }}
		a, b := open(t, hang, Sink[rec]{}), open(t, hang, Sink[rec]{})
		for i := range 3 {
			write(t, a, rec{"a", i})
			<-time.After(time.Second)
			write(t, b, rec{"b", i})
			<-time.After(time.Second)
		}
		var states [][]byte
		for _, w := range []*writer[rec]{b, a} {
			state, err := w.Snapshot()
			equal(t, "error", err, nil)
			states = append(states, state)
		}
		d := &dest{}
		w := open(t, d, Sink[rec]{})
		equal(t, "error", w.Restore(states), nil)
		flush(t, w)
		equal(t, "sent", d.sent(), "[a0 b0 a1 b1 a2 b2]")
	})
}

// Send may say yes after its time limit: the batch is delivered, and not sent again.
func TestLateAnswerCounts(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := &dest{answer: func(ctx context.Context, _ []rec) error { <-ctx.Done(); <-time.After(time.Second); return nil }}
		w := open(t, d, Sink[rec]{Timeout: time.Second})
		write(t, w, rec{"a", 0})
		flush(t, w)
		equal(t, "sent", d.sent(), "[a0]")
	})
}

func TestRepeatable(t *testing.T) {
	for _, yes := range []bool{false, true} {
		s, ok := sink.As[sink.Idempotent](Sink[rec]{Repeatable: yes})
		if !ok || s.Idempotent() != yes {
			t.Errorf("Repeatable %v: idempotent %v", yes, ok && s.Idempotent())
		}
	}
}
