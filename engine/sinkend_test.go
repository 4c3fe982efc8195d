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
