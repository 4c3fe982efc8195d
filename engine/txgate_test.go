package engine_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/sink"
)

// fussy is a destination whose transactions take a few batches and no more, and whose writer may fail behind the task's back.
type fussy struct {
	*lives
	most    int // batches in a transaction
	longest atomic.Int64
	wake    atomic.Pointer[func()]
	err     atomic.Pointer[error]
}

func (f *fussy) TxWriter(ctx context.Context, t sink.Task) (sink.TxWriter[int], error) {
	w, err := f.lives.TxWriter(ctx, t)
	return &fussyWriter{TxWriter: w, f: f}, err
}

type fussyWriter struct {
	sink.TxWriter[int]
	f *fussy
	n int
}

func (w *fussyWriter) Write(ctx context.Context, b []int) error {
	w.n++
	w.f.longest.Store(max(w.f.longest.Load(), int64(w.n)))
	return w.TxWriter.Write(ctx, b)
}

func (w *fussyWriter) Prepare(ctx context.Context, epoch uint64) (sink.Handle, error) {
	w.n = 0
	return w.TxWriter.Prepare(ctx, epoch)
}

func (w *fussyWriter) Room() bool         { return w.n < w.f.most }
func (w *fussyWriter) OnRoom(wake func()) { w.f.wake.Store(&wake) }

func (w *fussyWriter) Err() error {
	if err := w.f.err.Swap(nil); err != nil {
		return *err
	}
	return nil
}

// TestATransactionWithoutRoom takes no input, and its barriers pass.
func TestATransactionWithoutRoom(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		steps, want := steady(0, 100)
		to := &fussy{lives: newLives(), most: 3}
		enginetest.Run(t, engine.Config{Name: "room", Parallelism: 1, CheckpointEvery: 50 * time.Millisecond}, func(p *engine.Pipeline) {
			in := &enginetest.Script[int]{Splits: map[string][]enginetest.Step[int]{"a": steps}}
			engine.ToTx(engine.From(p, "in", in), "out", to)
		})
		if got := slices.Sorted(slices.Values(to.Rows())); !slices.Equal(got, want) || to.longest.Load() != 3 {
			t.Errorf("got %v, %d batches in a transaction, want 3", got, to.longest.Load())
		}
	})
}

// TestATransactionThatFailsBehindTheTasksBack restarts the task though no input comes.
func TestATransactionThatFailsBehindTheTasksBack(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		steps, want := steady(0, 20)
		steps = append(steps, enginetest.Wait[int](10*time.Second), enginetest.Rec(20))
		to := &fussy{lives: newLives(), most: 1e6}
		time.AfterFunc(time.Second, func() {
			err := errors.New("planted")
			to.err.Store(&err)
			(*to.wake.Load())()
		})
		enginetest.Run(t, engine.Config{Name: "behind", Parallelism: 1, CheckpointEvery: 24 * time.Hour}, func(p *engine.Pipeline) {
			in := &enginetest.Script[int]{Splits: map[string][]enginetest.Step[int]{"a": steps}}
			engine.ToTx(engine.From(p, "in", in), "out", to)
		})
		if got := slices.Sorted(slices.Values(to.Rows())); !slices.Equal(got, append(want, 20)) || to.n.Load() != 2 {
			t.Errorf("got %v from %d writers, want 2", got, to.n.Load())
		}
	})
}
