package objects_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/connector/objects"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/txn/txntest"
)

const killRecords = 40_000

// numbers is the job: generated numbers into objects, in two folders, exactly once.
func numbers(c *txntest.Child) error {
	rate := 1_000.0 // slow enough that there is input left in the epoch in which it dies, on a busy machine too
	if c.Step == "" {
		rate = 20_000
	}
	p := engine.New(engine.Config{
		Name: "kill", Dir: c.Args["dir"], Store: c.Store(c.Args["dir"]), Parallelism: c.Parallelism, CheckpointEvery: 50 * time.Millisecond,
	})
	s := engine.From(p, "numbers", gen.Source[int64]{
		Make: func(seq int64) int64 { return seq }, Count: killRecords, PerSecond: rate, Splits: 4,
	})
	engine.ToTx(s, "out", txntest.Wrap(c, sinkOf(c.Args["addr"])))
	return p.Run(context.Background())
}

func sinkOf(addr string) objects.TxSink[int64] {
	return objects.TxSink[int64]{
		Bucket: testsvc.S3Bucket, Prefix: "kill", Endpoint: "http://" + addr,
		AccessKey: testsvc.S3AccessKey, SecretKey: testsvc.S3SecretKey,
		Folder: func(dst []byte, v int64) []byte { return strconv.AppendInt(append(dst, "odd="...), v&1, 10) },
	}
}

func TestMain(m *testing.M) {
	txntest.Main(numbers)
	os.Exit(testsvc.Main(m))
}

// TestKilledAtEachStep counts after each death: no number is visible twice, and at the end each is, and no upload is left.
func TestKilledAtEachStep(t *testing.T) {
	own := testsvc.NewS3(t)
	txntest.Kills{
		Args:  map[string]string{"dir": t.TempDir(), "addr": own.Addr},
		Check: func(over bool) error { return tally(own, over) },
	}.Run(t)
}

// TestServerDiesWhileTheJobRuns kills the server under a running job, which goes on or restarts its tasks until the server is back.
func TestServerDiesWhileTheJobRuns(t *testing.T) {
	own := testsvc.NewS3(t)
	args := map[string]string{"dir": t.TempDir(), "addr": own.Addr}
	done := make(chan error, 1)
	go func() { done <- numbers(&txntest.Child{Args: args, Parallelism: 3}) }()
	for n := range 3 {
		waitForNumbers(t, own, 1+n*killRecords/5, done)
		own.Kill()
		if err := own.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := tally(own, true); err != nil {
		t.Error(err)
	}
}

// waitForNumbers returns when so many are visible. It fails if the job ends before.
func waitForNumbers(t *testing.T, own *testsvc.S3Server, n int, job chan error) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		seen, err := read(own)
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("wait for %d numbers: %d, %v", n, len(seen), err)
		}
		if len(seen) >= n {
			return
		}
		select {
		case err := <-job:
			t.Fatalf("the job ended before it wrote %d numbers: %v", n, err)
		default:
		}
	}
}

// read returns the numbers that are visible. An object must be in the folder its numbers belong to.
func read(own *testsvc.S3Server) (map[string]bool, error) {
	all, err := own.Objects(context.Background(), "kill/")
	seen := map[string]bool{}
	for key, text := range all {
		for line := range strings.Lines(text) {
			n, cerr := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
			if cerr != nil || !strings.HasPrefix(key, fmt.Sprintf("kill/odd=%d/", n&1)) {
				err = errors.Join(err, fmt.Errorf("object %s has line %q", key, line))
			}
			if seen[line] {
				err = errors.Join(err, fmt.Errorf("number %q is visible twice", line))
			}
			seen[line] = true
		}
	}
	return seen, err
}

func tally(own *testsvc.S3Server, over bool) error {
	seen, err := read(own)
	if err != nil || !over {
		return err
	}
	left, err := own.Uploads(context.Background(), "kill/")
	if err != nil || len(left) > 0 {
		return fmt.Errorf("left behind: %q, %w", left, err)
	}
	if len(seen) != killRecords {
		return fmt.Errorf("%d numbers are visible, want %d", len(seen), killRecords)
	}
	return nil
}
