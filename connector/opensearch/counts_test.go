package opensearch_test

import "sync"

// counts is a Metrics that sums counters.
type counts struct {
	mu sync.Mutex
	n  map[string]int64
}

func newCounts() *counts { return &counts{n: map[string]int64{}} }

func (c *counts) Count(name string, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[name] += n
}

func (c *counts) Gauge(string, float64)   {}
func (c *counts) Observe(string, float64) {}

func (c *counts) get(name string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[name]
}
