package engine_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// A job that only waits for its destination at the end of input isn't stuck, and says what it waits for.
func TestWatchdogKnowsTheEndOfInput(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		log := &logged{}
		p := engine.New(engine.Config{
			Name: "ending", Dir: t.TempDir(), Parallelism: 1, Watchdog: 10 * time.Second, CheckpointEvery: -1, Log: slog.New(slog.NewTextHandler(log, nil)),
		})
		steps, _ := steady(0, 20)
		var up atomic.Bool
		to := async.Sink[int]{Send: func(context.Context, []int) error {
			if !up.Load() {
				return errors.New("down")
			}
			return nil
		}}
		engine.To(engine.From(p, "in", &enginetest.Script[int]{Splits: map[string][]enginetest.Step[int]{"a": steps}}), "out", to)
		ended := make(chan error)
		go func() { ended <- p.Run(t.Context()) }()
		<-time.After(time.Minute)
		if lines := log.lines("nothing moves"); len(lines) > 0 {
			t.Errorf("logged %q", lines)
		}
		if s := p.Status().Tasks[0]; s.State != engine.StateRoom || s.WaitsFor != "room in sink out" {
			t.Errorf("the task is %s, %s", s.State, s.WaitsFor)
		}
		up.Store(true)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// earlySink is a sink whose writer fails in the background after half a minute, just before its task goes to sleep.
type earlySink struct{ enginetest.Collect[int] }

func (s *earlySink) Writer(context.Context, sink.Task) (sink.Writer[int], error) {
	return &earlyWriter{earlySink: s, begun: time.Now()}, nil
}

type earlyWriter struct {
	*earlySink
	begun time.Time
	wake  func()
	err   error
}

func (w *earlyWriter) OnRoom(wake func()) {
	w.wake = wake
	time.AfterFunc(30*time.Second, wake) // once for nothing
}

func (w *earlyWriter) Err() error { return w.err }

func (w *earlyWriter) Room() bool {
	if w.err == nil && time.Since(w.begun) >= 30*time.Second {
		w.err = errors.New("planted")
		w.wake()
	}
	return true
}

func TestAnErrorBetweenTwoStepsIsSeen(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := engine.New(engine.Config{Name: "early", Dir: t.TempDir(), Parallelism: 1, CheckpointEvery: -1, Restart: engine.Restart{Attempts: -1}})
		steps := []enginetest.Step[int]{enginetest.Rec(0), enginetest.Stay[int]()}
		engine.To(engine.From(p, "in", &enginetest.Script[int]{Splits: map[string][]enginetest.Step[int]{"a": steps}}), "out", &earlySink{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		begun := time.Now()
		err := p.Run(ctx)
		if took := time.Since(begun); err == nil || !strings.Contains(err.Error(), "planted") || took > time.Minute {
			t.Errorf("got %v after %v, want the writer's error at once", err, took)
		}
	})
}

// What a sink hasn't delivered isn't dropped when another kind of sink takes its name.
func TestUnsentRecordsNeedTheirSink(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		run := func(allow bool, to func(s engine.Stream[int])) error {
			p := engine.New(engine.Config{Name: "change", Dir: dir, Parallelism: 1, CheckpointEvery: -1, AllowDropped: allow})
			steps, _ := steady(0, 20)
			to(engine.From(p, "in", &enginetest.Script[int]{Splits: map[string][]enginetest.Step[int]{"a": append(steps, enginetest.Stay[int]())}}))
			time.AfterFunc(time.Second, func() { p.Stop(engine.Suspend) })
			return p.Run(t.Context())
		}
		down := async.Sink[int]{Send: func(context.Context, []int) error { return errors.New("down") }}
		if err := run(false, func(s engine.Stream[int]) { engine.To(s, "out", down) }); err != nil {
			t.Fatal(err)
		}
		var got enginetest.Collect[int]
		for name, to := range map[string]func(engine.Stream[int]){
			"a sink that stores nothing": func(s engine.Stream[int]) { engine.To(s, "out", &got) },
			"a two-phase sink":           func(s engine.Stream[int]) { engine.ToTx(s, "out", enginetest.NewTx[int]()) },
		} {
			if err := run(false, to); fault.CodeOf(err) != fault.DroppedState.ID || !strings.Contains(err.Error(), "out") {
				t.Errorf("%s: got %v, want %s", name, err, fault.DroppedState.ID)
			}
		}
		if err := run(true, func(s engine.Stream[int]) { engine.To(s, "out", &got) }); err != nil {
			t.Errorf("allowed: %v", err)
		}

		// Nothing is left behind of one that has delivered all.
		dir = t.TempDir()
		if err := run(false, func(s engine.Stream[int]) { engine.To(s, "out", async.Sink[int]{Send: got.Write}) }); err != nil {
			t.Fatal(err)
		}
		if err := run(false, func(s engine.Stream[int]) { engine.ToTx(s, "out", enginetest.NewTx[int]()) }); err != nil {
			t.Errorf("after all was delivered: %v", err)
		}
	})
}
