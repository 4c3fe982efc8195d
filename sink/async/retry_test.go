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

var errDown = errors.New("destination is down")

// script answers each call of Send by the next error.
func script(errs ...error) func(context.Context, []rec) error {
	return func(context.Context, []rec) error {
		if len(errs) == 0 {
			return nil
		}
		err := errs[0]
		errs = errs[1:]
		return err
	}
}

func TestPartialFailureSendsOnlyWhatFailed(t *testing.T) {
	byKey := func(r rec) string { return r.K }
	a, b := rec{"a", 0}, rec{"b", 0}
	cases := []struct {
		name  string
		key   func(rec) string
		batch []rec
		errs  []error
		want  string
	}{
		{"without key", nil, seq("a", 0, 4), []error{&Partial{map[int]error{1: errDown, 3: errDown}}}, "[a0 a1 a2 a3] [a1 a3]"},
		{
			"later records of a key go with the failed one", byKey,
			[]rec{a, b, {"a", 1}, {"b", 1}, {"a", 2}},
			[]error{&Partial{map[int]error{1: errDown}}},
			"[a0 a1 a2 b0 b1] [a1 a2]",
		},
		{"refused record doesn't hold its key", byKey, seq("a", 0, 3), []error{&Partial{map[int]error{1: Refuse(errDown)}}}, "[a0 a1 a2]"},
		{
			"refused after failed", byKey, seq("a", 0, 3),
			[]error{&Partial{map[int]error{0: errDown, 1: Refuse(errDown)}}},
			"[a0 a1 a2] [a0 a2]",
		},
		{"whole batch", byKey, seq("a", 0, 3), []error{errDown, errDown}, "[a0 a1 a2] [a0 a1 a2] [a0 a1 a2]"},
		{"nil errors are none", nil, seq("a", 0, 2), []error{&Partial{map[int]error{0: nil}}}, "[a0 a1]"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				d := &dest{answer: script(c.errs...)}
				w := open(t, d, Sink[rec]{Key: c.key})
				write(t, w, c.batch...)
				flush(t, w)
				equal(t, "batches", d.sent(), c.want)
			})
		})
	}
}

func TestRetryDelays(t *testing.T) {
	r := Retry{Base: time.Second, Max: 5 * time.Second, Jitter: 0.5}.withDefaults()
	for _, c := range []struct {
		attempts int
		random   float64
		want     time.Duration
	}{
		{1, 0, time.Second},
		{2, 0, 2 * time.Second},
		{3, 0, 4 * time.Second},
		{4, 0, 5 * time.Second},
		{1 << 40, 0, 5 * time.Second},
		{1, 1, time.Second / 2},
		{4, 1, 5 * time.Second / 2},
	} {
		equal(t, fmt.Sprint("delay after attempt ", c.attempts), r.delay(c.attempts, c.random), c.want)
	}
}

func TestWaitsWhileDown(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		up := time.Now().Add(time.Hour)
		calls := 0
		d := &dest{}
		d.answer = func(context.Context, []rec) error {
			if calls++; time.Now().Before(up) {
				return errDown
			}
			return nil
		}
		w := open(t, d, Sink[rec]{MaxInFlight: 1})
		write(t, w, rec{"a", 0})
		flush(t, w)
		if late := time.Since(up); late > 10*time.Second {
			t.Errorf("delivered %v after the destination was up", late)
		}
		if calls > 1000 {
			t.Errorf("%d attempts in an hour of failure", calls)
		}
	})
}

func TestRetryAfterIsKept(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		begun := time.Now()
		d := &dest{answer: script(&Partial{map[int]error{0: sink.RetryAfter(errDown, time.Minute), 1: errDown}})}
		w := open(t, d, Sink[rec]{Retry: Retry{Jitter: -1}})
		write(t, w, seq("a", 0, 3)...)
		flush(t, w)
		equal(t, "batches", d.sent(), "[a0 a1 a2] [a1] [a0]")
		equal(t, "time", time.Since(begun), time.Minute)
	})
}

