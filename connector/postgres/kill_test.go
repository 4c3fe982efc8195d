package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/connector/postgres"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
)

const killRecords = 20_000

// The steps of the commit protocol at which a child kills itself hard.
const (
	never          = "never"
	beforePrepare  = "before prepare"
	afterPrepare   = "after prepare"     // the epoch isn't complete
	afterPointer   = "after the pointer" // complete, nothing committed
	midCommit      = "in mid-commit"     // some of the epoch's transactions committed
	beforeRecorded = "commit unrecorded" // all committed, not recorded
	beforeRecover  = "before recovery"
	midRecover     = "in mid-recovery"     // restored handles committed, leftovers not cleared
	afterRecover   = "recovery unrecorded" // both, not recorded
)

// suicidal is the sink in a process that dies at a step, the n-th time it is reached.
type suicidal struct {
	sink.TwoPhase[int64]
	at string
	n  *atomic.Int64
}

func (s suicidal) die(at string) {
	if s.at == at && s.n.Add(-1) == 0 {
		self, err := os.FindProcess(os.Getpid())
		if err := errors.Join(err, self.Kill()); err != nil {
			panic(err)
		}
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
	w.s.die(afterPrepare)
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

func (c suicidalCommitter) Recover(ctx context.Context, keep []sink.Handle, slots []sink.Slot) error {
	c.s.die(beforeRecover)
	if err := c.Committer.Recover(ctx, keep, nil); err != nil {
		return err
	}
	c.s.die(midRecover)
	err := c.Committer.Recover(ctx, keep, slots)
	c.s.die(afterRecover)
	return err
}

// killChild is the child process: generated numbers into a table, exactly once.
func killChild(url, dir, at string, par int, n int64) error {
	var left atomic.Int64
	left.Store(n)
	rate := 4_000.0 // slow enough that there is input left in the epoch in which it dies, on a busy machine too
	if at == never {
		rate = 40_000
	}
	p := engine.New(engine.Config{Name: "kill", Dir: dir, Parallelism: par, CheckpointEvery: 10 * time.Millisecond})
	s := engine.From(p, "numbers", gen.Source[int64]{
		Make: func(seq int64) int64 { return seq }, Count: killRecords, PerSecond: rate, Splits: 4,
	})
	engine.ToTx(s, "out", suicidal{postgres.TxSink[int64]{
		URL: url, Table: "numbers", Columns: []string{"n"}, Row: func(v int64) ([]any, error) { return []any{v}, nil },
	}, at, &left})
	return p.Run(context.Background())
}

func TestMain(m *testing.M) {
	if url := os.Getenv("WEIRLINE_KILL_URL"); url != "" {
		par, _ := strconv.Atoi(os.Getenv("WEIRLINE_KILL_PARALLELISM"))
		n, _ := strconv.ParseInt(os.Getenv("WEIRLINE_KILL_N"), 10, 64)
		if err := killChild(url, os.Getenv("WEIRLINE_KILL_DIR"), os.Getenv("WEIRLINE_KILL_AT"), par, n); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(testsvc.Main(m))
}

// TestKilledAtEachStepOfTheCommit runs a job in child processes that die hard at each step of the protocol, restarts it at
// another parallelism each time, and counts: every number is in the table once, and nothing is left prepared.
func TestKilledAtEachStepOfTheCommit(t *testing.T) {
	pg := testsvc.NewPostgres(t, testsvc.PostgresOptions{})
	// No unique index: it would hide what comes twice.
	if err := pg.Exec(t.Context(), "create table numbers (n int8 not null)"); err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 3))
	dir := t.TempDir()
	steps := []string{
		beforePrepare, afterPrepare, afterPointer, midCommit, beforeRecorded,
		// A recovery that dies has work to do: each of these comes after a death with transactions prepared.
		afterPrepare, beforeRecover, afterPointer, midRecover, midCommit, afterRecover, beforeRecorded,
	}
	for _, at := range steps {
		n := 1 + rnd.Int64N(4)
		if at == beforeRecover || at == midRecover || at == afterRecover {
			n = 1
		}
		if err := runKillChild(t, pg.URL, dir, at, 2+rnd.IntN(3), n); !killed(err) {
			t.Fatalf("%s: the child should have been killed, it ended with %v", at, err)
		}
		t.Logf("%-19s %v", at, tally(t, pg))
	}
	if err := runKillChild(t, pg.URL, dir, never, 3, 0); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%d\t%d\t0\t%d\t0", killRecords, killRecords, killRecords-1)
	if got := tally(t, pg); got != want {
		t.Errorf("rows, different ones, lowest, highest, prepared transactions: got %q, want %q", got, want)
	}
}

// TestServerDiesWhileTheJobRuns kills the server under a running job, which restarts its tasks until the server is back.
func TestServerDiesWhileTheJobRuns(t *testing.T) {
	pg := testsvc.NewPostgres(t, testsvc.PostgresOptions{})
	if err := pg.Exec(t.Context(), "create table numbers (n int8 not null)"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- killChild(pg.URL, t.TempDir(), never, 3, 0) }()
	for rows := range 3 {
		waitForRows(t, pg, 1+rows*killRecords/5)
		pg.Kill()
		if err := pg.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%d\t%d\t0\t%d\t0", killRecords, killRecords, killRecords-1)
	if got := tally(t, pg); got != want {
		t.Errorf("rows, different ones, lowest, highest, prepared transactions: got %q, want %q", got, want)
	}
}

func waitForRows(t *testing.T, pg *testsvc.PostgresServer, n int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		got, err := pg.Query(t.Context(), fmt.Sprintf("select count(*) >= %d from numbers", n))
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("wait for %d rows: %q, %v", n, got, err)
		}
		if got[0] == "t" {
			return
		}
	}
}

func tally(t *testing.T, pg *testsvc.PostgresServer) string {
	t.Helper()
	got, err := pg.Query(t.Context(), "select count(*), count(distinct n), min(n), max(n), (select count(*) from pg_prepared_xacts) from numbers")
	if err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	return got[0]
}

func runKillChild(t *testing.T, url, dir, at string, par int, n int64) error {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "WEIRLINE_KILL_URL="+url, "WEIRLINE_KILL_DIR="+dir, "WEIRLINE_KILL_AT="+at,
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
	return ok && e.String() == "signal: killed"
}
