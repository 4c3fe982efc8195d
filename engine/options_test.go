package engine_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/engine/store/storetest"
	"github.com/weirline/weirline/enumerator"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/reader"
	"github.com/weirline/weirline/source"
)

// lazyStore takes its time for each blob and each record, as it is told, and fails now and then.
type lazyStore struct {
	store.Store
	blob, publish func() (time.Duration, error)
	order         []uint64
	now, most     atomic.Int64 // blobs being written
}

func (s *lazyStore) Create(epoch uint64, name string) (store.Writer, error) {
	s.most.Store(max(s.most.Load(), s.now.Add(1)))
	defer s.now.Add(-1)
	d, err := s.blob()
	<-time.After(d)
	if err != nil {
		return nil, err
	}
	return s.Store.Create(epoch, name)
}

func (s *lazyStore) Publish(r *store.Record) error {
	d, err := s.publish()
	<-time.After(d)
	if err != nil {
		return err
	}
	s.order = append(s.order, r.Epoch)
	return s.Store.Publish(r)
}

func always(d time.Duration) func() (time.Duration, error) {
	return func() (time.Duration, error) { return d, nil }
}

func onDisk(s *lazyStore, disk *storetest.Disk) func(o store.Options) (store.Store, error) {
	return func(o store.Options) (store.Store, error) {
		o.FS, o.InlineMax = disk, -1
		d, err := store.Open("state", o)
		s.Store = d
		return s, err
	}
}

// TestSeveralCheckpointsAtOnce lets a slow store fall behind: with one at a time few are complete, with several they overlap,
// are complete in order, and a newer one takes the older ones with it.
func TestSeveralCheckpointsAtOnce(t *testing.T) {
	completed := map[int]int64{}
	for _, most := range []int{1, 4} {
		bubble.Test(t, func(t *testing.T) {
			src, want := countingInput()
			out := enginetest.NewTx[string]()
			slow := &lazyStore{blob: always(8 * time.Millisecond), publish: always(0)}
			p := engine.New(engine.Config{
				Name: "several", Parallelism: 1, CheckpointEvery: 2 * time.Millisecond, MaxConcurrent: most, Store: onDisk(slow, storetest.NewDisk()),
			})
			counting(p, src, out)
			run(t, p)
			if got := slices.Sorted(slices.Values(out.Rows())); !slices.Equal(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
			if !slices.IsSorted(slow.order) {
				t.Errorf("published in the order %v", slow.order)
			}
			if got := slow.most.Load(); got != int64(most) {
				t.Errorf("%d blobs were written at once, want %d", got, most)
			}
			completed[most] = p.Status().Epochs.Completed
		})
	}
	if completed[4] < 2*completed[1] {
		t.Errorf("%d complete with four at once, %d with one", completed[4], completed[1])
	}
}

// TestSeveralCheckpointsAtRandom kills jobs with any number of checkpoints under way, in front of a store that takes its time
// and fails as it likes: the output is exact.
func TestSeveralCheckpointsAtRandom(t *testing.T) {
	seed, rounds := rand.Uint64(), 40
	if s := os.Getenv("WEIRLINE_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
		rounds = 1
	} else if os.Getenv("WEIRLINE_SOAK") != "" {
		rounds = 4000
	}
	for i := range rounds {
		bubble.Test(t, func(t *testing.T) { severalAtRandom(t, seed+uint64(i)) })
		if t.Failed() {
			t.Fatalf("failed; replay with WEIRLINE_SEED=%d", seed+uint64(i))
		}
	}
}

func severalAtRandom(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 5))
	src, want := countingInput()
	for name, steps := range src.Splits {
		for range 2 {
			steps = slices.Insert(steps, rnd.IntN(len(steps)), enginetest.Crash[stamped]())
		}
		src.Splits[name] = steps
	}
	var dice atomic.Uint64
	any := func(most time.Duration, failing float64) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			r := rand.New(rand.NewPCG(seed, dice.Add(1)))
			var err error
			if r.Float64() < failing {
				err = storeFull(errPlanted)
			}
			return time.Duration(r.Int64N(int64(most))), err
		}
	}
	out := enginetest.NewTx[string]()
	slow := &lazyStore{blob: any(9*time.Millisecond, 0.05), publish: any(6*time.Millisecond, 0.1)}
	p := engine.New(engine.Config{
		Name: "several", Parallelism: 1 + rnd.IntN(3), CheckpointEvery: time.Duration(1+rnd.IntN(5)) * time.Millisecond,
		CheckpointTimeout: 25 * time.Millisecond, MaxConcurrent: 1 + rnd.IntN(5), Uncommitted: 1 + rnd.IntN(3), TolerateFailures: 1 + rnd.IntN(4),
		Restart: engine.Restart{Delay: -1, Attempts: 1000}, Store: onDisk(slow, storetest.NewDisk()),
	})
	work := any(time.Duration(1+rnd.IntN(8))*time.Millisecond, 0)
	countingOf(engine.Map(engine.From(p, "in", src), "work", func(s stamped) stamped {
		d, _ := work()
		<-time.After(d)
		return s
	}), out)
	run(t, p)
	if got := slices.Sorted(slices.Values(out.Rows())); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if n := out.Leftovers(); n > 0 {
		t.Errorf("%d transactions are left", n)
	}
	if !slices.IsSorted(slow.order) {
		t.Errorf("published in the order %v", slow.order)
	}
}

