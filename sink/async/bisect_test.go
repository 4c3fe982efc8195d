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

var errBad = errors.New("bad record in batch")

// whole refuses each batch with one of these records in it.
func whole(bad ...int) func(context.Context, []rec) error {
	return func(_ context.Context, batch []rec) error {
		for _, r := range batch {
			for _, n := range bad {
				if r.N == n {
					return Refuse(errBad)
				}
			}
		}
		return nil
	}
}

func TestRefusedBatchIsHalved(t *testing.T) {
	cases := []struct {
		name    string
		records int
		bad     []int
		calls   int
		refused string
	}{
		{"none", 8, nil, 1, "[]"},
		{"one of one", 1, []int{0}, 1, "[a0]"},
		{"first", 8, []int{0}, 7, "[a0]"},
		{"last", 8, []int{7}, 7, "[a7]"},
		{"odd number", 7, []int{3}, 7, "[a3]"},
		{"two", 8, []int{1, 6}, 11, "[a1 a6]"},
		{"all", 4, []int{0, 1, 2, 3}, 7, "[a0 a1 a2 a3]"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				d, m := &dest{answer: whole(c.bad...)}, newCounts()
				w := openTask(t, d, Sink[rec]{MaxInFlight: 1, Key: func(r rec) string { return r.K }}, testTask(&logLines{}, m))
				write(t, w, seq("a", 0, c.records)...)
				flush(t, w)
				synctest.Wait()
				var refused []rec
				for _, r := range w.Rejects() {
					refused = append(refused, r.Value.(rec))
					if !errors.Is(r.Err, errBad) {
						t.Errorf("cause of %v: %v", r.Value, r.Err)
					}
				}
				equal(t, "refused", fmt.Sprint(refused), c.refused)
				equal(t, "delivered", len(d.delivered()), c.records-len(c.bad))
				equal(t, "attempts", m.counts["attempts"], int64(c.calls))
				last := -1
				for _, r := range d.delivered() {
					if r.N < last {
						t.Errorf("%v came after %d", r, last)
					}
					last = r.N
				}
			})
		})
	}
}

func TestRefusedRecordSaysHowOftenItWasSent(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := open(t, &dest{answer: whole(2)}, Sink[rec]{})
		write(t, w, seq("a", 0, 4)...)
		flush(t, w)
		rs := w.Rejects()
		if len(rs) != 1 || rs[0].Attempts != 3 {
			t.Errorf("refused: %+v, want one sent 3 times", rs)
		}
	})
}

// While pieces are sent the destination may go down, fail single records or end the task.
func TestHalvesMeetOtherErrors(t *testing.T) {
	cases := []struct {
		name string
		errs []error
		want string // batches
		err  string
	}{
		{"down", []error{Refuse(errBad), nil, errDown}, "[a0 a1 a2 a3] [a0 a1] [a2 a3] [a2 a3]", ""},
		{"down at the first piece", []error{Refuse(errBad), errDown}, "[a0 a1 a2 a3] [a0 a1] [a0 a1 a2 a3]", ""},
		{
			"single record",
			[]error{Refuse(errBad), &Partial{map[int]error{1: errDown}}, nil},
			"[a0 a1 a2 a3] [a0 a1] [a2 a3] [a1]", "",
		},
		{"permanent", []error{Refuse(errBad), nil, sink.Permanent(errDown)}, "[a0 a1 a2 a3] [a0 a1] [a2 a3]", "is down"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				d := &dest{answer: script(c.errs...)}
				w := open(t, d, Sink[rec]{})
				write(t, w, seq("a", 0, 4)...)
				err := w.Flush(t.Context())
				if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
					t.Errorf("flush: %v", err)
				}
				equal(t, "batches", d.sent(), c.want)
			})
		})
	}
}

func TestPanicInAHalf(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		calls := 0
		d := &dest{answer: func(context.Context, []rec) error {
			if calls++; calls > 1 {
				panic("boom")
			}
			return Refuse(errBad)
		}}
		w := open(t, d, Sink[rec]{})
		write(t, w, seq("a", 0, 4)...)
		equal(t, "code", fault.CodeOf(w.Flush(t.Context())), fault.UserPanic.ID)
	})
}

func TestEachHalfHasItsTimeout(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := &dest{answer: func(ctx context.Context, batch []rec) error {
			select {
			case <-time.After(900 * time.Millisecond):
				return whole(0)(ctx, batch)
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		begun := time.Now()
		w := open(t, d, Sink[rec]{Timeout: time.Second, Linger: -1})
		write(t, w, seq("a", 0, 4)...)
		flush(t, w)
		equal(t, "batches", d.sent(), "[a0 a1 a2 a3] [a0 a1] [a0] [a1] [a2 a3]")
		equal(t, "time", time.Since(begun), 5*900*time.Millisecond)
	})
}

func TestCloseStopsHalving(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := &dest{answer: func(context.Context, []rec) error { <-time.After(time.Second); return Refuse(errBad) }}
		w := open(t, d, Sink[rec]{Linger: -1})
		write(t, w, seq("a", 0, 64)...)
		<-time.After(1500 * time.Millisecond)
		begun := time.Now()
		equal(t, "close", w.Close(), nil)
		equal(t, "time of close", time.Since(begun), 500*time.Millisecond)
		state, err := w.Snapshot()
		equal(t, "error", err, nil)
		equal(t, "records still held", len(strings.Fields(stored(t, state))), 64)
	})
}
