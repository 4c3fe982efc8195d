package engine_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/sink"
)

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
