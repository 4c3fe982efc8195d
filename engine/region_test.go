package engine_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/sink"
)

// lives counts how often a sink's writers are made: once for each attempt of its region and task.
type lives struct {
	*enginetest.Tx[int]
	n atomic.Int64
}

func newLives() *lives { return &lives{Tx: enginetest.NewTx[int]()} }

func (l *lives) TxWriter(ctx context.Context, t sink.Task) (sink.TxWriter[int], error) {
	l.n.Add(1)
	return l.Tx.TxWriter(ctx, t)
}

// steady is n records, some milliseconds apart, from first on.
func steady(first, n int, crashes ...int) (steps []enginetest.Step[int], want []int) {
	for i := range n {
		if slices.Contains(crashes, i) {
			steps = append(steps, enginetest.Crash[int]())
		}
		steps = append(steps, enginetest.Rec(first+i), enginetest.Wait[int](3*time.Millisecond))
		want = append(want, first+i)
	}
	return steps, want
}

func TestARegionRestartsAlone(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		faulty, wantFaulty := steady(0, 60, 10, 25, 26, 50)
		calm, wantCalm := steady(1000, 200)
		a, b := newLives(), newLives()
		var p *engine.Pipeline
		enginetest.Run(t, engine.Config{Name: "regions", Parallelism: 2}, func(q *engine.Pipeline) {
			p = q
			in := &enginetest.Script[int]{Splits: map[string][]enginetest.Step[int]{"a": faulty}}
			engine.ToTx(engine.From(p, "faulty", in).Rebalance().Filter("all", func(int) bool { return true }), "out-a", a)
			in = &enginetest.Script[int]{Splits: map[string][]enginetest.Step[int]{"b": calm}}
			engine.ToTx(engine.From(p, "calm", in).Rebalance().Filter("every", func(int) bool { return true }), "out-b", b)
		})
		for _, c := range []struct {
			name  string
			to    *lives
			want  []int
			lives int64 // of two tasks each
		}{{"faulty", a, wantFaulty, 10}, {"calm", b, wantCalm, 2}} {
			if got := slices.Sorted(slices.Values(c.to.Rows())); !slices.Equal(got, c.want) {
				t.Errorf("%s region: got %v", c.name, got)
			}
			if got := c.to.n.Load(); got != c.lives {
				t.Errorf("%s region: %d writers were made, want %d", c.name, got, c.lives)
			}
			if c.to.Leftovers() != 0 {
				t.Errorf("%s region: %d transactions are left", c.name, c.to.Leftovers())
			}
		}
		if got := p.Status().Restarts; got != 4 {
			t.Errorf("%d restarts, want 4", got)
		}
	})
}

// An alignment group makes one region of sources that nothing else connects.
func TestAnAlignmentGroupIsOneRegion(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		faulty, _ := steady(0, 30, 10)
		calm, _ := steady(1000, 60)
		a, b := newLives(), newLives()
		enginetest.Run(t, engine.Config{Name: "regions", Parallelism: 1}, func(p *engine.Pipeline) {
			for i, steps := range [][]enginetest.Step[int]{faulty, calm} {
				in := &enginetest.Script[int]{Splits: map[string][]enginetest.Step[int]{"a": steps}}
				s := engine.From(p, []string{"faulty", "calm"}[i], in)
				s = s.EventTime(func(n int) time.Time { return time.UnixMilli(int64(n)) }, engine.Watermarks{Align: "together", MaxDrift: time.Hour})
				engine.ToTx(s, []string{"out-a", "out-b"}[i], []*lives{a, b}[i])
			}
		})
		if a.n.Load() != 2 || b.n.Load() != 2 {
			t.Errorf("%d and %d attempts, want 2 of both", a.n.Load(), b.n.Load())
		}
	})
}
