package async

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/sink"
)

func byKey(r rec) string { return r.K }

// host is where a key lies: keys that begin with the same letter lie together.
func host(r rec) string { return r.K[:1] }

func TestBatchesDoNotMixShards(t *testing.T) {
	for name, key := range map[string]func(rec) string{"without key": nil, "with key": byKey} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				d := &dest{answer: func(_ context.Context, batch []rec) error {
					for _, r := range batch {
						if host(r) != host(batch[0]) {
							t.Errorf("a batch of two shards: %v", batch)
						}
					}
					return nil
				}}
				w := open(t, d, Sink[rec]{MaxBatch: 7, Shard: host, Key: key})
				for i := range 100 {
					write(t, w, rec{"a1", i}, rec{"b1", i}, rec{"a2", i}, rec{"c", i})
				}
				flush(t, w)
				equal(t, "delivered", len(d.delivered()), 400)
				equal(t, "shards where records wait", len(w.active), 0)
				equal(t, "shards", len(w.shards), 3)
			})
		})
	}
}

func TestShardsHaveSlotsOfTheirOwn(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		d := &dest{answer: func(_ context.Context, batch []rec) error {
			if host(batch[0]) == "a" {
				<-gate
			}
			return nil
		}}
		w := open(t, d, Sink[rec]{MaxBatch: 1, MaxInFlight: 2, Shard: host, MaxBuffered: 1000})
		write(t, w, seq("a", 0, 50)...)
		<-time.After(time.Second)
		write(t, w, seq("b", 0, 50)...)
		<-time.After(time.Second)
		synctest.Wait()
		equal(t, "delivered to the healthy one", len(d.delivered()), 50)
		w.mu.Lock()
		equal(t, "on their way to the bad one", w.shards["a"].inFlight, 2)
		w.mu.Unlock()
		close(gate)
		flush(t, w)
	})
}

// One shard of eight is slow, throttles, is down or fails half of its batches: the others don't notice.
func TestBadShardCostsTheOthersNothing(t *testing.T) {
	bad := map[string]func() error{
		"slow":     func() error { <-time.After(time.Second); return nil },
		"throttle": func() error { return sink.RetryAfter(errTooMany, 100*time.Millisecond) },
		"down":     func() error { return errDown },
		"refused":  func() error { return Refuse(errBad) },
	}
	for name, answer := range bad {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				taken := map[string]int{}
				on := false
				s := Sink[rec]{
					MaxBatch: 10, MaxBuffered: 100_000, Shard: host,
					Send: func(_ context.Context, batch []rec) error {
						mu.Lock()
						is := on && host(batch[0]) == "a"
						mu.Unlock()
						if is {
							if err := answer(); err != nil {
								return err
							}
						} else {
							<-time.After(10 * time.Millisecond)
						}
						mu.Lock()
						taken[host(batch[0])] += len(batch)
						mu.Unlock()
						return nil
					},
				}
				w, err := s.Writer(t.Context(), sink.Task{})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { w.Close() })
				others := func() (n int) {
					mu.Lock()
					defer mu.Unlock()
					for k, c := range taken {
						if k != "a" {
							n += c
						}
					}
					return n
				}
				second := func() int {
					before := others()
					for range 100 {
						for k := range 8 {
							write(t, w, seq(string(rune('a'+k)), 0, 5)...)
						}
						w.(sink.Rejecter).Rejects()
						<-time.After(10 * time.Millisecond)
					}
					return others() - before
				}
				second()
				healthy := second()
				mu.Lock()
				on = true
				mu.Unlock()
				second()
				if now := second(); now < healthy*9/10 {
					t.Errorf("%d records a second, without the bad shard %d", now, healthy)
				}
			})
		})
	}
}

func TestKeyKeepsItsShard(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		d := &dest{answer: func(context.Context, []rec) error { <-gate; return nil }}
		byNumber := func(r rec) string { return fmt.Sprint(r.N) }
		w := open(t, d, Sink[rec]{MaxBatch: 1, Linger: -1, Shard: byNumber, Key: byKey})
		write(t, w, seq("a", 0, 3)...)
		synctest.Wait()
		equal(t, "shards", len(w.shards), 1) // a moving key stays where its first record went
		close(gate)
		flush(t, w)
		equal(t, "batches", d.sent(), "[a0] [a1] [a2]")
	})
}

