package async

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirline/weirline/internal/bubble"
)

const linger = 10 * time.Millisecond

func TestBatchByCount(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := &dest{}
		w := open(t, d, Sink[rec]{MaxBatch: 3, MaxInFlight: 1, Linger: linger})
		write(t, w, seq("a", 0, 7)...)
		synctest.Wait()
		equal(t, "before the linger", d.sent(), "[a0 a1 a2] [a3 a4 a5]")
		<-time.After(linger)
		synctest.Wait()
		equal(t, "after the linger", d.sent(), "[a0 a1 a2] [a3 a4 a5] [a6]")
	})
}

func TestBatchByBytes(t *testing.T) {
	cases := []struct {
		name        string
		batch, size int
		sizes       []int
		want        string
	}{
		{"bytes", 100, 10, []int{4, 4, 4, 4, 2, 9}, "[r4 r4] [r4 r4 r2] [r9]"},
		{"record over the limit goes alone", 100, 10, []int{4, 50, 4, 11}, "[r4] [r50] [r4] [r11]"},
		{"exactly the limit", 100, 10, []int{5, 5, 10}, "[r5 r5] [r10]"},
		{"both limits at once", 2, 10, []int{5, 5, 5, 5}, "[r5 r5] [r5 r5]"},
		{"count first", 2, 10, []int{1, 1, 9, 9}, "[r1 r1] [r9] [r9]"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				d := &dest{}
				w := open(t, d, Sink[rec]{
					MaxBatch: c.batch, MaxBytes: c.size, MaxInFlight: 1, Linger: linger,
					Size: func(r rec) int { return r.N },
				})
				for _, n := range c.sizes {
					write(t, w, rec{"r", n})
				}
				flush(t, w)
				equal(t, "batches", d.sent(), c.want)
			})
		})
	}
}

func TestBatchByAgeOfItsFirstRecord(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := &dest{}
		w := open(t, d, Sink[rec]{Linger: linger})
		write(t, w, rec{"a", 0})
		<-time.After(linger - time.Millisecond)
		write(t, w, rec{"a", 1})
		synctest.Wait()
		equal(t, "too early", d.sent(), "")
		<-time.After(time.Millisecond)
		synctest.Wait()
		equal(t, "at the first record's age", d.sent(), "[a0 a1]")

		<-time.After(time.Second)
		write(t, w, rec{"a", 2})
		<-time.After(linger - 1)
		synctest.Wait()
		equal(t, "the next batch has an age of its own", d.sent(), "[a0 a1]")
		<-time.After(1)
		synctest.Wait()
		equal(t, "second batch", d.sent(), "[a0 a1] [a2]")
	})
}

func TestNoLinger(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := &dest{}
		w := open(t, d, Sink[rec]{Linger: -1})
		write(t, w, rec{"a", 0})
		synctest.Wait()
		equal(t, "sent at once", d.sent(), "[a0]")
	})
}

func TestLimitOfCallsInFlight(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		d := &dest{answer: func(context.Context, []rec) error { <-gate; return nil }}
		w := open(t, d, Sink[rec]{MaxBatch: 1, MaxInFlight: 3})
		write(t, w, seq("a", 0, 10)...)
		synctest.Wait()
		w.mu.Lock()
		equal(t, "calls of Send", w.inFlight, 3)
		w.mu.Unlock()
		close(gate)
		flush(t, w)
		equal(t, "delivered", len(d.delivered()), 10)
	})
}

func TestTimeoutOfOneAttempt(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		tries := 0
		d := &dest{}
		d.answer = func(ctx context.Context, _ []rec) error {
			if tries++; tries == 1 {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		begun := time.Now()
		w := open(t, d, Sink[rec]{Timeout: time.Second, Retry: Retry{Base: time.Minute, Jitter: -1, Max: time.Hour}})
		write(t, w, rec{"a", 0})
		flush(t, w)
		equal(t, "attempts", tries, 2)
		equal(t, "time", time.Since(begun), time.Second+time.Minute)
	})
}
