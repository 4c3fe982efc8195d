package demo

import (
	"context"
	"time"
)

// Sink takes lines for partitions; it returns when they are safe.
type Sink func(ctx context.Context, partitions []int32, lines [][]byte) error

// Live publishes a Log in step with the clock. Line i of those from second First on goes to partition i mod P, P being
// the number of partitions.
type Live struct {
	Log   Log
	First int64   // second to begin with
	Speed float64 // seconds of the log for one of the clock
	To    Sink
}

// tick is how often lines are sent.
const tick = 100 * time.Millisecond

// Run goes on where the partitions end, until ctx ends or To fails.
func (v Live) Run(ctx context.Context, ends map[int32]int64) error {
	n := int64(len(ends))
	i, s := int64(0), v.First
	for count := int64(v.Log.Count(s)); i+count <= common(ends); count = int64(v.Log.Count(s)) {
		i += count
		s++
	}
	began, from := time.Now(), s
	clock := time.NewTicker(tick)
	defer clock.Stop()
	for {
		var partitions []int32
		var lines [][]byte
		for due := from + int64(time.Since(began).Seconds()*v.Speed); s < due; s++ {
			for _, line := range v.Log.Second(s) {
				if p := int32(i % n); i/n >= ends[p] {
					partitions, lines = append(partitions, p), append(lines, line)
				}
				i++
			}
		}
		if err := v.To(ctx, partitions, lines); err != nil {
			return err
		}
		select {
		case <-clock.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// common is how many lines from the first on are in their partitions without a gap.
func common(ends map[int32]int64) int64 {
	n := int64(len(ends))
	least := int64(-1)
	for p, end := range ends {
		if i := end*n + int64(p); least < 0 || i < least { // the first line that partition p doesn't have
			least = i
		}
	}
	return least
}
