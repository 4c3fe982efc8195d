package gen

import (
	"context"
	"io"
	"time"

	"github.com/weirline/weirline/source"
)

// breath is the shortest wait of a source with a rate: what becomes due within it comes together.
const breath = time.Millisecond

type cursor[T any] struct {
	fill  func(from, step int64, n int, out *source.Batch[T])
	count int64
	at    Split
	pace  pace
}

func (c *cursor[T]) Read(ctx context.Context, out *source.Batch[T]) (Split, error) {
	if err := ctx.Err(); err != nil {
		return c.at, err
	}
	if c.at.Next >= c.count {
		return c.at, io.EOF
	}
	until := c.count
	if c.pace.rate > 0 {
		due, err := c.pace.wait(ctx, c.at.Next)
		if err != nil {
			return c.at, err
		}
		until = min(until, due)
	}
	step := int64(c.at.Step)
	left := (until-1-c.at.Next)/step + 1 // not rounded up by an addition: until may be the largest number
	n := int(min(int64(out.Room()), left))
	c.fill(c.at.Next, step, n, out)
	c.at.Next += int64(n) * step
	if c.at.Next >= c.count {
		return c.at, io.EOF
	}
	return c.at, nil
}

func (c *cursor[T]) Close() error { return nil }

// pace says when a record is due. The zero value is no schedule.
type pace struct {
	rate  float64
	start time.Time // when record 0 was due
}

func newPace(rate float64, next int64, now time.Time) pace {
	if rate <= 0 {
		return pace{}
	}
	p := pace{rate: rate, start: now}
	p.start = now.Add(-p.after(next))
	return p
}

// after is the time from the start until record seq is due, at most some centuries.
func (p pace) after(seq int64) time.Duration {
	return time.Duration(min(float64(seq)/p.rate*float64(time.Second), 1<<62))
}

// due is the first record that isn't due yet.
func (p pace) due(now time.Time) int64 {
	return int64(now.Sub(p.start).Seconds()*p.rate) + 1
}

// wait blocks until record next is due and returns the first one that isn't.
func (p pace) wait(ctx context.Context, next int64) (int64, error) {
	for {
		now := time.Now()
		if due := p.due(now); due > next {
			return due, nil
		}
		timer := time.NewTimer(max(p.start.Add(p.after(next)).Sub(now), breath))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return 0, ctx.Err()
		}
	}
}