// TestSplitsThatEndBetweenTwoCheckpoints: two checkpoints begin while the last record of a split is worked on; both must know
// where it is.
func TestSplitsThatEndBetweenTwoCheckpoints(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var places []enginetest.Place
		for i := range 20 {
			places = append(places, enginetest.Place{Name: fmt.Sprint(i)})
		}
		src := source.Of(enumerator.Static(places...), reader.Poll(
			func(_ context.Context, at enginetest.Place, out *source.Batch[int]) (enginetest.Place, error) {
				out.Add(1)
				at.Next++
				return at, io.EOF
			}))
		p := engine.New(engine.Config{
			Name: "ending", Parallelism: 1, CheckpointEvery: 2 * time.Millisecond, MaxConcurrent: 3,
			Store: onDisk(&lazyStore{blob: always(0), publish: always(3 * time.Millisecond)}, storetest.NewDisk()),
		})
		engine.To(engine.Map(engine.From(p, "in", src), "work", func(n int) int { <-time.After(7 * time.Millisecond); return n }),
			"out", &enginetest.Collect[int]{})
		run(t, p)
		if e := p.Status().Epochs; e.Failed > 0 || e.Completed < 15 {
			t.Errorf("%d checkpoints failed, %d complete", e.Failed, e.Completed)
		}
	})
}

// TestAtLeastOnceBlocksNoChannel joins a quick input with one whose task is slow: with barriers that block, the quick one stands
// still while a checkpoint waits for the slow one.
func TestAtLeastOnceBlocksNoChannel(t *testing.T) {
	longest := map[bool]time.Duration{}
	for _, least := range []bool{false, true} {
		bubble.Test(t, func(t *testing.T) {
			quick := &enginetest.Script[stamped]{Splits: map[string][]enginetest.Step[stamped]{}}
			slow := &enginetest.Script[stamped]{Splits: map[string][]enginetest.Step[stamped]{"s": enginetest.Recs(make([]stamped, 10)...)}}
			for i := range int64(400) {
				quick.Splits["q"] = append(quick.Splits["q"], enginetest.Rec(stamped{"q", i}), enginetest.Wait[stamped](5*time.Millisecond))
			}
			p := engine.New(engine.Config{
				Name: "least", Parallelism: 1, Dir: t.TempDir(), CheckpointEvery: 300 * time.Millisecond, AtLeastOnce: least,
			})
			a := engine.From(p, "quick", quick)
			b := engine.Map(engine.From(p, "slow", slow), "work", func(s stamped) stamped { <-time.After(200 * time.Millisecond); return s })
			last, worst := time.Now(), time.Duration(0)
			engine.To(engine.Union(a, b).Filter("all", func(s stamped) bool {
				if s.K == "q" {
					worst, last = max(worst, time.Since(last)), time.Now()
				}
				return true
			}), "out", &enginetest.Collect[stamped]{})
			run(t, p)
			if n := p.Status().Epochs.Completed; n < 4 {
				t.Errorf("at least once %v: only %d checkpoints", least, n)
			}
			longest[least] = worst
		})
	}
	if longest[false] < 50*time.Millisecond || longest[true] > 20*time.Millisecond {
		t.Errorf("the quick input stood still for %v with blocked channels, %v without", longest[false], longest[true])
	}
}

// backlogged is a source that says it reads backlog for a while.
type backlogged struct {
	*enginetest.Script[stamped]
	until time.Time
}

type backlogEnum struct {
	source.Enumerator[enginetest.Place]
	until time.Time
}

func (e backlogEnum) Backlog() bool { return time.Now().Before(e.until) }

func (s backlogged) Enumerator(ctx context.Context, t source.Task) (source.Enumerator[enginetest.Place], error) {
	e, err := s.Script.Enumerator(ctx, t)
	return backlogEnum{e, s.until}, err
}

func TestBacklogHasAnIntervalOfItsOwn(t *testing.T) {
	// One second of backlog, then one of news, a checkpoint each 20 ms unless the interval for backlog says otherwise.
	for every, want := range map[time.Duration][2]int64{0: {90, 101}, 100 * time.Millisecond: {55, 61}, -1: {45, 53}} {
		bubble.Test(t, func(t *testing.T) {
			script := &enginetest.Script[stamped]{Splits: map[string][]enginetest.Step[stamped]{"a": {enginetest.Wait[stamped](2 * time.Second)}}}
			p := engine.New(engine.Config{
				Name: "backlog", Dir: t.TempDir(), Parallelism: 1, CheckpointEvery: 20 * time.Millisecond, BacklogEvery: every,
			})
			engine.To(engine.From(p, "in", backlogged{script, time.Now().Add(time.Second)}), "out", &enginetest.Collect[stamped]{})
			run(t, p)
			if n := p.Status().Epochs.Completed; n < want[0] || n > want[1] {
				t.Errorf("interval %v during backlog: %d checkpoints, want %d to %d", every, n, want[0], want[1])
			}
		})
	}
}

