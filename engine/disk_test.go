package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/engine/store/storetest"
	"github.com/weirline/weirline/internal/bubble"
)

// counting is a job with everything an epoch holds: two sources, keyed state with maps, windows, a two-phase sink.
func counting(p *engine.Pipeline, src *enginetest.Script[stamped], out *enginetest.Tx[string]) {
	countingOf(engine.From(p, "in", src), out)
}

func countingOf(s engine.Stream[stamped], out *enginetest.Tx[string]) {
	s = s.EventTime(at, engine.Watermarks{Delay: time.Second})
	win := engine.Window(engine.KeyBy(s, func(s stamped) string { return s.K }), "count", engine.Tumbling{Size: 10 * time.Second})
	res := engine.Aggregate(win, func(m *map[int64]int, s stamped) {
		if *m == nil {
			*m = map[int64]int{}
		}
		(*m)[s.At]++
	}, func(k string, sp engine.Span, m *map[int64]int) string {
		n := 0
		for _, c := range *m {
			n += c
		}
		return fmt.Sprintf("%s %d %d of %d", k, sp.Start.Unix(), n, len(*m))
	})
	engine.ToTx(res, "out", out)
}

func countingInput() (*enginetest.Script[stamped], []string) {
	src := &enginetest.Script[stamped]{Splits: map[string][]enginetest.Step[stamped]{}}
	n, times := map[string]int{}, map[string]map[int64]bool{}
	for s := range 3 {
		var steps []enginetest.Step[stamped]
		for i := range 12 {
			r := stamped{K: string(rune('k' + i%2)), At: int64(i*2 + s%2)}
			k := fmt.Sprintf("%s %d", r.K, r.At/10*10)
			n[k]++
			if times[k] == nil {
				times[k] = map[int64]bool{}
			}
			times[k][r.At] = true
			steps = append(steps, enginetest.Rec(r), enginetest.Wait[stamped](3*time.Millisecond))
		}
		src.Splits[string(rune('a'+s))] = steps
	}
	var want []string
	for k, c := range n {
		want = append(want, fmt.Sprintf("%s %d of %d", k, c, len(times[k])))
	}
	slices.Sort(want)
	return src, want
}

// TestPowerFailureAtEveryDiskOperation stops the whole machine at one disk operation after another, with that operation
// done or not, brings back what a disk may hold then, and runs the job again at another parallelism: each result is there
// once.
func TestPowerFailureAtEveryDiskOperation(t *testing.T) {
	seed := rand.Uint64()
	if s := os.Getenv("WEIRLINE_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("seed %d; replay with WEIRLINE_SEED", seed)
	rnd := rand.New(rand.NewPCG(seed, 7))
	step := 9
	if os.Getenv("WEIRLINE_SOAK") != "" {
		step = 1
	}
	failed := 0
	for at := rnd.IntN(step); ; at += 1 + rnd.IntN(step) {
		var ended bool
		bubble.Test(t, func(t *testing.T) { ended = powerFailure(t, rnd, at) })
		if t.Failed() {
			t.Fatalf("failed at disk operation %d", at)
		}
		if ended {
			break
		}
		failed++
	}
	if failed < 10 {
		t.Errorf("only %d failures happened", failed)
	}
}

// powerFailure says whether the job ended before operation number op.
func powerFailure(t *testing.T, rnd *rand.Rand, op int) (ended bool) {
	src, want := countingInput()
	out := enginetest.NewTx[string]()
	disk := storetest.NewDisk()
	once := func(par int, disk *storetest.Disk) error {
		p := engine.New(engine.Config{
			Name: "power", Parallelism: par, CheckpointEvery: 5 * time.Millisecond, TolerateFailures: -1,
			Restart: engine.Restart{Attempts: -1},
			Store: func(o store.Options) (store.Store, error) {
				o.FS = disk
				return store.Open("state", o)
			},
		})
		counting(p, src, out)
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		return p.Run(ctx)
	}
	disk.FailAt(op, errors.New("power failure"), rnd.IntN(2) == 0, true)
	if err := once(1+rnd.IntN(3), disk); err == nil && disk.Ops() < op {
		ended = true
	}
	var after *storetest.Disk
	if rnd.IntN(2) == 0 {
		after = disk.Crash(rnd)
	} else {
		after = disk.Kill()
	}
	if err := once(1+rnd.IntN(3), after); err != nil {
		t.Fatal(err)
	}
	if err := once(2, after.Kill()); err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(slices.Values(out.Rows())); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	return ended
}

// slowStore writes blobs slowly, so that state changes while its snapshot is being written.
type slowStore struct{ store.Store }

type slowWriter struct{ store.Writer }

func (s slowStore) Create(epoch uint64, name string) (store.Writer, error) {
	w, err := s.Store.Create(epoch, name)
	return slowWriter{w}, err
}

func (w slowWriter) Write(b []byte) (int, error) {
	<-time.After(time.Millisecond)
	return w.Writer.Write(b)
}

// TestMapsChangeWhileTheirSnapshotIsWritten restores the exact cut of accumulators that are maps and go on changing.
func TestMapsChangeWhileTheirSnapshotIsWritten(t *testing.T) {
	const n = 30_000
	dir := t.TempDir()
	out := enginetest.NewTx[keyCount]()
	var runs int
	for done := false; !done; runs++ {
		ctx, cancel := context.WithCancel(t.Context())
		var seen atomic.Int64
		p := engine.New(engine.Config{
			Name: "maps", Parallelism: 1 + runs%3, CheckpointEvery: 2 * time.Millisecond, Restart: engine.Restart{Attempts: -1},
			Store: func(o store.Options) (store.Store, error) {
				d, err := store.Open(dir, o)
				return slowStore{d}, err
			},
		})
		mapJob(p, n, out, func() error {
			if seen.Add(1) == 9000 {
				return errPlanted // no graceful end: back to the last epoch
			}
			return nil
		})
		err := p.Run(ctx)
		if done = err == nil; !done && codeOf(err) != "WL1401" {
			t.Fatal(err)
		}
		cancel()
	}
	if runs < 3 {
		t.Errorf("only %d runs", runs)
	}
	checkWindows(t, out.Rows(), n)
}

var errPlanted = errors.New("planted")

func TestFullDiskIsSurvived(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		src, want := countingInput()
		out := enginetest.NewTx[string]()
		full := &fullStore{}
		p := engine.New(engine.Config{
			Name: "full", Parallelism: 2, CheckpointEvery: 5 * time.Millisecond, Restart: engine.Restart{Attempts: -1},
			Store: func(o store.Options) (store.Store, error) {
				o.FS = storetest.NewDisk()
				d, err := store.Open("state", o)
				full.Store = d
				return full, err
			},
		})
		counting(p, src, out)
		if err := p.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if full.failed < 10 {
			t.Errorf("the disk was full only %d times", full.failed)
		}
		if got := slices.Sorted(slices.Values(out.Rows())); !slices.Equal(got, want) {
			t.Errorf("got %v", got)
		}
	})
}