func TestAttemptLimitRefuses(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := &dest{answer: script(errDown, errDown, errDown)}
		w := open(t, d, Sink[rec]{Retry: Retry{Attempts: 2}})
		write(t, w, rec{"a", 0})
		flush(t, w)
		rs := w.Rejects()
		if len(rs) != 1 || rs[0].Attempts != 2 || !errors.Is(rs[0].Err, errDown) || rs[0].Value != (rec{"a", 0}) {
			t.Errorf("rejects: %+v", rs)
		}
	})
}

func TestRejectedRecords(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		bad := errors.New("bad value")
		d := &dest{answer: script(&sink.Rejected{Errs: map[int]error{1: bad}})}
		w := open(t, d, Sink[rec]{})
		woken := 0
		w.OnRoom(func() { woken++ })
		write(t, w, seq("a", 0, 3)...)
		<-time.After(time.Second)
		synctest.Wait()
		equal(t, "wake-ups", woken, 1)
		equal(t, "task's error", w.Err(), error(nil))

		state, err := w.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		rs := w.Rejects()
		if len(rs) != 1 || rs[0].Value != (rec{"a", 1}) || !errors.Is(rs[0].Err, bad) || rs[0].Attempts != 1 {
			t.Errorf("rejects: %+v", rs)
		}
		equal(t, "rejects asked twice", len(w.Rejects()), 0)
		equal(t, "records in a state taken before they were collected", stored(t, state), "[a1]")
		state, err = w.Snapshot()
		equal(t, "snapshot error", err, nil)
		equal(t, "records in a state taken afterwards", stored(t, state), "[]")
	})
}

func stored(t *testing.T, state []byte) string {
	t.Helper()
	w := open(t, &dest{}, Sink[rec]{})
	all, err := w.decode(nil, state)
	if err != nil {
		t.Fatal(err)
	}
	rs := []rec{}
	for _, r := range all {
		rs = append(rs, r.v)
	}
	return fmt.Sprint(rs)
}

func TestUncollectedRejectsTakeTheRoom(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := &dest{answer: func(context.Context, []rec) error { return &Partial{map[int]error{0: Refuse(errDown)}} }}
		w := open(t, d, Sink[rec]{MaxBatch: 1, MaxBuffered: 2})
		write(t, w, seq("a", 0, 3)...)
		flush(t, w)
		equal(t, "room with three refused records", w.Room(), false)
		equal(t, "rejects", len(w.Rejects()), 3)
		equal(t, "room afterwards", w.Room(), true)
	})
}

func TestFatalAnswers(t *testing.T) {
	cases := []struct {
		name   string
		answer func(context.Context, []rec) error
		want   string
		code   fault.Code
	}{
		{"permanent", script(sink.Permanent(errDown)), "destination is down", fault.SinkFailed},
		{"permanent record", script(&Partial{map[int]error{1: sink.Permanent(errDown)}}), "destination is down", fault.SinkFailed},
		{"index outside", script(&sink.Rejected{Errs: map[int]error{2: errDown}}), "names record 2 of a batch of 2", fault.SinkFailed},
		{"panic", func(context.Context, []rec) error { panic("boom") }, "boom", fault.UserPanic},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := open(t, &dest{answer: c.answer}, Sink[rec]{})
				woken := 0
				w.OnRoom(func() { woken++ })
				write(t, w, seq("a", 0, 2)...)
				err := w.Flush(t.Context())
				if err == nil || !strings.Contains(err.Error(), c.want) || fault.CodeOf(err) != c.code.ID {
					t.Fatalf("got error %v, want %s with %q", err, c.code.ID, c.want)
				}
				synctest.Wait()
				equal(t, "Err", w.Err(), err)
				equal(t, "Write", w.Write(t.Context(), seq("a", 2, 3)), err)
				equal(t, "wake-ups", woken, 1)
			})
		})
	}
}
