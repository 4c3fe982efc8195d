package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/engine/store/storetest"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/state"
)

// slowTx is a two-phase sink whose writes take their time.
type slowTx[T any] struct {
	*enginetest.Tx[T]
	take func() time.Duration
}

func (s slowTx[T]) TxWriter(ctx context.Context, t sink.Task) (sink.TxWriter[T], error) {
	w, err := s.Tx.TxWriter(ctx, t)
	return slowTxWriter[T]{w, s.take}, err
}

type slowTxWriter[T any] struct {
	sink.TxWriter[T]
	take func() time.Duration
}

func (w slowTxWriter[T]) Write(ctx context.Context, b []T) error {
	<-time.After(w.take())
	return w.TxWriter.Write(ctx, b)
}

// lockedRand is for several goroutines.
type lockedRand struct {
	mu sync.Mutex
	r  *rand.Rand
}

func (l *lockedRand) Int64N(n int64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Int64N(n)
}

func (l *lockedRand) IntN(n int) int { return int(l.Int64N(int64(n))) }

// sequence is a record with its place among those of its key.
type sequence struct {
	K string
	N int
}

// ordered counts a key's records and says whether they came in order.
type ordered struct{ n state.Value[int] }

func (o *ordered) Open(s *engine.Setup[string]) error {
	o.n = state.NewValue[int](s, "n")
	return nil
}

func (o *ordered) Process(ctx *engine.Ctx[string], v sequence, out *engine.Out[string]) error {
	n := o.n.Ref()
	if *n++; *n != v.N {
		out.Emit(fmt.Sprintf("%s %d came as number %d", v.K, v.N, *n))
		return nil
	}
	out.Emit(fmt.Sprintf("%s %d", v.K, v.N))
	return nil
}

// sequences is an input of some splits; each key's records are in one split.
func sequences(splits, each int, step func(i int) []enginetest.Step[sequence]) (*enginetest.Script[sequence], []string) {
	src := &enginetest.Script[sequence]{Splits: map[string][]enginetest.Step[sequence]{}}
	var want []string
	for s := range splits {
		name := fmt.Sprintf("s%d", s)
		for i := range each {
			r := sequence{K: fmt.Sprintf("%s-%d", name, i%3), N: i/3 + 1}
			want = append(want, fmt.Sprintf("%s %d", r.K, r.N))
			src.Splits[name] = append(append(src.Splits[name], step(i)...), enginetest.Rec(r))
		}
	}
	slices.Sort(want)
	return src, want
}

// TestUnalignedIsQuickBehindASlowSink: queues are full in front of a sink that takes 100 ms a batch. An aligned checkpoint waits
// for all that is queued; one that may overtake is complete in less than a second, and what it restores, at any parallelism,
// is exact and in order by key.
func TestUnalignedIsQuickBehindASlowSink(t *testing.T) {
	for _, par := range [][2]int{{1, 4}, {4, 1}, {3, 2}, {2, 2}} {
		bubble.Test(t, func(t *testing.T) {
			src, want := sequences(5, 300, func(int) []enginetest.Step[sequence] { return nil })
			out := enginetest.NewTx[string]()
			disk := storetest.NewDisk()
			once := func(par int, unaligned, die bool) engine.EpochStatus {
				p := engine.New(engine.Config{
					Name: "slow", Parallelism: par, CheckpointEvery: 3 * time.Second, Unaligned: unaligned, UnalignedAfter: 200 * time.Millisecond,
					BatchSize: 8, QueueBatches: 16, Restart: engine.Restart{Attempts: -1},
					Store: func(o store.Options) (store.Store, error) { o.FS = disk; return store.Open("state", o) },
				})
				slow := func() time.Duration { return 100 * time.Millisecond }
				if !die {
					slow = func() time.Duration { return 0 }
				}
				s := engine.Process(engine.KeyBy(engine.From(p, "in", src), func(s sequence) string { return s.K }), "count", func() *ordered { return &ordered{} })
				engine.ToTx(s.Rebalance(), "out", slowTx[string]{out, slow})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if die {
					time.AfterFunc(4500*time.Millisecond, func() { disk.FailAt(1, errPlanted, false, true); cancel() })
				}
				if err := p.Run(ctx); err != nil && !die {
					t.Fatal(err)
				}
				return p.Status().Epochs
			}
			before := once(par[0], true, true)
			if before.Completed == 0 || before.Unaligned == 0 || before.LastDuration > time.Second || before.LastInFlight == 0 {
				t.Errorf("parallelism %d: %+v", par[0], before)
			}
			disk = disk.Kill()
			once(par[1], par[0] != 3, false)
			if got := slices.Sorted(slices.Values(out.Rows())); !slices.Equal(got, want) {
				t.Errorf("parallelism %d, then %d: %d rows, want %d; %d differ", par[0], par[1], len(got), len(want), differ(got, want))
			}
		})
	}
}

