package deliver

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/sink"
)

// nothing is a two-phase sink that does nothing.
type nothing struct{}

func (nothing) TxWriter(context.Context, sink.Task) (sink.TxWriter[int], error) {
	return nothing{}, nil
}

func (nothing) Committer(context.Context, sink.Task) (sink.Committer, error) { return nothing{}, nil }

func (nothing) Begin(context.Context, sink.Slot) error                    { return nil }
func (nothing) Write(context.Context, []int) error                        { return nil }
func (nothing) Prepare(context.Context, uint64) (sink.Handle, error)      { return sink.Handle{}, nil }
func (nothing) Commit(context.Context, []sink.Handle) error               { return nil }
func (nothing) Recover(context.Context, []sink.Handle, []sink.Slot) error { return nil }
func (nothing) Close() error                                              { return nil }

func TestPauses(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := &Pauses{Hold: 300 * time.Millisecond}
		to := Watched(nothing{}, p)
		w, werr := to.TxWriter(t.Context(), sink.Task{})
		c, cerr := to.Committer(t.Context(), sink.Task{})
		if err := errors.Join(werr, cerr); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Hour) // before the first batch
		for _, pause := range []time.Duration{10, 70, 20, 0} {
			if err := w.Write(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			<-time.After(pause * time.Millisecond)
		}
		if p.Longest() != 70*time.Millisecond {
			t.Errorf("the longest pause is %v", p.Longest())
		}
		began := time.Now()
		if err := c.Commit(t.Context(), nil); err != nil || time.Since(began) != p.Hold || p.Commits() != 1 {
			t.Errorf("%d commits, the last one took %v: %v", p.Commits(), time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), p.Hold/2)
		defer cancel()
		if err := c.Commit(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a commit that was given up: %v", err)
		}
	})
}
