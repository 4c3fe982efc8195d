package async

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/sink"
)

var errTooMany = errors.New("too many requests")

// bucket is a server that lets so many requests a second through.
type bucket struct {
	mu       sync.Mutex
	rate     float64 // requests a second, 0: any number
	burst    float64
	latency  time.Duration
	delay    time.Duration // what it asks for when it refuses one
	tokens   float64
	at       time.Time
	requests int
	taken    int
	early    int       // requests that came before the time it asked for
	told     time.Time // when it asked last
	not      time.Time // that time
}

func (b *bucket) send(ctx context.Context, _ []rec) error {
	b.mu.Lock()
	sent := time.Now()
	if sent.After(b.told) && sent.Before(b.not) {
		b.early++
	}
	b.mu.Unlock()
	select {
	case <-time.After(b.latency):
	case <-ctx.Done():
		return ctx.Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests++
	now := time.Now()
	b.tokens = min(b.burst, b.tokens+b.rate*now.Sub(b.at).Seconds())
	b.at = now
	if b.rate > 0 {
		if b.tokens < 1 {
			b.told, b.not = now, now.Add(b.delay)
			return sink.RetryAfter(errTooMany, b.delay)
		}
		b.tokens--
	}
	b.taken++
	return nil
}

// over counts requests and those taken in a stretch of time, by the second.
func (b *bucket) over(d time.Duration) (requests, taken float64) {
	b.mu.Lock()
	r, t := b.requests, b.taken
	b.mu.Unlock()
	<-time.After(d)
	b.mu.Lock()
	defer b.mu.Unlock()
	return float64(b.requests-r) / d.Seconds(), float64(b.taken-t) / d.Seconds()
}

func (b *bucket) allow(rate float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rate, b.tokens, b.at = rate, 0, time.Now()
}

// feed writes as fast as the writer takes it, until the test's end.
func feed(t *testing.T, w sink.Writer[rec], records int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	batch := seq("a", 0, records)
	done.Go(func() {
		for w.Write(ctx, batch) == nil {
			continue
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
}

// In steady throttling the server gets about as many requests as it allows, refused ones included, and no request comes
// before the time it asks for. When it throttles no more, it gets all there is soon.
func TestPaceFollowsTheServer(t *testing.T) {
	cases := []struct {
		rate, burst    float64
		latency, delay time.Duration
		inFlight       int
	}{
		{2, 1, 50 * time.Millisecond, 500 * time.Millisecond, 16},
		{5, 1, 20 * time.Millisecond, 0, 16},
		{10, 10, 50 * time.Millisecond, time.Second, 4},
		{20, 1, 10 * time.Millisecond, time.Second, 16},
		{20, 20, 100 * time.Millisecond, 0, 16},
		{50, 50, 20 * time.Millisecond, 100 * time.Millisecond, 1},
		{50, 5, 100 * time.Millisecond, time.Second, 16},
		{100, 1, 10 * time.Millisecond, 10 * time.Millisecond, 16},
		{100, 25, 10 * time.Millisecond, time.Second, 16},
		{200, 50, 5 * time.Millisecond, time.Second, 16},
		{100, 100, 20 * time.Millisecond, time.Second, 32},
		{100, 200, 200 * time.Millisecond, 0, 64},
		{500, 50, 50 * time.Millisecond, 0, 64},
	}
	for _, c := range cases {
		t.Run(fmt.Sprintf("rate=%v,burst=%v,latency=%v,delay=%v,inflight=%d", c.rate, c.burst, c.latency, c.delay, c.inFlight), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				b := &bucket{burst: c.burst, latency: c.latency, delay: c.delay, at: time.Now()}
				w, err := Sink[rec]{Send: b.send, MaxBatch: 1, MaxInFlight: c.inFlight}.Writer(t.Context(), sink.Task{})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { w.Close() })
				feed(t, w, 1)
				<-time.After(3 * time.Second)
				full, _ := b.over(2 * time.Second)
				b.allow(c.rate)
				<-time.After(20 * time.Second)
				requests, taken := b.over(time.Minute)
				t.Logf("full %v/s, allowed %v/s: requests %.2f, taken %.2f of it", full, c.rate, requests/c.rate, taken/c.rate)
				if requests < 0.8*c.rate || requests > 1.2*c.rate {
					t.Errorf("%.1f requests a second, allowed are %v", requests, c.rate)
				}
				worst := time.Duration(0)
				for i := range 3 {
					b.allow(0)
					healed := time.Now()
					for {
						if now, _ := b.over(100 * time.Millisecond); now >= 0.9*full {
							break
						}
						if time.Since(healed) > time.Minute {
							t.Fatalf("never at full rate")
						}
					}
					worst = max(worst, time.Since(healed))
					b.allow(c.rate)
					<-time.After(15*time.Second + time.Duration(i)*1111*time.Millisecond)
				}
				t.Logf("healed within %v", worst)
				equal(t, "requests before the time the server asked for", b.early, 0)
				if worst > 10*time.Second {
					t.Errorf("full rate %v after it throttled no more", worst)
				}
			})
		})
	}
}