// fullStore has no room from its third to its twentieth epoch.
type fullStore struct {
	store.Store
	published, failed int
}

func (s *fullStore) Publish(r *store.Record) error {
	s.published++
	if s.published > 3 && s.published < 20 {
		s.failed++
		return storeFull(syscall.ENOSPC)
	}
	return s.Store.Publish(r)
}

func TestStateOfAnotherJobAndDroppedOperators(t *testing.T) {
	dir := t.TempDir()
	src, _ := countingInput()
	stopped := func(name string, build func(p *engine.Pipeline), o func(*engine.Config)) error {
		cfg := engine.Config{Name: name, Dir: dir}
		if o != nil {
			o(&cfg)
		}
		p := engine.New(cfg)
		build(p)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		return p.Run(ctx)
	}
	all := func(p *engine.Pipeline) { counting(p, src, enginetest.NewTx[string]()) }
	if err := stopped("one", all, nil); err != nil {
		t.Fatal(err)
	}
	if got := codeOf(stopped("two", all, nil)); got != "WL1102" {
		t.Errorf("state of another job: %q", got)
	}
	less := func(p *engine.Pipeline) {
		engine.To(engine.From(p, "in", src), "plain", &enginetest.Collect[stamped]{})
	}
	if got := codeOf(stopped("one", less, nil)); got != "WL1106" {
		t.Errorf("dropped operator: %q", got)
	}
	if err := stopped("one", less, func(c *engine.Config) { c.AllowDropped = true }); err != nil {
		t.Errorf("dropped operator, allowed: %v", err)
	}
	if got := codeOf(stopped("one", all, func(c *engine.Config) { c.Parallelism, c.KeyGroups = 200, 256 })); got != "WL1108" {
		t.Errorf("parallelism above the key groups of the state: %q", got)
	}
}

func TestSecondCopyIsRefused(t *testing.T) {
	dir := t.TempDir()
	src := &enginetest.Script[stamped]{Splits: map[string][]enginetest.Step[stamped]{"a": {enginetest.Stay[stamped]()}}}
	build := func() *engine.Pipeline {
		p := engine.New(engine.Config{Name: "copy", Dir: dir})
		counting(p, src, enginetest.NewTx[string]())
		return p
	}
	ctx, cancel := context.WithCancel(t.Context())
	first := build()
	ended := make(chan error, 1)
	go func() { ended <- first.Run(ctx) }()
	for first.Status().Phase != "running" {
		<-time.After(time.Millisecond)
	}
	if got := codeOf(build().Run(ctx)); got != "WL1101" {
		t.Errorf("second copy: %q", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
