//go:build unix

package blob_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/files"
	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/engine/store/blob"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
)

const jobRecords = 12_000

func init() { child = jobChild }

// jobChild is the process under test: numbers into files, exactly once, checkpoints in the object store.
func jobChild(location, out string) int {
	p := engine.New(engine.Config{
		Name: "numbers", Store: blob.At(location), Parallelism: 2, CheckpointEvery: 30 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	s := engine.From(p, "in", gen.Source[int64]{Make: func(n int64) int64 { return n }, Count: jobRecords, PerSecond: 5_000, Splits: 4})
	engine.ToTx(s, "out", files.TxSink[int64]{Dir: out})
	if err := p.Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// process is a running child.
type process struct {
	*exec.Cmd
	stderr bytes.Buffer
}

func startJob(t *testing.T, location, out string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(os.Args[0])}
	p.Env = append(os.Environ(), "WEIRLINE_BLOB_JOB="+location, "WEIRLINE_BLOB_OUT="+out)
	p.Stderr = &p.stderr
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Process.Kill() // it may have ended
		_ = p.Wait()
	})
	return p
}

// epochsAt waits until the job has completed an epoch after some number, and returns the newest one's.
func epochsAt(t *testing.T, location string, after uint64) uint64 {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		s, err := blob.Open(location, store.Options{ReadOnly: true})
		if fault.CodeOf(err) == fault.NoCheckpoint.ID || fault.CodeOf(err) == fault.DamagedEpoch.ID { // deleted while it was read
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		list := s.Records()
		_ = s.Close()
		if n := len(list); n > 0 && list[n-1].Epoch > after {
			return list[n-1].Epoch
		}
	}
	return 0
}

// wantNumbers compares what is visible in the output with what a run without any trouble writes.
func wantNumbers(t *testing.T, out string) {
	t.Helper()
	entries, err := os.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(out, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.FieldsSeq(string(data)) {
			n, err := strconv.Atoi(line)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, n)
		}
	}
	slices.Sort(got)
	for i, n := range got {
		if i != n {
			t.Fatalf("number %d of the sorted output is %d: something is lost or twice", i, n)
		}
	}
	if len(got) != jobRecords {
		t.Fatalf("%d numbers, want %d", len(got), jobRecords)
	}
}

// TestZombie pauses a job in the middle, lets another process take over and finish, and wakes it again.
func TestZombie(t *testing.T) {
	s3 := testsvc.S3(t)
	at, out := s3.Location(prefix()), t.TempDir()
	a := startJob(t, at, out)
	seen := epochsAt(t, at, epochsAt(t, at, 0))
	if err := a.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	b := startJob(t, at, out)
	if err := b.Wait(); err != nil {
		t.Fatalf("the one that took over: %v\n%s", err, &b.stderr)
	}
	warned := fmt.Sprintf("pid=%d", a.Process.Pid)
	if s := b.stderr.String(); !strings.Contains(s, "took over a claim") || !strings.Contains(s, warned) {
		t.Errorf("no warning about the older claim: %s", s)
	}
	wantNumbers(t, out)
	last := epochsAt(t, at, seen)
	if err := a.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := a.Wait(); err == nil || !strings.Contains(a.stderr.String(), fault.Fenced.ID) || !strings.Contains(a.stderr.String(), fmt.Sprint("process ", b.Process.Pid)) {
		t.Errorf("the older process ended with %v: %s", err, &a.stderr)
	}
	wantNumbers(t, out)
	if got := epochsAt(t, at, 0); got != last {
		t.Errorf("newest epoch is %d, was %d before the older process woke up", got, last)
	}
}

// TestJobSurvives kills the job's process, or the server, or pauses the server, again and again; what comes out is exact.
func TestJobSurvives(t *testing.T) {
	for name, hit := range map[string]func(t *testing.T, s3 *testsvc.S3Server, p *process, r *rand.Rand){
		"process killed": func(t *testing.T, _ *testsvc.S3Server, p *process, _ *rand.Rand) {
			if err := p.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = p.Wait()
		},
		"server killed": func(t *testing.T, s3 *testsvc.S3Server, _ *process, _ *rand.Rand) {
			s3.Kill()
			if err := s3.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
		"both killed": func(t *testing.T, s3 *testsvc.S3Server, p *process, _ *rand.Rand) {
			s3.Kill()
			if err := p.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = p.Wait()
			if err := s3.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
		"server paused": func(t *testing.T, s3 *testsvc.S3Server, _ *process, r *rand.Rand) {
			if err := s3.Pause(); err != nil {
				t.Fatal(err)
			}
			<-time.After(time.Duration(300+r.IntN(500)) * time.Millisecond)
			if err := s3.Resume(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			r := rand.New(rand.NewPCG(seed, 1))
			s3 := testsvc.NewS3(t)
			at, out := s3.Location("job")+"&timeout=500ms", t.TempDir()
			p := startJob(t, at, out)
			seen := uint64(0)
			for range 3 {
				seen = epochsAt(t, at, seen)
				<-time.After(time.Duration(r.IntN(40)) * time.Millisecond)
				hit(t, s3, p, r)
				if p.ProcessState != nil {
					p = startJob(t, at, out)
				}
			}
			if err := p.Wait(); err != nil {
				t.Fatalf("%v\n%s", err, &p.stderr)
			}
			wantNumbers(t, out)
		})
	}
}
