package engine_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/engine/store/storetest"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/internal/fault"
)

// TestUnalignedWantsTypesThatCanBeStored: the builder names the operator and its line.
func TestUnalignedWantsTypesThatCanBeStored(t *testing.T) {
	type call struct {
		N    int64
		Done chan int64
	}
	for _, unaligned := range []bool{true, false} {
		p := engine.New(engine.Config{Name: "calls", Dir: t.TempDir(), Parallelism: 2, Unaligned: unaligned})
		s := engine.From(p, "numbers", gen.Source[call]{Make: func(n int64) call { return call{N: n} }, Count: 10, Splits: 1})
		_, _, line, _ := runtime.Caller(0)
		engine.To(engine.Map(s.Rebalance(), "work", func(c call) int64 { return c.N }), "out", &enginetest.Collect[int64]{})
		err := p.Run(t.Context())
		if !unaligned {
			must(t, err)
			continue
		}
		wants(t, err, fault.BadType, `records from "numbers" to "work" can't be stored, as Unaligned wants`, fmt.Sprint("unaligned_links_test.go:", line+1, ": "), "Done")
	}
}

// killedUnaligned runs a job behind a slow sink until the machine fails after some seconds, then another to its end. It returns
// the newest checkpoint of the first.
func killedUnaligned(t *testing.T, par [2]int, build func(p *engine.Pipeline, slow func() time.Duration)) *store.Record {
	t.Helper()
	disk := storetest.NewDisk()
	open := func(o store.Options) (store.Store, error) { o.FS = disk; return store.Open("state", o) }
	run := func(par int, batch time.Duration) (engine.EpochStatus, error) {
		p := engine.New(engine.Config{
			Name: "links", Parallelism: par, CheckpointEvery: 2 * time.Second, Unaligned: true, UnalignedAfter: 200 * time.Millisecond,
			BatchSize: 8, QueueBatches: 16, Restart: engine.Restart{Attempts: -1}, Store: open, Poison: engine.Poison{Budget: -1},
		})
		build(p, func() time.Duration { return batch })
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if batch > 0 {
			time.AfterFunc(9*time.Second, func() { disk.FailAt(1, errPlanted, false, true); cancel() })
		}
		err := p.Run(ctx)
		return p.Status().Epochs, err
	}
	if e, _ := run(par[0], 100*time.Millisecond); e.Unaligned == 0 || e.LastInFlight == 0 {
		t.Errorf("parallelism %d: %+v", par[0], e)
	}
	disk = disk.Kill()
	d, err := open(store.Options{ReadOnly: true})
	must(t, err)
	rec, err := d.Latest()
	must(t, err)
	must(t, d.Close())
	_, err = run(par[1], 0)
	must(t, err)
	return rec
}

// TestUnalignedBadRecords: bad records on their way are stored with the epoch as all others are, and none is lost or doubled.
func TestUnalignedBadRecords(t *testing.T) {
	const n = 6000
	for _, par := range [][2]int{{1, 3}, {3, 1}, {2, 2}} {
		bubble.Test(t, func(t *testing.T) {
			good, bad := enginetest.NewTx[int64](), enginetest.NewTx[string]()
			rec := killedUnaligned(t, par, func(p *engine.Pipeline, slow func() time.Duration) {
				s := engine.From(p, "numbers", gen.Source[int64]{Make: func(n int64) int64 { return n }, Count: n, Splits: 3})
				odd := engine.TryMap(s, "odd", func(n int64) (int64, error) {
					if n%2 == 0 {
						return 0, errors.New("even")
					}
					return n, nil
				})
				engine.ToTx(odd.Rebalance(), "good", slowTx[int64]{good, slow})
				values := engine.Map(odd.Errors().Rebalance(), "value", func(d engine.DeadLetter) string { return d.Value })
				engine.ToTx(values, "bad", slowTx[string]{bad, slow})
			})
			if !slices.ContainsFunc(rec.InFlight, func(f store.Flight) bool { return f.From == "odd" && f.To == "value" && f.Port == "dead" }) {
				t.Errorf("parallelism %d: no bad records in flight among %d pieces", par[0], len(rec.InFlight))
			}
			var odds []int64
			var evens []string
			for i := range int64(n) {
				if i%2 == 0 {
					evens = append(evens, fmt.Sprint(i))
				} else {
					odds = append(odds, i)
				}
			}
			slices.Sort(evens)
			if got := slices.Sorted(slices.Values(good.Rows())); !slices.Equal(got, odds) {
				t.Errorf("parallelism %v: %d good records, want %d", par, len(got), len(odds))
			}
			if got := slices.Sorted(slices.Values(bad.Rows())); !slices.Equal(got, evens) {
				t.Errorf("parallelism %v: %d bad records, want %d", par, len(got), len(evens))
			}
		})
	}
}

// TestUnalignedBroadcastStaysAligned: what is on its way to all tasks is waited for; other links of the same job are overtaken.
func TestUnalignedBroadcastStaysAligned(t *testing.T) {
	const n = 1500
	bubble.Test(t, func(t *testing.T) {
		out := enginetest.NewTx[int64]()
		rec := killedUnaligned(t, [2]int{3, 3}, func(p *engine.Pipeline, slow func() time.Duration) {
			s := engine.From(p, "numbers", gen.Source[int64]{Make: func(n int64) int64 { return n }, Count: n, Splits: 3})
			all := engine.Map(s.Broadcast(), "all", func(n int64) int64 { return n })
			engine.ToTx(all.Rebalance(), "out", slowTx[int64]{out, slow})
		})
		to := map[string]int{}
		for _, f := range rec.InFlight {
			to[f.To]++
		}
		if to["all"] > 0 || to["out"] == 0 {
			t.Errorf("in flight to %v", to)
		}
		var want []int64
		for i := range int64(n) {
			want = append(want, i, i, i)
		}
		if got := slices.Sorted(slices.Values(out.Rows())); !slices.Equal(got, want) {
			t.Errorf("%d records, want each of %d three times", len(got), n)
		}
	})
}
