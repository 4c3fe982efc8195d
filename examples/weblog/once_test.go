package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirline/weirline/engine"
)

const often = 100 * time.Millisecond

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestOnceEqualsTheTruth(t *testing.T) {
	for name, in := range inputs(t) {
		for _, parallelism := range []int{1, 2, 4} {
			t.Run(fmt.Sprintf("%s/%d", name, parallelism), func(t *testing.T) {
				r := newRun(t, in)
				r.finish(parallelism, often)
				r.logged(fmt.Sprintf("file_lines=%d topic_lines=%d", len(in.files), len(in.live)))

				if err := os.Remove(r.path("out.csv")); err != nil {
					t.Fatal(err)
				}
				r.finish(parallelism, often) // a finished run only writes the file again
				r.logged("nothing to run")
			})
		}
	}
}

func TestTwentyFiles(t *testing.T) {
	r := newRun(t, oneInput(t))
	spread(r, evenly(20))
	r.finish(2, often)
}

func TestEightSplitsOfOneFile(t *testing.T) {
	r := newRun(t, oneInput(t), "-splits", "8")
	r.finish(1, often)
}

// The time ranges of the files are unequal, so that clocks of splits differ widely when the parallelism changes.
func TestRescaleOverUnequalFiles(t *testing.T) {
	in := oneInput(t)
	r := newRun(t, in)
	spread(r, func(i int) string {
		return fmt.Sprintf("logs/%02d.log", min(15, i*i/(1+len(in.files)*len(in.files)/200)))
	})
	for _, parallelism := range []int{1, 4} {
		suspend(t, r, parallelism)
	}
	r.finish(1, often)
	r.logged("job resumes")
}

func TestEmptyPartitions(t *testing.T) {
	in := halves(madeUp(t, 600).files)
	in.live, in.want = in.live[:5], halves(append(in.files[:len(in.files):len(in.files)], in.live[:5]...)).want
	r := newRun(t, in, "-partitions", "9")
	r.finish(2, often)
	r.logged(`offsets="0:0-0 1:0-0 2:0-0 3:0-0 4:0-0"`)
}

func TestNothingInTheTopic(t *testing.T) {
	in := oneInput(t)
	r := newRun(t, input{files: in.files, want: halves(in.files).want})
	r.finish(2, often)
}

func TestNoPeriodicCheckpoints(t *testing.T) {
	r := newRun(t, oneInput(t))
	r.finish(2, -1)
}

func TestSuspendMidMinuteAndResume(t *testing.T) {
	r := newRun(t, oneInput(t))
	suspend(t, r, 2)
	suspend(t, r, 2)
	r.finish(2, often)
	r.logged("job resumes")
}

// suspend runs for three checkpoints, so to somewhere in mid-minute of the log, and then stops as Ctrl-C does.
func suspend(t *testing.T, r *run, parallelism int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r.watch = func(p *engine.Pipeline) {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for p.Status().Epochs.Completed < 3 && ctx.Err() == nil {
			<-tick.C
		}
		cancel()
	}
	err := r.start(ctx, parallelism, often, "-rate", "4000")
	r.watch = nil
	if err != nil {
		t.Fatalf("%v\n%s", err, r.log)
	}
	if !absent(r.path("out.csv")) {
		t.Fatalf("the run ended before it was suspended\n%s", r.log)
	}
	r.logged("how=suspended")
}

// spread deals the lines of the files to other files, by the line's number.
func spread(r *run, file func(i int) string) {
	r.t.Helper()
	if err := os.Remove(r.path("logs/a.log")); err != nil {
		r.t.Fatal(err)
	}
	lines := map[string][]string{}
	for i, l := range r.in.files {
		lines[file(i)] = append(lines[file(i)], l)
	}
	for name, ls := range lines {
		r.write(name, ls)
	}
}

func evenly(n int) func(int) string {
	return func(i int) string { return fmt.Sprintf("logs/%02d.log", i%n) }
}

func TestTopicMustBeThePrefix(t *testing.T) {
	r := newRun(t, oneInput(t))
	r.finish(1, often)
	r.write("live/b.log", append([]string{"another first line"}, r.in.live[1:]...))
	err := r.start(t.Context(), 1, often)
	if err == nil || !strings.Contains(err.Error(), "offset 0 of partition 0 isn't line 1") {
		t.Errorf("a changed line: %v", err)
	}
	r.write("live/b.log", r.in.live[:3])
	err = r.start(t.Context(), 1, often)
	if err == nil || !strings.Contains(err.Error(), "are to go there") {
		t.Errorf("a shorter sequence: %v", err)
	}
}

// A line of the day before, when today's minutes are over, is in no result, and the closing line tells.
func TestLateIsCounted(t *testing.T) {
	in := madeUp(t, 2000)
	in.live = append(in.live[:len(in.live):len(in.live)], `9.9.9.9 - - [27/Feb/2024:12:00:00 +0000] "GET /late HTTP/1.1" 200 1`)
	r := newRun(t, in, "-rate", "2500")
	if err := r.start(t.Context(), 2, often); err != nil {
		t.Fatalf("%v\n%s", err, r.log)
	}
	r.equal()
	r.logged("late=2") // the view of the page and that of all pages
}