func differ(a, b []string) (n int) {
	for _, x := range a {
		if _, ok := slices.BinarySearch(b, x); !ok {
			n++
		}
	}
	return n
}

// TestUnalignedAtRandom crashes jobs at any step, with barriers that may overtake after any time, a store that fails, and
// another parallelism after each stop: the output is exact and in order by key.
func TestUnalignedAtRandom(t *testing.T) {
	seed, rounds := rand.Uint64(), 60
	if s := os.Getenv("WEIRLINE_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
		rounds = 1
	} else if os.Getenv("WEIRLINE_SOAK") != "" {
		rounds = 6000
	}
	var unaligned, stored int64
	for i := range rounds {
		bubble.Test(t, func(t *testing.T) {
			u, b := unalignedAtRandom(t, seed+uint64(i))
			unaligned, stored = unaligned+u, stored+b
		})
		if t.Failed() {
			t.Fatalf("failed; replay with WEIRLINE_SEED=%d", seed+uint64(i))
		}
	}
	if rounds > 1 && (unaligned < int64(rounds) || stored == 0) {
		t.Errorf("only %d checkpoints were unaligned, %d runs ended with records in flight", unaligned, stored)
	}
}

func unalignedAtRandom(t *testing.T, seed uint64) (unaligned, stored int64) {
	rnd := rand.New(rand.NewPCG(seed, 11))
	any := func(most time.Duration) func() time.Duration {
		r := &lockedRand{r: rand.New(rand.NewPCG(seed, rnd.Uint64()))} // tasks share it
		return func() time.Duration { return time.Duration(r.Int64N(int64(most))) }
	}
	src, want := sequences(1+rnd.IntN(4), 40, func(int) []enginetest.Step[sequence] {
		switch rnd.IntN(12) {
		case 0:
			return []enginetest.Step[sequence]{enginetest.Crash[sequence]()}
		case 1, 2:
			return []enginetest.Step[sequence]{enginetest.Wait[sequence](time.Duration(rnd.IntN(9)) * time.Millisecond)}
		}
		return nil
	})
	out := enginetest.NewTx[string]()
	fails, one := any(100), rnd.IntN(2) == 0
	disk := storetest.NewDisk()
	for run := 0; ; run++ {
		work, write := any(3*time.Millisecond), any(8*time.Millisecond)
		lazy := &lazyStore{
			blob: func() (time.Duration, error) { return fails(), nil },
			publish: func() (time.Duration, error) {
				if fails() < 10 {
					return 0, storeFull(errPlanted)
				}
				return fails() * 10000, nil
			},
		}
		p := engine.New(engine.Config{
			Name: "random", Parallelism: 1 + rnd.IntN(4), CheckpointEvery: time.Duration(1+rnd.IntN(20)) * time.Millisecond, TolerateFailures: -1,
			CheckpointTimeout: time.Duration(5+rnd.IntN(60)) * time.Millisecond, Unaligned: rnd.IntN(6) > 0,
			UnalignedAfter: time.Duration(rnd.IntN(3)*rnd.IntN(20)) * time.Millisecond, BatchSize: 1 + rnd.IntN(5), QueueBatches: 1 + rnd.IntN(5),
			Restart: engine.Restart{Delay: -1, Attempts: 1000}, Store: onDisk(lazy, disk),
		})
		s := engine.From(p, "in", src)
		if one {
			s = s.Filter("some", func(sequence) bool { return true }).Parallel(1)
		}
		counted := engine.Process(engine.KeyBy(s, func(s sequence) string { return s.K }), "count", func() *ordered { return &ordered{} })
		worked := engine.Map(counted.Rebalance(), "work", func(s string) string { <-time.After(work()); return s })
		engine.ToTx(engine.Union(worked, worked.Filter("none", func(string) bool { return false })), "out", slowTx[string]{out, write})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		last := run == 3
		after := time.Duration(20+rnd.IntN(150)) * time.Millisecond
		if last {
			after = time.Hour
		}
		power := time.AfterFunc(after, func() { disk.FailAt(1, errPlanted, false, true); cancel() })
		err := p.Run(ctx)
		power.Stop()
		cancel()
		e := p.Status().Epochs
		unaligned += e.Unaligned
		if e.LastInFlight > 0 {
			stored++
		}
		if last {
			if err != nil || ctx.Err() == context.DeadlineExceeded {
				t.Fatalf("last run: %v", err)
			}
			break
		}
		disk = disk.Kill()
	}
	if got := slices.Sorted(slices.Values(out.Rows())); !slices.Equal(got, want) {
		t.Errorf("%d rows, want %d; %d differ", len(got), len(want), differ(got, want))
	}
	return unaligned, stored
}

