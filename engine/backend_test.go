package engine_test

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/savepoint"
	"github.com/weirline/weirline/state"
	"github.com/weirline/weirline/state/pebble"
)

// diskSum is the n-th value of a key and the sum so far.
type diskSum struct{ Key, N, Sum int64 }

type runningSum struct{ at state.Value[diskSum] }

func (r *runningSum) Open(s *engine.Setup[int64]) error {
	r.at = state.NewValue[diskSum](s, "sum")
	return nil
}

func (r *runningSum) Process(ctx *engine.Ctx[int64], v int64, out *engine.Out[diskSum]) error {
	a := r.at.Ref()
	a.Key, a.N, a.Sum = ctx.Key(), a.N+1, a.Sum+v
	out.Emit(*a)
	return nil
}

const backendKeys = 5000

// sums is a job whose state is larger than the memory it gets.
func diskSums(cfg engine.Config, n int64, db *enginetest.Tx[diskSum], trip func()) *engine.Pipeline {
	return pacedSums(cfg, n, 200_000, db, trip)
}

func pacedSums(cfg engine.Config, n int64, perSecond float64, db *enginetest.Tx[diskSum], trip func()) *engine.Pipeline {
	cfg.Name, cfg.CheckpointEvery = "sums", 10*time.Millisecond
	cfg.Restart = engine.Restart{Delay: time.Millisecond, Factor: 1, Attempts: 100}
	p := engine.New(cfg)
	s := engine.From(p, "numbers", gen.Source[int64]{Make: func(seq int64) int64 { return seq }, Count: n, Splits: 4, PerSecond: perSecond})
	s = engine.Map(s, "trip", func(v int64) int64 { trip(); return v })
	k := engine.KeyBy(s, func(v int64) int64 { return v * 0x9E3779B9 >> 7 % backendKeys })
	engine.ToTx(engine.Process(k, "sum", func() *runningSum { return &runningSum{} }), "out", db)
	return p
}

// checkSums: each key's values came once, in a sum without gaps.
func checkDiskSums(t *testing.T, rows []diskSum, n int64) {
	t.Helper()
	seen, last := map[[2]int64]bool{}, map[int64]diskSum{}
	for _, r := range rows {
		if seen[[2]int64{r.Key, r.N}] {
			t.Fatalf("twice: %v", r)
		}
		seen[[2]int64{r.Key, r.N}] = true
		if r.N > last[r.Key].N {
			last[r.Key] = r
		}
	}
	var count, sum int64
	for _, r := range last {
		count, sum = count+r.N, sum+r.Sum
	}
	if count != n || int64(len(rows)) != n || sum != n*(n-1)/2 {
		t.Errorf("%d rows, %d values that come to %d; want %d that come to %d", len(rows), count, sum, n, n*(n-1)/2)
	}
}

// A job on disk is stopped, rescaled and made to panic at random, and its sums are exact.
func TestStateOnDiskIsExact(t *testing.T) {
	const n = 60_000
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 5))
	db, dir := enginetest.NewTx[diskSum](), t.TempDir()
	backend := pebble.New(pebble.Options{Room: 60_000, BlockCache: 1 << 20, MemTable: 1 << 18})
	panics, misses := 0, int64(0)
	for run := 0; ; run++ {
		ctx, cancel := context.WithCancel(t.Context())
		var seen atomic.Int64
		stop := 8000 + rnd.Int64N(8000)
		bad := 1000 + rnd.Int64N(5000) // before the stop, or the job would not restart
		p := diskSums(engine.Config{Dir: dir, Parallelism: 1 + rnd.IntN(4), State: backend}, n, db, func() {
			switch seen.Add(1) {
			case stop:
				cancel()
			case bad:
				panic("planted")
			}
		})
		if err := p.Run(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		s := p.Status()
		panics += int(s.Restarts)
		for _, task := range s.Tasks {
			for _, op := range task.Operators {
				misses += op.State.Misses
			}
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*.work")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		if s.Outcome == "finished" {
			break
		}
	}
	checkDiskSums(t, db.Rows(), n)
	t.Logf("%d restarts, %d misses", panics, misses)
	if panics == 0 || misses == 0 {
		t.Errorf("%d restarts, %d misses: nothing was tried", panics, misses)
	}
}

// suspended runs a job for a while and leaves its state in dir. It is slow: at full speed its input may end before it stops.
func suspended(t *testing.T, cfg engine.Config, db *enginetest.Tx[diskSum]) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var seen atomic.Int64
	err := pacedSums(cfg, 120_000, 20_000, db, func() {
		if seen.Add(1) == 5_000 {
			cancel()
		}
	}).Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
}

