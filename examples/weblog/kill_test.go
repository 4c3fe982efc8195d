package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirline/weirline/internal/testsvc"
)

// kills says how often processes are killed in a test; WEIRLINE_SOAK=1 asks for more.
func kills() int {
	if os.Getenv("WEIRLINE_SOAK") == "1" {
		return 20
	}
	return 6
}

func TestKilledEmbedded(t *testing.T) { killed(t, newRun(t, oneInput(t))) }

func TestKilledWithRealServices(t *testing.T) {
	name := fmt.Sprintf("weblog-kill-%d", time.Now().UnixNano())
	killed(t, newRun(t, oneInput(t), realServices(t, name, 3)...))
}

func TestOnceWithRealServices(t *testing.T) {
	for name, in := range inputs(t) {
		for _, parallelism := range []int{1, 2, 4} {
			t.Run(fmt.Sprintf("%s/%d", name, parallelism), func(t *testing.T) {
				r := newRun(t, in, realServices(t, fmt.Sprintf("weblog-%s-%d", name, parallelism), 3)...)
				r.finish(parallelism, often)
			})
		}
	}
}

// realServices makes a topic on the shared broker, and gives the flags for it.
func realServices(t *testing.T, name string, partitions int) []string {
	t.Helper()
	k, r := testsvc.Kafka(t), testsvc.Redis(t)
	if err := k.CreateTopic(t.Context(), name, partitions); err != nil {
		t.Fatal(err)
	}
	return []string{"-kafka", k.Addr, "-topic", name, "-redis", r.Addr, "-prefix", name + ":"}
}

// killed kills real processes until it has done so often enough, and then lets one finish. Each lasts as long as chance
// says, and every second one has another parallelism.
func killed(t *testing.T, r *run) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("WEBLOG_TEST_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("seed %d; repeat with WEBLOG_TEST_SEED=%d", seed, seed)
	rnd := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // repeatable on purpose
	lines := len(r.in.files) + len(r.in.live)
	rate := strconv.Itoa(lines / 6) // a run without kills lasts 6 s
	parallelism, restored, done := 2, 0, 0
	for done < kills() {
		if done%2 == 1 {
			parallelism = 1 + rnd.IntN(4)
		}
		pause := time.Duration(float64(6*time.Second)/float64(kills()+1)*(0.5+rnd.Float64())) + 150*time.Millisecond
		ended, log := r.child(os.Kill, pause, parallelism, rate)
		if epoch := resumed(log); epoch > 0 {
			restored++
		}
		if ended {
			break
		}
		done++
	}
	if restored < done-2 {
		t.Errorf("of %d restarts %d had an epoch to go on from", done-1, restored)
	}
	ended, log := r.child(os.Kill, time.Minute, 1+rnd.IntN(4), "0")
	if !ended {
		t.Fatalf("the last run doesn't end:\n%s", log)
	}
	r.equal()
	if !strings.Contains(log, "late=0") {
		t.Errorf("late records:\n%s", log)
	}
	t.Logf("%d kills, %d restarts restored an epoch; %s", done, restored, last(log))
}

// The binary itself: SIGTERM suspends, the same command goes on, and when all is done it writes the file again.
func TestSignalSuspends(t *testing.T) {
	r := newRun(t, oneInput(t))
	ended, log := r.child(syscall.SIGTERM, 700*time.Millisecond, 2, "3000")
	if !ended || !strings.Contains(log, "suspended; run again to go on") || !absent(r.path("out.csv")) {
		t.Errorf("a signal doesn't suspend:\n%s", log)
	}
	for _, want := range []string{"job resumes", "nothing to run"} {
		ended, log = r.child(os.Kill, time.Minute, 3, "0")
		if !ended || !strings.Contains(log, want) {
			t.Errorf("the log doesn't say %q:\n%s", want, log)
		}
		r.equal()
		if err := os.Remove(r.path("out.csv")); err != nil {
			t.Fatal(err)
		}
	}
}

// child runs a process of its own and sends it a signal after pause; ended says that it came to its end by itself.
func (r *run) child(sig os.Signal, pause time.Duration, parallelism int, rate string) (ended bool, log string) {
	r.t.Helper()
	var out bytes.Buffer
	c := exec.CommandContext(r.t.Context(), os.Args[0],
		r.args("-parallelism", strconv.Itoa(parallelism), "-checkpoint", "100ms", "-rate", rate)...)
	c.Env = append(os.Environ(), childEnv+"=1")
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		r.t.Fatal(err)
	}
	kill := time.AfterFunc(pause, func() { c.Process.Signal(sig) }) //nolint:errcheck // it may have ended
	err := c.Wait()
	kill.Stop()
	if err != nil && c.ProcessState.Exited() {
		r.t.Fatalf("the process failed: %v\n%s", err, &out)
	}
	return err == nil, out.String()
}

var resumes = regexp.MustCompile(`job resumes.* epoch=(\d+)`)

// resumed is the epoch a log says the run began from; 0 = none.
func resumed(log string) int {
	m := resumes.FindStringSubmatch(log)
	if m == nil {
		return 0
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return 0
	}
	return n
}

func last(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	return lines[len(lines)-1]
}