// TestFailuresAreCountedOncePerCheckpoint: a checkpoint that two tasks decline is one failure, and a success begins anew.
func TestFailuresAreCountedOncePerCheckpoint(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		src, _ := countingInput()
		src.Splits["a"] = append(src.Splits["a"], enginetest.Stay[stamped]())
		n := 0
		slow := &lazyStore{blob: func() (time.Duration, error) { return time.Millisecond, errPlanted }, publish: always(0)}
		flaky := &lazyStore{publish: func() (time.Duration, error) {
			if n++; n%3 == 0 {
				return 0, nil
			}
			return time.Millisecond, errPlanted
		}, blob: always(0)}
		for i, s := range []*lazyStore{slow, flaky} {
			p := engine.New(engine.Config{
				Name: "counted", Parallelism: 2, CheckpointEvery: time.Millisecond, TolerateFailures: 3,
				Restart: engine.Restart{Attempts: -1}, Store: onDisk(s, storetest.NewDisk()),
			})
			counting(p, src, enginetest.NewTx[string]())
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			err := p.Run(ctx)
			cancel()
			e := p.Status().Epochs
			if i == 0 && (codeOf(err) != "WL1404" || e.Failed != 4) {
				t.Errorf("a store that always fails: %v after %d failures", err, e.Failed)
			}
			if i == 1 && (err != nil || e.Failed < 20 || e.Completed < 10) {
				t.Errorf("a store that fails two of three times: %v, %d failed, %d complete", err, e.Failed, e.Completed)
			}
		}
	})
}

func TestCheckpointsAreDroppedAtTheEnd(t *testing.T) {
	src, want := countingInput()
	dir := t.TempDir()
	once := func(drop bool, stop engine.StopMode, early bool) (rows int, kept int) {
		out := enginetest.NewTx[string]()
		p := engine.New(engine.Config{Name: "dropped", Dir: dir, DropAtEnd: drop, CheckpointEvery: time.Millisecond})
		counting(p, src, out)
		if early {
			p.Stop(stop)
		}
		run(t, p)
		d, err := store.Open(dir, store.Options{Job: "dropped"})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		rec, err := d.Latest()
		if err != nil || (rec == nil) != (len(d.Records()) == 0) {
			t.Fatalf("%v, %v, %d records", rec, err, len(d.Records()))
		}
		files, err := os.ReadDir(dir + "/epochs")
		if err != nil || rec == nil && len(files) > 0 {
			t.Errorf("%v, left behind: %v", err, files)
		}
		return len(out.Rows()), len(d.Records())
	}
	if _, kept := once(true, engine.Suspend, true); kept != 1 {
		t.Errorf("%d checkpoints of a suspended job are kept, want 1", kept)
	}
	for round := range 2 { // the second round begins anew
		if rows, kept := once(true, 0, false); rows != len(want) || kept != 0 {
			t.Errorf("round %d: %d rows, want %d; %d checkpoints are kept", round, rows, len(want), kept)
		}
	}
	if _, kept := once(true, engine.Drain, true); kept != 0 {
		t.Errorf("%d checkpoints of a drained job are kept", kept)
	}
	if rows, kept := once(false, 0, false); rows != len(want) || kept == 0 {
		t.Errorf("without DropAtEnd: %d rows, %d checkpoints", rows, kept)
	}
	if rows, kept := once(true, 0, false); rows != 0 || kept != 0 {
		t.Errorf("a finished job run again: %d rows, %d checkpoints", rows, kept)
	}
}

func TestOptionsThatExcludeEachOther(t *testing.T) {
	src, _ := countingInput()
	two := engine.New(engine.Config{Name: "two", Dir: t.TempDir(), AtLeastOnce: true})
	counting(two, src, enginetest.NewTx[string]())
	if err := two.Check(); err == nil || !strings.Contains(err.Error(), "options_test.go") && !strings.Contains(err.Error(), "disk_test.go") {
		t.Errorf("two-phase sink at least once: %v", err)
	}
	plain := engine.New(engine.Config{Name: "plain", Dir: t.TempDir(), AtLeastOnce: true})
	engine.To(engine.From(plain, "in", src), "out", &enginetest.Collect[stamped]{})
	if err := plain.Check(); err != nil {
		t.Error(err)
	}
	if g := plain.Plan().Guarantees[0]; g.Promise != engine.PromiseAtLeastOnce || !strings.Contains(g.Why, "overtake") {
		t.Errorf("guarantee: %+v", g)
	}
	none := engine.New(engine.Config{Name: "none", MaxConcurrent: -1})
	engine.From(none, "in", src)
	if err := none.Check(); err == nil {
		t.Error("a negative MaxConcurrent: accepted")
	}
}
