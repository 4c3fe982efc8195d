package engine_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/sink"
)

// logged is a log that can be read while it is written.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) lines(part string) (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		if strings.Contains(line, part) {
			out = append(out, line)
		}
	}
	return out
}

// fullSink is a sink whose writer never has room.
type fullSink struct{ enginetest.Collect[int] }

func (s *fullSink) Writer(context.Context, sink.Task) (sink.Writer[int], error) {
	return fullWriter{s}, nil
}

type fullWriter struct{ *fullSink }

func (fullWriter) OnRoom(func()) {}

func (fullWriter) Room() bool { return false }

func TestWatchdogNamesWhatIsStuck(t *testing.T) {
	count := func(n int) []enginetest.Step[int] {
		steps, _ := steady(0, n)
		return append(steps, enginetest.Stay[int]())
	}
	for _, c := range []struct {
		name  string
		limit time.Duration
		build func(s engine.Stream[int], free <-chan struct{})
		want  string // in the first line; "" = nothing is logged
		state map[string]string
	}{
		{"user code", 10 * time.Second, func(s engine.Stream[int], free <-chan struct{}) {
			engine.To(s.Rebalance().Filter("stuck", func(int) bool { <-free; return true }), "out", &enginetest.Collect[int]{})
		}, "operator stuck in task stuck/0 has been in one call for 1", map[string]string{"stuck/0": engine.StateWorking, "in/0": engine.StateRoom + ", room in stuck/0"}},
		{"user code, behind a full queue", 10 * time.Second, func(s engine.Stream[int], free <-chan struct{}) {
			s = s.Rebalance().Filter("quick", func(int) bool { return true }).Rebalance()
			engine.To(s.Filter("stuck", func(int) bool { <-free; return true }), "out", &enginetest.Collect[int]{})
		}, "operator stuck in task stuck/0", map[string]string{"stuck/0": engine.StateWorking, "quick/0": engine.StateRoom + ", room in stuck/0"}},
		{"off", -1, func(s engine.Stream[int], free <-chan struct{}) {
			engine.To(s.Filter("stuck", func(int) bool { <-free; return true }), "out", &enginetest.Collect[int]{})
		}, "", map[string]string{"in/0": engine.StateWorking}},
		{"a slow destination", 10 * time.Second, func(s engine.Stream[int], _ <-chan struct{}) {
			engine.To(s, "out", &fullSink{})
		}, "", map[string]string{"in/0": engine.StateRoom + ", room in sink out"}},
		{"no input", 10 * time.Second, func(s engine.Stream[int], _ <-chan struct{}) {
			engine.To(s, "out", &enginetest.Collect[int]{})
		}, "", map[string]string{"in/0": engine.StateInput}},
	} {
		bubble.Test(t, func(t *testing.T) {
			log := &logged{}
			p := engine.New(engine.Config{
				Name: "stuck", Dir: t.TempDir(), Parallelism: 1, CheckpointEvery: -1, Watchdog: c.limit, QueueBatches: 2, BatchSize: 1,
				Log: slog.New(slog.NewTextHandler(log, nil)),
			})
			free := make(chan struct{})
			c.build(engine.From(p, "in", &enginetest.Script[int]{Splits: map[string][]enginetest.Step[int]{"a": count(20)}}), free)
			ended := make(chan error)
			go func() { ended <- p.Run(t.Context()) }()
			<-time.After(time.Minute)
			got := map[string]string{}
			for _, s := range p.Status().Tasks {
				got[s.Name+"/0"] = strings.TrimSuffix(s.State+", "+s.WaitsFor, ", ")
				if s.Still < 50*time.Second {
					t.Errorf("%s: %s is still for %v", c.name, s.Name, s.Still)
				}
			}
			for task, want := range c.state {
				if got[task] != want {
					t.Errorf("%s: %s is %s, want %s", c.name, task, got[task], want)
				}
			}
			lines := log.lines("nothing moves")
			if c.want == "" && len(lines) > 0 || c.want != "" && (len(lines) != 1 || !strings.Contains(lines[0], c.want)) {
				t.Errorf("%s: logged %q", c.name, lines)
			}
			if n := len(log.lines("msg=position")); n != len(lines)*len(p.Status().Tasks) {
				t.Errorf("%s: %d positions", c.name, n)
			}
			close(free)
			p.Stop(engine.Suspend)
			if err := <-ended; err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		})
	}
}

// A source that is active and silent holds back another one of its group for ever: nobody is in a call, and there is input.
func TestWatchdogSeesThatNothingMoves(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		log := &logged{}
		p := engine.New(engine.Config{
			Name: "stuck", Dir: t.TempDir(), Parallelism: 1, Watchdog: 10 * time.Second, Log: slog.New(slog.NewTextHandler(log, nil)),
			CheckpointEvery: -1,
		})
		fast, _ := steady(0, 10_000)
		for name, steps := range map[string][]enginetest.Step[int]{"fast": fast, "silent": {enginetest.Rec(0), enginetest.Stay[int]()}} {
			s := engine.From(p, name, &enginetest.Script[int]{Splits: map[string][]enginetest.Step[int]{name: steps}})
			s = s.EventTime(func(n int) time.Time { return time.Unix(int64(n), 0) }, engine.Watermarks{Align: "both", MaxDrift: time.Minute})
			engine.To(s, "out-"+name, &enginetest.Collect[int]{})
		}
		ended := make(chan error)
		go func() { ended <- p.Run(t.Context()) }()
		<-time.After(time.Minute)
		if lines := log.lines("nothing moves"); len(lines) != 1 || !strings.Contains(lines[0], "there is input") {
			t.Errorf("logged %q", lines)
		}
		if lines := log.lines("task=fast/0 state"); len(lines) != 1 || !strings.Contains(lines[0], "alignment pauses 1 splits") {
			t.Errorf("logged %q", lines)
		}
		p.Stop(engine.Suspend)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
