//go:build unix

package engine_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/files"
	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/state"
	"github.com/weirline/weirline/state/pebble"
	"github.com/weirline/weirline/txn/txntest"
)

const killRecords = 40_000

const killKeys = 2000

// rank makes the numbers of a key, in whatever order they come, those below killRecords that belong to it, as long as it
// counts each of them once.
type rank struct{ n state.Value[int64] }

func (r *rank) Open(s *engine.Setup[int64]) error {
	r.n = state.NewValue[int64](s, "n")
	return nil
}

func (r *rank) Process(ctx *engine.Ctx[int64], _ int64, out *engine.Out[int64]) error {
	n := r.n.Ref()
	out.Emit(ctx.Key() + *n*killKeys)
	*n++
	return nil
}

// killJob is the child process: numbers counted by key, into files, exactly once.
func killJob(c *txntest.Child) error {
	dir := filepath.Join(c.Args["dir"], "state")
	cfg := engine.Config{
		Name: "kill", Dir: dir, Store: c.Store(dir), Parallelism: c.Parallelism, CheckpointEvery: 10 * time.Millisecond,
	}
	if c.Args["backend"] == "pebble" {
		cfg.State = pebble.New(pebble.Options{Room: 20_000, BlockCache: 1 << 20, MemTable: 1 << 18})
	}
	rate := 1_000.0 // slow enough that there is input left in the epoch in which it dies, on a busy machine too
	if c.Step == "" {
		rate = 40_000
	}
	p := engine.New(cfg)
	s := engine.From(p, "numbers", gen.Source[int64]{
		Make: func(seq int64) int64 { return seq }, Count: killRecords, PerSecond: rate, Splits: 4,
	})
	s = engine.Process(engine.KeyBy(s, func(v int64) int64 { return v % killKeys }), "rank", func() *rank { return &rank{} })
	engine.ToTx(s, "out", txntest.Wrap(c, files.TxSink[int64]{Dir: filepath.Join(c.Args["dir"], "out")}))
	return p.Run(context.Background())
}

func TestMain(m *testing.M) {
	txntest.Main(killJob)
	if dir := os.Getenv("WEIRLINE_SLOW_DIR"); dir != "" {
		par, _ := strconv.Atoi(os.Getenv("WEIRLINE_SLOW_PARALLELISM"))
		batch, _ := time.ParseDuration(os.Getenv("WEIRLINE_SLOW_BATCH"))
		os.Exit(slowChild(dir, par, batch))
	}
	if url := os.Getenv("WEIRLINE_SHOP_URL"); url != "" {
		os.Exit(shopChild(url))
	}
	os.Exit(m.Run())
}

// TestKilledAtEachStepOfTheCommit runs a job in child processes that die hard at each step of the protocol, restarts it at
// another parallelism each time, and counts: every number is in a visible file once.
func TestKilledAtEachStepOfTheCommit(t *testing.T) {
	for _, backend := range []string{"memory", "pebble"} {
		t.Run(backend, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.Mkdir(filepath.Join(dir, "out"), 0o755))
			txntest.Kills{
				Args: map[string]string{"dir": dir, "backend": backend},
				Check: func(over bool) error {
					if left, err := filepath.Glob(filepath.Join(dir, "state", "*.work")); over && (err != nil || len(left) > 0) {
						return fmt.Errorf("left behind: %v, %v", left, err)
					}
					return checkNumbers(filepath.Join(dir, "out"), over)
				},
			}.Run(t)
		})
	}
}

// checkNumbers says if a number is there twice, and when all is over, if one is missing or a file is hidden.
func checkNumbers(dir string, over bool) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	seen := make([]bool, killRecords)
	found := 0
	for _, f := range names {
		if strings.HasPrefix(f.Name(), ".") {
			if over {
				return fmt.Errorf("left behind: %s", f.Name())
			}
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return err
		}
		for _, l := range strings.Fields(string(b)) {
			n, err := strconv.Atoi(l)
			if err != nil {
				return err
			}
			if n < 0 || n >= killRecords || seen[n] {
				return fmt.Errorf("number %d is there twice, or is none of the job's", n)
			}
			seen[n] = true
			found++
		}
	}
	if over && found != killRecords {
		return fmt.Errorf("%d numbers, want %d", found, killRecords)
	}
	return nil
}