func TestIdleShardsAreForgotten(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := &dest{answer: func(_ context.Context, batch []rec) error {
			if batch[0].N == 7 {
				return sink.RetryAfter(errDown, time.Hour)
			}
			return nil
		}}
		w := open(t, d, Sink[rec]{Linger: -1, Shard: func(r rec) string { return fmt.Sprint(r.N) }})
		for i := range 2000 {
			write(t, w, rec{"a", i})
			if i%20 == 0 {
				<-time.After(time.Millisecond)
			}
		}
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.shards) > 2*keptShards {
			t.Errorf("%d shards are kept", len(w.shards))
		}
		if w.shards["7"] == nil {
			t.Error("the one that throttles is forgotten")
		}
		sum := 0
		for _, s := range w.shards {
			sum += s.gate.window.size()
		}
		equal(t, "window", w.window, sum)
		equal(t, "shards where records wait", len(w.active), 1)
	})
}

// Nothing is sent again without a delay, whatever Send answers.
func TestNothingIsSentAgainAtOnce(t *testing.T) {
	whole := func(err error) func(int) error { return func(int) error { return err } }
	for name, answer := range map[string]func(n int) error{
		"error":          whole(errDown),
		"throttled":      whole(sink.RetryAfter(errDown, 0)),
		"throttled past": whole(sink.RetryAfter(errDown, -time.Second)),
		"partial":        func(n int) error { return &Partial{map[int]error{n - 1: errDown}} },
		"partial zero":   func(n int) error { return &Partial{map[int]error{n - 1: sink.RetryAfter(errDown, 0)}} },
		"halved":         func(n int) error { return map[bool]error{true: Refuse(errBad), false: errDown}[n > 1] },
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var last time.Time
				rounds := 0
				d := &dest{answer: func(_ context.Context, batch []rec) error {
					if batch[0].N > 0 && len(batch) == 1 || len(batch) > 1 {
						if gap := time.Since(last); gap > 0 && gap < 50*time.Millisecond {
							t.Errorf("sent again after %v", gap)
						}
						last = time.Now()
					}
					if rounds++; rounds > 6 {
						return nil
					}
					return answer(len(batch))
				}}
				w := open(t, d, Sink[rec]{MaxBatch: 2, Linger: -1})
				write(t, w, seq("a", 0, 2)...)
				flush(t, w)
				equal(t, "delivered", len(d.delivered()), 2)
			})
		})
	}
}

func TestBudgetHoldsRepetitionsBack(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		repeats, fresh := 0, 0
		seen := map[rec]bool{}
		d := &dest{answer: func(_ context.Context, batch []rec) error {
			mu.Lock()
			for _, r := range batch {
				if seen[r] {
					repeats++
				} else {
					fresh++
				}
				seen[r] = true
			}
			good := (fresh+repeats)%3 == 0
			mu.Unlock()
			<-time.After(10 * time.Millisecond)
			if good {
				return nil
			}
			return errDown
		}}
		w := open(t, d, Sink[rec]{
			MaxBatch: 1, MaxInFlight: 16, MaxBuffered: 1_000_000, Fixed: true, Breaker: Breaker{Failures: -1}, Retry: Retry{Base: time.Millisecond, Max: time.Millisecond},
		})
		for i := range 20 {
			write(t, w, seq("a", 400*i, 400*i+400)...)
			<-time.After(time.Second)
		}
		mu.Lock()
		defer mu.Unlock()
		t.Logf("%d sent, %d repetitions", fresh, repeats)
		// In 20 seconds: the reserve of 1600, 100 a second, a tenth of what was sent.
		if most := 1600 + 20*leastTrickle + fresh/10 + 100; repeats > most {
			t.Errorf("%d repetitions beside %d records, want at most %d", repeats, fresh, most)
		}
	})
}

func TestCausesAreCounted(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		m := newCounts()
		d := &dest{answer: script(
			errDown, context.DeadlineExceeded, sink.RetryAfter(errDown, time.Second),
			&Partial{map[int]error{0: errDown, 1: Refuse(errors.New("no"))}}, nil,
		)}
		w := openTask(t, d, Sink[rec]{}, testTask(&logLines{}, m))
		write(t, w, seq("a", 0, 3)...)
		flush(t, w)
		synctest.Wait()
		for name, want := range map[string]int64{
			"attempts": 5, "sent": 2, "rejected": 1,
			"retries_failed": 3, "retries_timeout": 3, "retries_throttled": 3, "retries_partial": 1,
		} {
			equal(t, name, m.counts[name], want)
		}
		equal(t, "batch_records", m.gauges["batch_records"], 1)
		equal(t, "times of Send", m.seen["send_seconds"], 5)
		for _, name := range []string{"window", "pace", "breakers_open", "buffered_bytes"} {
			if _, ok := m.gauges[name]; !ok {
				t.Errorf("no gauge %s", name)
			}
		}
	})
}
