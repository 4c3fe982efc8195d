//go:build unix

package files_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/files"
	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/txn/txntest"
)

const killRecords = 40_000

// numbers is the job: generated numbers into files, exactly once.
func numbers(c *txntest.Child) error {
	state := filepath.Join(c.Args["dir"], "state")
	rate := 1_000.0 // slow enough that there is input left in the epoch in which it dies, on a busy machine too
	if c.Step == "" {
		rate = 40_000
	}
	p := engine.New(engine.Config{Name: "kill", Dir: state, Store: c.Store(state), Parallelism: c.Parallelism, CheckpointEvery: 10 * time.Millisecond})
	s := engine.From(p, "numbers", gen.Source[int64]{
		Make: func(seq int64) int64 { return seq }, Count: killRecords, PerSecond: rate, Splits: 4,
	})
	engine.ToTx(s, "out", txntest.Wrap(c, files.TxSink[int64]{Dir: filepath.Join(c.Args["dir"], "out")}))
	return p.Run(context.Background())
}

func TestMain(m *testing.M) {
	txntest.Main(numbers)
	os.Exit(m.Run())
}

// TestKilledAtEachStep counts after each death: no number is visible twice, and at the end each is, and no file is hidden.
func TestKilledAtEachStep(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "out"), 0o755); err != nil {
		t.Fatal(err)
	}
	txntest.Kills{
		Args:  map[string]string{"dir": dir},
		Check: func(over bool) error { return tally(filepath.Join(dir, "out"), over) },
	}.Run(t)
}

func tally(dir string, over bool) error {
	all, err := filepath.Glob(filepath.Join(dir, "part-*"))
	hidden, herr := filepath.Glob(filepath.Join(dir, ".*"))
	if err := errors.Join(err, herr); err != nil || over && len(hidden) > 0 {
		return fmt.Errorf("left behind: %q, %v", hidden, err)
	}
	seen := map[string]bool{}
	for _, name := range all {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for n := range strings.Lines(string(b)) {
			if seen[n] {
				return fmt.Errorf("number %q is visible twice", n)
			}
			seen[n] = true
		}
	}
	if over && len(seen) != killRecords {
		return fmt.Errorf("%d numbers are visible, want %d", len(seen), killRecords)
	}
	return nil
}
