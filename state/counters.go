package state

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Stats is how a Scope's tables and the disk behind them do. All is zero without a disk.
type Stats struct {
	Entries int64 // keys in memory
	Bytes   int64 // memory they take, about
	Hits    int64 // accesses that memory answered
	Misses  int64 // accesses that asked the disk
	Disk    int64 // bytes on the disk
	Hit     Latency
	Miss    Latency
}

// Latency is how long sampled accesses took.
type Latency struct {
	Samples int64
	Total   time.Duration
	Buckets [LatencyBuckets]int64 // number of samples shorter than 64 ns << index; the last one takes all others
}

// LatencyBuckets is the number of buckets of a Latency: up to about a second.
const LatencyBuckets = 25

// sampleHits and sampleMisses are of how many accesses one is timed; powers of two. A miss costs more than looking at the
// clock.
const (
	sampleHits   = 1024
	sampleMisses = 16
)

// counters are counted by the task without atomics and published once a batch.
type counters struct {
	hits, misses int64
	accesses     uint64
	entries      func() int64
	bytes        atomic.Int64
	shown        struct{ hits, misses, entries atomic.Int64 }
	hit, miss    latency
}

// due says that the access to come is to be timed.
func (c *counters) due() bool {
	c.accesses++
	return c.accesses%sampleHits == 0
}

// timed notes an access that was due.
func (c *counters) timed(began time.Time, misses int64) {
	if c.misses == misses {
		c.hit.took(time.Since(began))
	}
}

func (c *counters) publish() {
	c.shown.hits.Store(c.hits)
	c.shown.misses.Store(c.misses)
	if c.entries != nil {
		c.shown.entries.Store(c.entries())
	}
}

type latency struct {
	total   atomic.Int64
	buckets [LatencyBuckets]atomic.Int64
}

func (l *latency) took(d time.Duration) {
	l.total.Add(int64(d))
	l.buckets[min(bits.Len64(uint64(d)>>6), LatencyBuckets-1)].Add(1)
}

func (l *latency) load() (out Latency) {
	out.Total = time.Duration(l.total.Load())
	for i := range l.buckets {
		out.Buckets[i] = l.buckets[i].Load()
		out.Samples += out.Buckets[i]
	}
	return out
}
