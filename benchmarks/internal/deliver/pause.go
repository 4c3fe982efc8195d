package deliver

import (
	"context"
	"sync"
	"time"

	"github.com/weirline/weirline/sink"
)

// Pauses notes the longest time between two batches of a task that writes. The zero value is ready for the runs of one job after
// another; its methods may be called at any time.
type Pauses struct {
	// Hold is how long each commit is held up before it is made, to show that no task waits for it. Unset: not at all.
	Hold time.Duration

	mu      sync.Mutex
	longest time.Duration
	commits int
}

// Longest is the longest time between the starts of two writes that followed each other in a task.
func (p *Pauses) Longest() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.longest
}

// Commits is how many times a committer was called.
func (p *Pauses) Commits() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.commits
}

// Watched is a sink whose writers and committers report to p.
func Watched[T any](to sink.TwoPhase[T], p *Pauses) sink.TwoPhase[T] { return watched[T]{to, p} }

type watched[T any] struct {
	sink.TwoPhase[T]
	p *Pauses
}

// Unwrap shows the sink inside, which has a preflight.
func (s watched[T]) Unwrap() any { return s.TwoPhase }

// TxWriter makes the writer of a task.
func (s watched[T]) TxWriter(ctx context.Context, t sink.Task) (sink.TxWriter[T], error) {
	w, err := s.TwoPhase.TxWriter(ctx, t)
	if err != nil {
		return nil, err
	}
	return &watchedWriter[T]{TxWriter: w, p: s.p}, nil
}

// Committer makes the committer of the operator.
func (s watched[T]) Committer(ctx context.Context, t sink.Task) (sink.Committer, error) {
	c, err := s.TwoPhase.Committer(ctx, t)
	if err != nil {
		return nil, err
	}
	return &heldCommitter{Committer: c, p: s.p}, nil
}

type watchedWriter[T any] struct {
	sink.TxWriter[T]
	p    *Pauses
	last time.Time // of the batch before
	most time.Duration
}

// Unwrap shows the writer inside, which may ask the task to wait.
func (w *watchedWriter[T]) Unwrap() any { return w.TxWriter }

func (w *watchedWriter[T]) Write(ctx context.Context, batch []T) error {
	now := time.Now()
	if d := now.Sub(w.last); !w.last.IsZero() && d > w.most {
		w.most = d
		w.p.mu.Lock()
		w.p.longest = max(w.p.longest, d)
		w.p.mu.Unlock()
	}
	w.last = now
	return w.TxWriter.Write(ctx, batch)
}

type heldCommitter struct {
	sink.Committer
	p *Pauses
}

func (c *heldCommitter) Commit(ctx context.Context, hs []sink.Handle) error {
	c.p.mu.Lock()
	c.p.commits++
	c.p.mu.Unlock()
	if c.p.Hold > 0 {
		select {
		case <-time.After(c.p.Hold):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return c.Committer.Commit(ctx, hs)
}