// TestUnalignedWindowsAtRandom is the same with event time: windows, some of which take late records or overlap, fire once each
// whatever the clocks were when barriers overtook records, also at another parallelism.
func TestUnalignedWindowsAtRandom(t *testing.T) {
	seed, rounds := rand.Uint64(), 60
	if s := os.Getenv("WEIRLINE_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
		rounds = 1
	} else if os.Getenv("WEIRLINE_SOAK") != "" {
		rounds = 6000
	}
	for i := range rounds {
		bubble.Test(t, func(t *testing.T) { unalignedWindows(t, seed+uint64(i)) })
		if t.Failed() {
			t.Fatalf("failed; replay with WEIRLINE_SEED=%d", seed+uint64(i))
		}
	}
}

func unalignedWindows(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 13))
	splits := map[string][]enginetest.Step[stamped]{}
	for s := range 1 + rnd.IntN(4) {
		name := fmt.Sprintf("s%d", s)
		for i := range 60 {
			splits[name] = append(splits[name], enginetest.Rec(stamped{K: fmt.Sprint("k", rnd.IntN(9)), At: int64(i + rnd.IntN(3))}))
			if rnd.IntN(15) == 0 {
				splits[name] = append(splits[name], enginetest.Wait[stamped](time.Duration(rnd.IntN(9))*time.Millisecond))
			}
		}
	}
	late := time.Duration(rnd.IntN(2)*20) * time.Second
	overlap := rnd.IntN(2) == 0
	build := func(p *engine.Pipeline, out sink.TwoPhase[string], work func() time.Duration) {
		s := engine.From(p, "in", &enginetest.Script[stamped]{Splits: splits}).EventTime(at, engine.Watermarks{Delay: 3 * time.Second})
		k := engine.KeyBy(s, func(s stamped) string { return s.K })
		emit := func(k string, sp engine.Span, n *int) string { return fmt.Sprintf("%s %d %d", k, sp.Start.Unix(), *n) }
		add := func(n *int, _ stamped) { *n++ }
		var res engine.Stream[string]
		if overlap {
			w := engine.Slide(k, "count", engine.Sliding{Size: 12 * time.Second, Every: 4 * time.Second, Lateness: late})
			res = engine.AggregateSliding(w, add, func(into, from *int) { *into += *from }, emit)
		} else {
			res = engine.Aggregate(engine.Window(k, "count", engine.Tumbling{Size: 7 * time.Second, Lateness: late}), add, emit)
		}
		engine.ToTx(engine.Map(res.Rebalance(), "work", func(s string) string { <-time.After(work()); return s }), "out", out)
	}
	want := enginetest.NewTx[string]()
	plain := engine.New(engine.Config{Name: "plain", Parallelism: 1, Store: onDisk(&lazyStore{blob: always(0), publish: always(0)}, storetest.NewDisk())})
	build(plain, want, func() time.Duration { return 0 })
	run(t, plain)
	out := enginetest.NewTx[string]()
	disk := storetest.NewDisk()
	for n := range 4 {
		r := &lockedRand{r: rand.New(rand.NewPCG(seed, rnd.Uint64()))} // tasks share it
		any := func(most time.Duration) func() time.Duration {
			return func() time.Duration { return time.Duration(r.Int64N(int64(most))) }
		}
		p := engine.New(engine.Config{
			Name: "windows", Parallelism: 1 + rnd.IntN(4), CheckpointEvery: time.Duration(1+rnd.IntN(20)) * time.Millisecond, TolerateFailures: -1,
			Unaligned: true, UnalignedAfter: time.Duration(rnd.IntN(3)*rnd.IntN(10)) * time.Millisecond, BatchSize: 1 + rnd.IntN(5), QueueBatches: 1 + rnd.IntN(5),
			Store: onDisk(&lazyStore{blob: always(0), publish: always(time.Millisecond)}, disk), KeyGroups: 8,
		})
		slow := any(2 * time.Millisecond)
		build(p, slowTx[string]{out, slow}, func() time.Duration { return time.Millisecond })
		ctx, cancel := context.WithCancel(t.Context())
		after := time.Duration(10+rnd.IntN(80)) * time.Millisecond
		if n == 3 {
			after = time.Hour
		}
		power := time.AfterFunc(after, func() { disk.FailAt(1, errPlanted, false, true); cancel() })
		err := p.Run(ctx)
		power.Stop()
		cancel()
		if n == 3 && err != nil {
			t.Fatal(err)
		}
		disk = disk.Kill()
	}
	got, exp := slices.Sorted(slices.Values(out.Rows())), slices.Sorted(slices.Values(want.Rows()))
	if !slices.Equal(got, exp) {
		t.Errorf("late %v, overlapping %v:\ngot  %v\nwant %v", late, overlap, got, exp)
	}
}
