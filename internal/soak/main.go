// Command soak runs many seeds of the simulation in processes of their own, one for each processor and each on one
// processor, and goes on when one dies.
//
//	go run ./internal/soak -seeds 10000 // last line: soak: 10000 seeds hold
//
// It prints each seed that fails with the command that replays it, and exits with 1 if there are any.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

func main() {
	seeds := flag.Uint64("seeds", 10000, "how many seeds")
	from := flag.Uint64("from", 1, "the first of them")
	procs := flag.Int("procs", runtime.NumCPU(), "how many processes at once")
	flag.Parse()
	s := &soak{next: *from, end: *from + *seeds, began: time.Now()}
	if err := s.run(*procs); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
	if len(s.failed) > 0 {
		slices.Sort(s.failed)
		fmt.Printf("%d of %d seeds fail:\n", len(s.failed), *seeds)
		for _, seed := range s.failed {
			fmt.Println("  " + command(seed))
		}
		fmt.Printf("soak: %d of %d seeds fail\n", len(s.failed), *seeds)
		os.Exit(1)
	}
	fmt.Printf("soak: %d seeds hold\n", *seeds)
}

func command(seed uint64) string {
	return fmt.Sprintf("WEIRLINE_SEED=%d go test ./internal/sim -run TestSim", seed)
}

const (
	share    = 200             // seeds a process gets
	patience = 2 * time.Minute // for one seed, in real time
)

type soak struct {
	binary string
	dir    string
	began  time.Time

	mu     sync.Mutex
	next   uint64
	end    uint64
	done   uint64
	failed []uint64
}

// run builds the tests and keeps so many processes busy.
func (s *soak) run(procs int) error {
	dir, err := os.MkdirTemp("", "soak")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s.dir, s.binary = dir, filepath.Join(dir, "sim.test")
	build := exec.Command("go", "test", "-c", "-o", s.binary, "./internal/sim")
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build the simulation: %w", err)
	}
	var all sync.WaitGroup
	for i := range procs {
		all.Go(func() {
			for from, n := s.take(); n > 0; from, n = s.take() {
				s.some(i, from, n)
			}
		})
	}
	all.Wait()
	return nil
}

func (s *soak) take() (from, n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from, n = s.next, min(share, s.end-s.next)
	s.next += n
	return from, n
}

// some runs n seeds; a process that dies is followed by another for the rest.
func (s *soak) some(worker int, from, n uint64) {
	for end := from + n; from < end; {
		died := s.child(worker, from, end-from)
		if died < from {
			break
		}
		from = died + 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done += n
	fmt.Printf("%d seeds done, %d failed, after %v\n", s.done, len(s.failed), time.Since(s.began).Round(time.Second))
}

var failing = regexp.MustCompile(`seed (\d+): replay with`)

// child runs seeds in a process. It returns the seed the process died of, 0 if it ended by itself.
func (s *soak) child(worker int, from, n uint64) (died uint64) {
	progress := filepath.Join(s.dir, fmt.Sprint("progress", worker))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, s.binary, "-test.run", "^TestSim$", "-test.timeout", "0")
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "WEIRLINE_PROGRESS="+progress, fmt.Sprint("WEIRLINE_FROM=", from), fmt.Sprint("WEIRLINE_SEEDS=", n))
	cmd.Stdout, cmd.Stderr, cmd.Dir = &out, &out, s.dir
	_ = os.WriteFile(progress, []byte(fmt.Sprint(from)), 0o600)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Run() }()
	last, since := from, time.Now()
	for {
		select {
		case err := <-ended:
			if err == nil {
				return 0
			}
			return s.report(out.String(), seedIn(progress))
		case <-time.After(time.Second):
			if now := seedIn(progress); now != last {
				last, since = now, time.Now()
			} else if time.Since(since) > patience {
				cancel()
			}
		}
	}
}

// report notes the seeds a process failed at. Without any, it died of the last one.
func (s *soak) report(out string, last uint64) (died uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !strings.Contains(out, "--- FAIL: TestSim") {
		s.failed = append(s.failed, last)
		fmt.Printf("seed %d: the process died, or made no progress for %v\n\t%s\n%s\n", last, patience, command(last), clip(out, 6000))
		died = last
	}
	for _, m := range failing.FindAllStringSubmatch(out, -1) {
		if seed, err := strconv.ParseUint(m[1], 10, 64); err == nil {
			s.failed = append(s.failed, seed)
		}
	}
	if died == 0 {
		fmt.Println(clip(out, 6000))
	}
	return died
}

func clip(s string, n int) string { return s[:min(len(s), n)] }

func seedIn(name string) uint64 {
	b, _ := os.ReadFile(name)
	n, _ := strconv.ParseUint(string(b), 10, 64)
	return n
}
