package ahead_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/sink/ahead"
)

var errDown = errors.New("the destination is down")

// counted is a job that writes numbers by way of a directory inside of that of its state.
func counted(state string, to lines, count int64) *engine.Pipeline {
	p := engine.New(engine.Config{Name: "counted", Dir: state, Parallelism: 2, CheckpointEvery: 10 * time.Millisecond, CommitWait: 20 * time.Millisecond})
	s := engine.From(p, "numbers", gen.Source[string]{Make: func(seq int64) string { return fmt.Sprintf("%06d", seq) }, Count: count, PerSecond: 50_000, Splits: 4})
	engine.ToTx(s, "out", ahead.Sink[string]{To: to, Dir: filepath.Join(state, "ahead")})
	return p
}

// once wants each number in the destination.
func once(t *testing.T, to lines, count int) {
	t.Helper()
	got, err := to.read()
	slices.Sort(got)
	if different := len(slices.Compact(slices.Clone(got))); err != nil || len(got) != count || different != count {
		t.Errorf("the destination has %d lines, %d of them different, %v; want %d", len(got), different, err, count)
	}
}

// waiting counts the segments that are prepared.
func waiting(t *testing.T, state string) int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(state, "ahead", "*.end"))
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// down is a destination that fails until it is mended.
func down(path string) (lines, *atomic.Bool) {
	mended := &atomic.Bool{}
	return lines{path: path, fail: func() error {
		if mended.Load() {
			return nil
		}
		return errDown
	}}, mended
}

// until waits for a condition.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for began := time.Now(); !cond(); <-time.After(2 * time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// TestJobWaitsForItsDestination is down from the beginning: rows wait until no transaction is free, then input does.
func TestJobWaitsForItsDestination(t *testing.T) {
	dir := t.TempDir()
	to, mended := down(filepath.Join(dir, "out"))
	const count = 100_000
	p := counted(filepath.Join(dir, "state"), to, count)
	done := make(chan error, 1)
	go func() { done <- p.Run(t.Context()) }()
	read := func() (n int64) {
		for _, task := range p.Status().Tasks {
			for _, o := range task.Operators {
				if o.Name == "numbers" {
					n += o.In
				}
			}
		}
		return n
	}
	until(t, "input is held", func() bool {
		before, waits := read(), waiting(t, filepath.Join(dir, "state"))
		<-time.After(50 * time.Millisecond)
		return waits > 4 && read() == before
	})
	if read() == count {
		t.Error("all of the input was read")
	}
	once(t, to, 0)
	mended.Store(true)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	once(t, to, count)
	if n := waiting(t, filepath.Join(dir, "state")); n > 0 {
		t.Errorf("%d segments wait", n)
	}
}

// TestStateOnAnotherMachine has nothing but a copy of the state's directory, which rows wait in too.
func TestStateOnAnotherMachine(t *testing.T) {
	dir := t.TempDir()
	here, there := filepath.Join(dir, "here"), filepath.Join(dir, "there")
	to, _ := down(filepath.Join(dir, "out"))
	const count = 20_000
	p := counted(here, to, count)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	until(t, "rows wait", func() bool { return waiting(t, here) > 2 })
	stop()
	err := <-done
	t.Log("the stop:", err)
	once(t, to, 0)
	if err := os.CopyFS(there, os.DirFS(here)); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(here); err != nil {
		t.Fatal(err)
	}
	other := lines{path: filepath.Join(dir, "other")}
	if err := counted(there, other, count).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	once(t, other, count)

	if err := os.RemoveAll(filepath.Join(there, "ahead")); err != nil {
		t.Fatal(err)
	}
	if err := counted(there, other, count).Run(t.Context()); err != nil {
		t.Errorf("nothing waited any more: %v", err)
	}
}

// TestRowsLeftBehind restores a state without the rows that waited: the start is refused.
func TestRowsLeftBehind(t *testing.T) {
	dir := t.TempDir()
	to, _ := down(filepath.Join(dir, "out"))
	p := counted(filepath.Join(dir, "state"), to, 20_000)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	until(t, "rows wait", func() bool { return waiting(t, filepath.Join(dir, "state")) > 2 })
	stop()
	<-done
	if err := os.RemoveAll(filepath.Join(dir, "state", "ahead")); err != nil {
		t.Fatal(err)
	}
	err := counted(filepath.Join(dir, "state"), lines{path: filepath.Join(dir, "other")}, 20_000).Run(t.Context())
	for _, want := range []string{"WL1306", "operator out", "are not in", "put the files back", "txn.AcceptLoss"} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
}
