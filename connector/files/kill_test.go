//go:build unix

package files_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/files"
	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/sink/parts"
	"github.com/weirline/weirline/txn/txntest"
)

const killRecords = 40_000

// sinks make several files an epoch and task, two or three of each bucket.
var sinks = map[string]func(dir string) files.TxSink[int64]{
	"buckets": func(dir string) files.TxSink[int64] {
		return files.TxSink[int64]{
			Dir: dir, Rolling: parts.Rolling{Size: 40}, MaxOpen: 2,
			Bucket: func(dst []byte, n int64) []byte { return fmt.Appendf(dst, "a=%d/b=%d", n/8%2, n/8%3) },
		}
	},
	"compact": func(dir string) files.TxSink[int64] {
		return files.TxSink[int64]{
			Dir: dir, Rolling: parts.Rolling{Size: 60}, CompactBelow: 40, Format: parts.JSON[int64]{},
			Bucket: func(dst []byte, n int64) []byte { return fmt.Appendf(dst, "a=%d", n%2) },
		}
	},
}

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
	to := sinks[c.Args["sink"]](filepath.Join(c.Args["dir"], "out"))
	if c.Step == "" {
		to.Rolling.Size, to.MaxOpen = 4<<10, 0 // what is left of the input needn't make thousands of files
	}
	engine.ToTx(s, "out", txntest.Wrap(c, to))
	return p.Run(context.Background())
}

func TestMain(m *testing.M) {
	txntest.Main(numbers)
	os.Exit(m.Run())
}

// TestKilledAtEachStep counts after each death: no number is visible twice, and at the end each is, and no transaction is hidden.
func TestKilledAtEachStep(t *testing.T) {
	for name := range sinks {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "out"), 0o755); err != nil {
				t.Fatal(err)
			}
			txntest.Kills{
				Args:  map[string]string{"dir": dir, "sink": name},
				Check: func(over bool) error { return tally(filepath.Join(dir, "out"), over) },
			}.Run(t)
		})
	}
}

func tally(dir string, over bool) error {
	hidden, err := filepath.Glob(filepath.Join(dir, ".*"))
	hidden = slices.DeleteFunc(hidden, func(name string) bool { return filepath.Base(name) == ".kill-out.joined" })
	if err != nil || over && len(hidden) > 0 {
		return fmt.Errorf("left behind: %q, %v", hidden, err)
	}
	seen := map[string]bool{}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path != dir && strings.HasPrefix(e.Name(), "."):
			return map[bool]error{true: fs.SkipDir}[e.IsDir()]
		case e.IsDir():
			return nil
		}
		b, err := os.ReadFile(path)
		for n := range strings.Lines(string(b)) {
			if seen[n] {
				return fmt.Errorf("number %q is visible twice", n)
			}
			seen[n] = true
		}
		return err
	})
	if err == nil && over && len(seen) != killRecords {
		err = fmt.Errorf("%d numbers are visible, want %d", len(seen), killRecords)
	}
	return err
}
