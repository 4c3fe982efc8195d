package docs

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/state"
)

// Beat is a sign of life.
type Beat struct {
	Device string
	Load   float64
}

// Silence is a device that was last heard of a minute ago.
type Silence struct {
	Device string
	Peak   float64
}

// Watcher reports devices that fall silent.
type Watcher struct {
	due  state.Value[int64] // when to report, in microseconds
	peak state.Reducing[float64]
}

// Open declares what is kept of each device.
func (w *Watcher) Open(s *engine.Setup[string]) error {
	w.due = state.NewValue[int64](s, "due")
	w.peak = state.NewReducing(s, "peak", func(acc *float64, load float64) { *acc = max(*acc, load) }, state.TTL{After: 24 * time.Hour})
	if epoch, ok := s.Restored(); ok {
		s.Log.Info("watching on", "epoch", epoch)
	}
	return nil
}

// Process puts the report off.
func (w *Watcher) Process(ctx *engine.Ctx[string], b Beat, _ *engine.Out[Silence]) error {
	w.peak.Add(b.Load)
	if was, ok := w.due.Get(); ok {
		ctx.CancelProcessing(time.UnixMicro(was))
	}
	at := time.Now().Add(time.Minute)
	w.due.Set(at.UnixMicro())
	ctx.AtProcessing(at)
	return nil
}

// OnProcessingTimer reports, and forgets the device.
func (w *Watcher) OnProcessingTimer(ctx *engine.Ctx[string], _ time.Time, out *engine.Out[Silence]) error {
	peak, _ := w.peak.Get()
	out.Emit(Silence{ctx.Key(), peak})
	w.due.Clear()
	w.peak.Clear()
	return nil
}

func TestWatcher(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		in := &enginetest.Script[Beat]{Splits: map[string][]enginetest.Step[Beat]{"a": {
			enginetest.Rec(Beat{"a", 1}), enginetest.Rec(Beat{"b", 5}), enginetest.Wait[Beat](40 * time.Second),
			enginetest.Rec(Beat{"b", 2}), enginetest.Stay[Beat](),
		}}}
		out := enginetest.NewTx[Silence]()
		cfg := engine.Config{Name: "watch", Dir: t.TempDir(), Parallelism: 2}
		want := []Silence{{"a", 1}, {"b", 5}}
		for i, d := range []time.Duration{70 * time.Second, time.Minute} {
			p := engine.New(cfg)
			beats := engine.KeyBy(engine.From(p, "beats", in), func(b Beat) string { return b.Device })
			engine.ToTx(engine.Process(beats, "watch", func() *Watcher { return &Watcher{} }), "out", out)
			ctx, cancel := context.WithTimeout(t.Context(), d)
			if err := p.Run(ctx); err != nil {
				t.Fatal(err)
			}
			cancel()
			if got := out.Rows(); !slices.Equal(got, want[:i+1]) {
				t.Errorf("run %d: %v, want %v", i+1, got, want[:i+1])
			}
		}
	})
}
