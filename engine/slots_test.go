package engine_test

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/bubble"
)

// refusing is a store that refuses to complete epochs while it is told to.
type refusing struct {
	store.Store
	on  *atomic.Bool
	err error
}

func (s refusing) Publish(r *store.Record) error {
	if s.on.Load() {
		return s.err
	}
	return s.Store.Publish(r)
}

// TestSlotsThatWaitForEver fails checkpoints, any number of which is tolerated, until no transaction is free: the region restarts
// from the last complete one instead of waiting. A full disk is waited for, but not behind an exchange, where barriers would wait
// for records that nobody takes: the job goes on as soon as there is room again, however often it has restarted.
func TestSlotsThatWaitForEver(t *testing.T) {
	for _, c := range []struct{ full, exchange bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
		full := c.full
		bubble.Test(t, func(t *testing.T) {
			began := time.Now()
			steps, want := steady(0, 100)
			in := &enginetest.Script[int]{Splits: map[string][]enginetest.Step[int]{"a": steps}}
			to := enginetest.NewTx[int]()
			bad := refusing{on: &atomic.Bool{}, err: errors.New("planted")}
			if full {
				bad.err = storeFull(bad.err)
			}
			dir, attempts := t.TempDir(), 1_000_000
			if full {
				attempts = 2
			}
			p := engine.New(engine.Config{
				Name: "slots", Parallelism: 1, CheckpointEvery: 10 * time.Millisecond, TolerateFailures: -1, Restart: engine.Restart{Attempts: attempts},
				Store: func(o store.Options) (store.Store, error) {
					d, err := store.Open(dir, o)
					bad.Store = d
					return bad, err
				},
			})
			numbers := engine.From(p, "in", in)
			if c.exchange {
				numbers = numbers.Rebalance()
			}
			engine.ToTx(numbers, "out", to)
			time.AfterFunc(50*time.Millisecond, func() { bad.on.Store(true) })
			time.AfterFunc(time.Minute, func() { bad.on.Store(false) })
			if err := p.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := slices.Sorted(slices.Values(to.Rows())); !slices.Equal(got, want) || to.Leftovers() != 0 {
				t.Errorf("full %v: got %v, %d left", full, got, to.Leftovers())
			}
			st := p.Status()
			if (full && !c.exchange) != (st.Restarts == 0) {
				t.Errorf("%+v: %d restarts, the last error %s", c, st.Restarts, st.LastError)
			}
			if took := time.Since(began); took > 3*time.Minute {
				t.Errorf("%+v: it took %v", c, took)
			}
			if !full && !strings.Contains(st.LastError, "wait for a checkpoint") {
				t.Errorf("got %s", st.LastError)
			}
		})
	}
}
