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
	"github.com/weirline/weirline/source"
)

// deadServer is a two-phase sink whose committer waits for a server that is gone, once it is told to.
type deadServer struct {
	*enginetest.Tx[int]
	dead atomic.Bool
}

type deadCommitter struct {
	sink.Committer
	s *deadServer
}

func (s *deadServer) Committer(ctx context.Context, t sink.Task) (sink.Committer, error) {
	c, err := s.Tx.Committer(ctx, t)
	return deadCommitter{c, s}, err
}

func (c deadCommitter) Commit(ctx context.Context, hs []sink.Handle) error {
	if c.s.dead.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return c.Committer.Commit(ctx, hs)
}

func (c deadCommitter) Recover(ctx context.Context, keep []sink.Handle, slots []sink.Slot) error {
	if c.s.dead.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return c.Committer.Recover(ctx, keep, slots)
}

// slowLister is a source whose Discover takes an hour.
type slowLister struct{ *enginetest.Script[int] }

func (slowLister) Enumerator(context.Context, source.Task) (source.Enumerator[enginetest.Place], error) {
	return listing{}, nil
}

type listing struct{}

func (listing) Discover(ctx context.Context) ([]enginetest.Place, bool, error) {
	select {
	case <-time.After(time.Hour):
	case <-ctx.Done():
	}
	return nil, false, ctx.Err()
}

func (listing) Assign(source.Event[enginetest.Place], *source.Assignments[enginetest.Place]) {}

// TestStopDuringRecovery stops a job at times when it doesn't run: it ends at once, and another run loses nothing.
func TestStopDuringRecovery(t *testing.T) {
	for _, c := range []struct {
		name  string
		delay time.Duration // of restarts
		dead  bool          // the destination is gone, so that committers hang in recovery
		lists bool          // another source takes its time to find splits
	}{{"in the pause before a restart", time.Hour, false, false}, {"while committers recover", -1, true, false}, {"while discovering", -1, false, true}} {
		bubble.Test(t, func(t *testing.T) {
			steps, want := steady(0, 40, 20)
			in := &enginetest.Script[int]{Splits: map[string][]enginetest.Step[int]{"a": steps}}
			to := &deadServer{Tx: enginetest.NewTx[int]()}
			dir := t.TempDir()
			run := func(ctx context.Context, r engine.Restart, dying, lists bool) engine.Status {
				p := engine.New(engine.Config{Name: "stop", Dir: dir, Parallelism: 2, CheckpointEvery: 10 * time.Millisecond, Restart: r, AllowDropped: true})
				engine.ToTx(engine.From(p, "in", in).Rebalance().Filter("all", func(n int) bool {
					if n == 19 && dying {
						to.dead.Store(true)
					}
					return true
				}), "out", to)
				if lists {
					engine.To(engine.From(p, "slow", slowLister{in}), "none", &enginetest.Collect[int]{})
				}
				if err := p.Run(ctx); err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
				return p.Status()
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began := time.Now()
			st := run(ctx, engine.Restart{Delay: c.delay, MaxDelay: time.Hour}, c.dead, c.lists)
			if took := time.Since(began); took > 1100*time.Millisecond || st.Restarts != 1 {
				t.Errorf("%s: ended after %v, %d restarts", c.name, took, st.Restarts)
			}
			to.dead.Store(false)
			run(t.Context(), engine.Restart{}, false, false)
			if got := slices.Sorted(slices.Values(to.Rows())); !slices.Equal(got, want) || to.Leftovers() != 0 {
				t.Errorf("%s: got %v, %d left", c.name, got, to.Leftovers())
			}
		})
	}
}