func TestBackendsDontReadEachOther(t *testing.T) {
	db, dir := enginetest.NewTx[diskSum](), t.TempDir()
	suspended(t, engine.Config{Dir: dir, State: pebble.New(pebble.Options{})}, db)
	err := diskSums(engine.Config{Dir: dir}, 120_000, db, func() {}).Run(t.Context())
	if fault.CodeOf(err) != fault.OtherBackend.ID || !strings.Contains(err.Error(), `"pebble"`) || !strings.Contains(err.Error(), `"memory"`) {
		t.Errorf("memory from pebble: %v", err)
	}
	if err := diskSums(engine.Config{Dir: dir, State: pebble.New(pebble.Options{})}, 120_000, db, func() {}).Run(t.Context()); err != nil {
		t.Error(err)
	}
	checkDiskSums(t, db.Rows(), 120_000)
}

// What memory has written any backend reads.
func TestDiskTakesOverFromMemory(t *testing.T) {
	db, dir := enginetest.NewTx[diskSum](), t.TempDir()
	suspended(t, engine.Config{Dir: dir, Parallelism: 3}, db)
	backend := pebble.New(pebble.Options{Room: 60_000})
	if err := diskSums(engine.Config{Dir: dir, Parallelism: 2, State: backend}, 120_000, db, func() {}).Run(t.Context()); err != nil {
		t.Error(err)
	}
	checkDiskSums(t, db.Rows(), 120_000)
}

// A savepoint has the same form whatever the backend: a job goes from memory to disk and back.
func TestBackendChangesBySavepoint(t *testing.T) {
	const n = 120_000
	db, save := enginetest.NewTx[diskSum](), ""
	disk := pebble.New(pebble.Options{Room: 60_000, BlockCache: 1 << 20, MemTable: 1 << 18})
	for i, backend := range []state.Backend{nil, disk, nil, disk} {
		cfg := engine.Config{Dir: t.TempDir(), Parallelism: 1 + (i+1)*2%5, State: backend}
		if save != "" {
			cfg.Begin = savepoint.Start{Job: "sums", From: save}.Begin
		}
		if i == 3 {
			must(t, diskSums(cfg, n, db, func() {}).Run(t.Context()))
			break
		}
		var seen atomic.Int64
		far := make(chan struct{})
		p := diskSums(cfg, n, db, func() {
			if k := seen.Add(1); k == n/5 {
				close(far)
			} else if k > n/5 {
				<-time.After(100 * time.Microsecond) // or the input could end before the job stops
			}
		})
		end := running(t, p)
		<-far
		save = filepath.Join(t.TempDir(), "save")
		_, err := p.StopWithSavepoint(t.Context(), engine.Suspend, save)
		must(t, err)
		must(t, end())
		if files, err := filepath.Glob(filepath.Join(save, "epochs", "*", "*sst*")); err != nil || len(files) > 0 {
			t.Errorf("savepoint %d has files of the backend: %v, %v", i, files, err)
		}
	}
	checkDiskSums(t, db.Rows(), n)
}

func TestDamagedBackendFiles(t *testing.T) {
	for what, damage := range map[string]func(path string) error{
		"missing": os.Remove,
		"cut":     func(path string) error { return os.Truncate(path, 100) },
		"changed": func(path string) error {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for i := range b {
				b[i] ^= 0x55
			}
			return os.WriteFile(path, b, 0o600)
		},
	} {
		for pattern, backend := range map[string]state.Backend{"*sst.blob": pebble.New(pebble.Options{BlockCache: -1}), "*.blob": nil} {
			db, dir := enginetest.NewTx[diskSum](), t.TempDir()
			suspended(t, engine.Config{Dir: dir, State: backend, Retain: 1}, db)
			blobs, err := filepath.Glob(filepath.Join(dir, "epochs", "*", pattern))
			if err != nil || len(blobs) == 0 {
				t.Fatalf("no files %s in %s: %v", pattern, dir, err)
			}
			for _, b := range blobs {
				if err := damage(b); err != nil {
					t.Fatal(err)
				}
			}
			before := epochFiles(t, dir)
			err = diskSums(engine.Config{Dir: dir, State: backend}, 120_000, db, func() {}).Run(t.Context())
			wants(t, err, fault.DamagedEpoch, "; fix: ", "-fallback")
			if err == nil || !strings.Contains(err.Error(), ".sst") && !strings.Contains(err.Error(), "0000") {
				t.Errorf("%s doesn't name a file: %v", what, err)
			}
			unharmed(t, what, dir, before)
		}
	}
}
