package files

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weirline/weirline/sink"
)

// childEnv makes the test binary the process that is killed. Its value is the directory.
const childEnv = "WEIRLINE_FILES_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := child(dir, os.Getenv(childEnv+"_STEP")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

const (
	killedTx      = 60
	killedRecords = 50
)

// child prepares transactions and commits them. At its step it reports what the engine would have made durable, and goes
// on until it is killed.
func child(dir, step string) error {
	ctx := context.Background()
	s := TxSink[string]{Dir: dir}
	w, err := s.TxWriter(ctx, txTask)
	if err != nil {
		return err
	}
	c, err := s.Committer(ctx, txTask)
	if err != nil {
		return err
	}
	var hs []sink.Handle
	for i := range killedTx {
		if err := w.Begin(ctx, killedSlot(i)); err != nil {
			return err
		}
		if err := w.Write(ctx, killedLines(i)); err != nil {
			return err
		}
		if step == "write" && i == killedTx/2 {
			return report(hs)
		}
		h, err := w.Prepare(ctx, uint64(i))
		if err != nil {
			return err
		}
		hs = append(hs, h)
	}
	if step == "commit" {
		if err := json.NewEncoder(os.Stdout).Encode(hs); err != nil {
			return err
		}
		if err := c.Commit(ctx, hs); err != nil {
			return err
		}
		select {}
	}
	return report(hs)
}

// report prints the handles and waits to be killed.
func report(hs []sink.Handle) error {
	if err := json.NewEncoder(os.Stdout).Encode(hs); err != nil {
		return err
	}
	select {}
}

func killedSlot(i int) sink.Slot { return sink.Slot{ID: i, Name: fmt.Sprintf("job-out-%d", i)} }

func killedLines(i int) (lines []string) {
	for n := range killedRecords {
		lines = append(lines, fmt.Sprintf("tx %d record %d", i, n))
	}
	return lines
}

// kill starts the child, waits for its report and until enough files are visible, and kills it.
func kill(t *testing.T, dir, step string, files int) []sink.Handle {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir, childEnv+"_STEP="+step)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err := errors.Join(err, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	for seen := 0; err == nil && seen < files; {
		var names []string
		names, err = filepath.Glob(filepath.Join(dir, "part-*"))
		seen = len(names)
	}
	if kerr := cmd.Process.Kill(); kerr != nil || err != nil {
		t.Fatal(errors.Join(err, kerr))
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("child ended by itself: %v", err)
	}
	var hs []sink.Handle
	if err := json.Unmarshal(line, &hs); err != nil {
		t.Fatal(err)
	}
	return hs
}

// TestKilledProcess kills a process hard and recovers in this one.
func TestKilledProcess(t *testing.T) {
	cases := []struct {
		name, step string
		files      int // visible ones to wait for
		keep       int // handles the restored epoch has; -1: all
	}{
		{"before Prepare, epoch with the earlier handles", "write", 0, -1},
		{"before Prepare, epoch without handles", "write", 0, 0},
		{"after Prepare", "prepared", 0, -1},
		{"after Prepare, epoch with some handles", "prepared", 0, killedTx / 3},
		{"in Commit, at its begin", "commit", 1, -1},
		{"in Commit, in the middle", "commit", killedTx / 2, -1},
		{"after Commit", "commit", killedTx, -1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			hs := kill(t, dir, c.step, c.files)
			if c.keep >= 0 {
				hs = hs[:c.keep]
			}
			if lines, err := visible(dir); err != nil || len(lines)%killedRecords != 0 {
				t.Errorf("%d lines are visible before Recover, which isn't whole files (%v)", len(lines), err)
			}
			if lines, err := visible(dir); err == nil {
				t.Logf("%d of %d files were visible when it died", len(lines)/killedRecords, killedTx)
			}
			_, committer := txOpen(t, TxSink[string]{Dir: dir})
			var slots []sink.Slot
			var want []string
			for i := range killedTx {
				slots = append(slots, killedSlot(i))
			}
			for i := range hs {
				want = append(want, killedLines(i)...)
			}
			for range 2 {
				if err := committer.Recover(t.Context(), hs, slots); err != nil {
					t.Fatal(err)
				}
				if got, err := visible(dir); err != nil || !slices.Equal(got, want) {
					t.Errorf("%d lines are visible, want %d (%v)", len(got), len(want), err)
				}
			}
			if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
				t.Errorf("left: %q, %v", left, err)
			}
		})
	}
}
