//go:build unix

package engine_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/files"
	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn/txntest"
)

const (
	slowRecords = 12_000
	slowKeys    = 12 // each in one of four splits
)

// slowFiles is the exactly-once file sink whose batches take their time.
type slowFiles struct {
	sink.TwoPhase[string]
	batch time.Duration
}

func (s slowFiles) TxWriter(ctx context.Context, t sink.Task) (sink.TxWriter[string], error) {
	w, err := s.TwoPhase.TxWriter(ctx, t)
	return slowTxWriter[string]{w, func() time.Duration { return s.batch }}, err
}

// slowChild is the child process: sequences by key into files, exactly once. It prints what it knows of each checkpoint.
func slowChild(dir string, par int, batch time.Duration) int {
	p := engine.New(engine.Config{
		Name: "slow", Dir: filepath.Join(dir, "state"), Parallelism: par, CheckpointEvery: time.Second,
		Unaligned: true, UnalignedAfter: 200 * time.Millisecond, BatchSize: 8, QueueBatches: 16,
	})
	s := engine.From(p, "in", gen.Source[sequence]{
		Make:  func(seq int64) sequence { return sequence{fmt.Sprint("k", seq%slowKeys), int(seq/slowKeys) + 1} },
		Count: slowRecords, Splits: 4,
	})
	k := engine.KeyBy(s, func(s sequence) string { return s.K })
	counted := engine.Process(k, "count", func() *ordered { return &ordered{} })
	engine.ToTx(counted.Rebalance(), "out", slowFiles{files.TxSink[string]{Dir: filepath.Join(dir, "out")}, batch})
	return tellEpochs(p)
}

// tellEpochs runs a pipeline and prints a line for each checkpoint. It returns the exit code.
func tellEpochs(p *engine.Pipeline) int {
	end, said := make(chan error, 1), int64(0)
	go func() { end <- p.Run(context.Background()) }()
	for {
		select {
		case err := <-end:
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			return 0
		case <-time.After(5 * time.Millisecond):
		}
		if e := p.Status().Epochs; e.Completed > said {
			said, e.Durations = e.Completed, nil
			if json.NewEncoder(os.Stdout).Encode(e) != nil {
				return 1
			}
		}
	}
}

// startSlowChild starts it; the lines it prints come through the scanner.
func startSlowChild(t *testing.T, dir string, par int, batch time.Duration) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "WEIRLINE_SLOW_DIR="+dir, fmt.Sprint("WEIRLINE_SLOW_PARALLELISM=", par), fmt.Sprint("WEIRLINE_SLOW_BATCH=", batch))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	return cmd, bufio.NewScanner(out)
}

// TestUnalignedProcessIsKilled: a process with a store on the disk, full queues and a sink that takes 100 ms a batch completes its
// checkpoints in less than a second, by its own account. It is killed hard and goes on at another parallelism: the output is
// exact, and in order by key.
func TestUnalignedProcessIsKilled(t *testing.T) {
	for _, par := range [][2]int{{1, 4}, {4, 1}, {3, 2}} {
		t.Run(fmt.Sprint(par[0], " to ", par[1]), func(t *testing.T) {
			t.Parallel() // they mostly wait
			dir := t.TempDir()
			must(t, os.Mkdir(filepath.Join(dir, "out"), 0o755))
			cmd, lines := startSlowChild(t, dir, par[0], 100*time.Millisecond)
			var last engine.EpochStatus
			for last.Unaligned < 3 && lines.Scan() {
				last = engine.EpochStatus{}
				must(t, json.Unmarshal(lines.Bytes(), &last))
				t.Logf("checkpoint %d took %v, %d bytes in flight", last.Last, last.LastDuration, last.LastInFlight)
				if last.LastDuration >= time.Second || last.Unaligned != last.Completed || last.LastInFlight == 0 || last.Failed > 0 {
					t.Errorf("a checkpoint behind a slow sink: %+v", last)
				}
			}
			must(t, cmd.Process.Kill())
			if err := cmd.Wait(); !txntest.Killed(err) {
				t.Fatalf("the child should have been killed, it ended with %v", err)
			}
			d, err := store.Open(filepath.Join(dir, "state"), store.Options{ReadOnly: true})
			must(t, err)
			rec, err := d.Latest()
			must(t, err)
			must(t, d.Close())
			if last.Unaligned < 3 || len(rec.InFlight) == 0 || rec.Operators["out"].Parallelism != par[0] {
				t.Fatalf("%d unaligned checkpoints; the newest has %d pieces in flight", last.Unaligned, len(rec.InFlight))
			}
			cmd, lines = startSlowChild(t, dir, par[1], 0)
			for lines.Scan() { // until it has ended
			}
			must(t, cmd.Wait())
			checkSequences(t, filepath.Join(dir, "out"))
		})
	}
}

func checkSequences(t *testing.T, dir string) {
	t.Helper()
	var got, want []string
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	must(t, err)
	for _, name := range names {
		b, err := os.ReadFile(name)
		must(t, err)
		got = append(got, strings.Split(strings.TrimSpace(string(b)), "\n")...)
	}
	for seq := range slowRecords {
		want = append(want, fmt.Sprintf("k%d %d", seq%slowKeys, seq/slowKeys+1))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d rows in %d files, want %d; %d differ", len(got), len(names), len(want), differ(got, want))
	}
}
