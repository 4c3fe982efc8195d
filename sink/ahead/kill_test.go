//go:build unix

package ahead_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/ahead"
	"github.com/weirline/weirline/txn/txntest"
)

const killRecords = 20_000

// numbers is the job: generated numbers into a file, by way of the directory of the state.
func numbers(c *txntest.Child) error {
	state := filepath.Join(c.Args["dir"], "state")
	rate := 1_000.0 // slow enough that there is input left in the epoch in which it dies, on a busy machine too
	if c.Step == "" {
		rate = killRecords
	}
	p := engine.New(engine.Config{Name: "kill", Dir: state, Store: c.Store(state), Parallelism: c.Parallelism, CheckpointEvery: 10 * time.Millisecond})
	s := engine.From(p, "numbers", gen.Source[string]{
		Make: func(seq int64) string { return fmt.Sprintf("<%08d>", seq) }, Count: killRecords, PerSecond: rate, Splits: 4,
	})
	engine.ToTx(s, "out", txntest.Wrap(c, ahead.Sink[string]{To: whole{lines{path: filepath.Join(c.Args["dir"], "out")}}, Dir: filepath.Join(state, "ahead")}))
	return p.Run(context.Background())
}

// whole begins a new line: a process that was killed may have left a part of one.
type whole struct{ lines }

func (w whole) Writer(ctx context.Context, t sink.Task) (sink.Writer[string], error) {
	a, err := w.lines.Writer(ctx, t)
	if err == nil {
		_, err = a.(*appender).f.WriteString("\n")
	}
	return a, err
}

func TestMain(m *testing.M) {
	txntest.Main(numbers)
	os.Exit(m.Run())
}

// TestKilledAtEachStep writes to a destination that can nothing: at the end each number is there, some of them twice, and nothing waits.
func TestKilledAtEachStep(t *testing.T) {
	dir := t.TempDir()
	var seen, twice int
	txntest.Kills{
		Args: map[string]string{"dir": dir},
		Check: func(over bool) (err error) {
			seen, twice, err = tally(dir, over)
			return err
		},
	}.Run(t)
	t.Logf("%d numbers, %d of them more than once", seen, twice)
}

func tally(dir string, over bool) (n, twice int, _ error) {
	b, err := os.ReadFile(filepath.Join(dir, "out"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, 0, err
	}
	seen := map[string]int{}
	for line := range strings.Lines(string(b)) {
		if len(line) == len("<00000000>\n") && line[0] == '<' && line[9] == '>' {
			seen[line]++
		}
	}
	for _, n := range seen {
		if n > 1 {
			twice++
		}
	}
	waiting, err := filepath.Glob(filepath.Join(dir, "state", "ahead", "*-*-*-*.*"))
	if err != nil || over && (len(seen) != killRecords || len(waiting) > 0) {
		return 0, 0, fmt.Errorf("%d of %d numbers are there, and %q wait, %w", len(seen), killRecords, waiting, err)
	}
	return len(seen), twice, nil
}
