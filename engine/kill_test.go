//go:build unix

package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/files"
	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/state"
	"github.com/weirline/weirline/state/pebble"
)

const killRecords = 20_000

// The steps of the commit protocol at which a child kills itself hard.
const (
	killNever      = "never"
	beforePrepare  = "before prepare"
	beforePointer  = "before the pointer" // prepared, the epoch isn't complete
	afterPointer   = "after the pointer"  // complete, nothing committed
	midCommit      = "in mid-commit"      // some of the epoch's transactions committed
	beforeRecorded = "commit unrecorded"  // all committed, not recorded
)

// suicidal is the exactly-once file sink in a process that dies at a step, in the n-th epoch.
type suicidal struct {
	sink.TwoPhase[int64]
	at string
	n  *atomic.Int64
}

func (s suicidal) die(at string) {
	if s.at == at && s.n.Add(-1) == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func (s suicidal) TxWriter(ctx context.Context, t sink.Task) (sink.TxWriter[int64], error) {
	w, err := s.TwoPhase.TxWriter(ctx, t)
	return suicidalWriter{w, s}, err
}

func (s suicidal) Committer(ctx context.Context, t sink.Task) (sink.Committer, error) {
	c, err := s.TwoPhase.Committer(ctx, t)
	return suicidalCommitter{c, s}, err
}

type suicidalWriter struct {
	sink.TxWriter[int64]
	s suicidal
}

func (w suicidalWriter) Prepare(ctx context.Context, epoch uint64) (sink.Handle, error) {
	w.s.die(beforePrepare)
	h, err := w.TxWriter.Prepare(ctx, epoch)
	w.s.die(beforePointer)
	return h, err
}

type suicidalCommitter struct {
	sink.Committer
	s suicidal
}

func (c suicidalCommitter) Commit(ctx context.Context, hs []sink.Handle) error {
	c.s.die(afterPointer)
	if len(hs) > 1 {
		if err := c.Committer.Commit(ctx, hs[:1]); err != nil {
			return err
		}
		c.s.die(midCommit)
	}
	err := c.Committer.Commit(ctx, hs)
	c.s.die(beforeRecorded)
	return err
}

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

// killChild is the child process: numbers counted by key, into files, exactly once.
func killChild(dir, at string, par int, n int64) int {
	var left atomic.Int64
	left.Store(n)
	cfg := engine.Config{
		Name: "kill", Dir: filepath.Join(dir, "state"), Parallelism: par, CheckpointEvery: 10 * time.Millisecond,
	}
	if os.Getenv("WEIRLINE_KILL_BACKEND") == "pebble" {
		cfg.State = pebble.New(pebble.Options{Room: 20_000, BlockCache: 1 << 20, MemTable: 1 << 18})
	}
	rate := 4_000.0 // slow enough that there is input left in the epoch in which it dies, on a busy machine too
	if at == killNever {
		rate = 40_000
	}
	p := engine.New(cfg)
	s := engine.From(p, "numbers", gen.Source[int64]{
		Make: func(seq int64) int64 { return seq }, Count: killRecords, PerSecond: rate, Splits: 4,
	})
	s = engine.Process(engine.KeyBy(s, func(v int64) int64 { return v % killKeys }), "rank", func() *rank { return &rank{} })
	engine.ToTx(s, "out", suicidal{files.TxSink[int64]{Dir: filepath.Join(dir, "out")}, at, &left})
	if err := p.Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func TestMain(m *testing.M) {
	if dir := os.Getenv("WEIRLINE_KILL_DIR"); dir != "" {
		par, _ := strconv.Atoi(os.Getenv("WEIRLINE_KILL_PARALLELISM"))
		n, _ := strconv.ParseInt(os.Getenv("WEIRLINE_KILL_N"), 10, 64)
		os.Exit(killChild(dir, os.Getenv("WEIRLINE_KILL_AT"), par, n))
	}
	if dir := os.Getenv("WEIRLINE_SLOW_DIR"); dir != "" {
		par, _ := strconv.Atoi(os.Getenv("WEIRLINE_SLOW_PARALLELISM"))
		batch, _ := time.ParseDuration(os.Getenv("WEIRLINE_SLOW_BATCH"))
		os.Exit(slowChild(dir, par, batch))
	}
	os.Exit(m.Run())
}

// TestKilledAtEachStepOfTheCommit runs a job in child processes that die hard at each step of the protocol, restarts it at
// another parallelism each time, and counts: every number is in a visible file once.
func TestKilledAtEachStepOfTheCommit(t *testing.T) {
	for _, backend := range []string{"memory", "pebble"} {
		t.Run(backend, func(t *testing.T) {
			t.Setenv("WEIRLINE_KILL_BACKEND", backend)
			killAtEachStep(t)
		})
	}
}

func killAtEachStep(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 3))
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "out"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{beforePrepare, beforePointer, afterPointer, midCommit, beforeRecorded} {
		if err := runKillChild(t, dir, at, 2+rnd.IntN(3), 1+rnd.Int64N(4)); !killed(err) {
			t.Fatalf("%s: the child should have been killed, it ended with %v", at, err)
		}
	}
	if err := runKillChild(t, dir, killNever, 3, 0); err != nil {
		t.Fatal(err)
	}
	checkNumbers(t, filepath.Join(dir, "out"))
	if left, err := filepath.Glob(filepath.Join(dir, "state", "*.work")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func runKillChild(t *testing.T, dir, at string, par int, n int64) error {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "WEIRLINE_KILL_DIR="+dir, "WEIRLINE_KILL_AT="+at,
		fmt.Sprint("WEIRLINE_KILL_PARALLELISM=", par), fmt.Sprint("WEIRLINE_KILL_N=", n))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if out.Len() > 0 {
		t.Logf("%s: %s", at, out.String())
	}
	return err
}

func killed(err error) bool {
	e, ok := errors.AsType[*exec.ExitError](err)
	return ok && e.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
}

func checkNumbers(t *testing.T, dir string) {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, f := range names {
		if strings.HasPrefix(f.Name(), ".") {
			t.Errorf("left behind: %s", f.Name())
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range strings.Fields(string(b)) {
			n, err := strconv.Atoi(l)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, n)
		}
	}
	slices.Sort(got)
	for i, n := range got {
		if n != i {
			t.Fatalf("number %d is missing or there twice (found %d in its place)", i, n)
		}
	}
	if len(got) != killRecords {
		t.Errorf("%d numbers, want %d", len(got), killRecords)
	}
}
