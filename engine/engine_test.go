package engine_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/state"
)

type event struct {
	Key, Value int64
	At         time.Time
}

var epoch0 = time.UnixMilli(1_700_000_000_000).UTC()

func makeEvent(seq int64) event {
	h := uint64(seq) * 0x9E3779B97F4A7C15
	return event{Key: int64(h >> 40 % 97), Value: seq, At: epoch0.Add(time.Duration(seq)*time.Millisecond - time.Duration(h>>50%200)*time.Millisecond)}
}

type keyCount struct {
	Key, Start, Count, Sum int64
}

func windowed(cfg engine.Config, n int64, out *enginetest.Collect[keyCount]) *engine.Pipeline {
	p := engine.New(cfg)
	s := engine.From(p, "numbers", gen.Source[event]{Make: makeEvent, Count: n, Splits: 4})
	timed := s.EventTime(func(e event) time.Time { return e.At }, engine.Watermarks{Delay: 200 * time.Millisecond})
	type acc struct{ N, Sum int64 }
	res := engine.Aggregate(engine.Window(engine.KeyBy(timed, func(e event) int64 { return e.Key }), "count", engine.Tumbling{Size: time.Second}),
		func(a *acc, e event) { a.N++; a.Sum += e.Value },
		func(k int64, sp engine.Span, a *acc) keyCount { return keyCount{k, sp.Start.UnixMilli(), a.N, a.Sum} })
	engine.To(res, "out", out)
	return p
}

func wantWindows(n int64) map[[2]int64][2]int64 {
	want := map[[2]int64][2]int64{}
	for seq := range n {
		e := makeEvent(seq)
		k := [2]int64{e.Key, e.At.Truncate(time.Second).UnixMilli()}
		w := want[k]
		want[k] = [2]int64{w[0] + 1, w[1] + e.Value}
	}
	return want
}

func checkWindows(t *testing.T, got []keyCount, n int64) {
	t.Helper()
	have := map[[2]int64][2]int64{}
	for _, g := range got {
		k := [2]int64{g.Key, g.Start}
		if old, twice := have[k]; twice {
			t.Errorf("window %v was emitted twice: %v and %v", k, old, g)
		}
		have[k] = [2]int64{g.Count, g.Sum}
	}
	if want := wantWindows(n); !maps.Equal(have, want) {
		t.Errorf("got %d windows, want %d, or other contents", len(have), len(want))
	}
}

func TestWindowsAtAnyParallelism(t *testing.T) {
	for _, par := range []int{1, 2, 4} {
		t.Run(fmt.Sprint(par), func(t *testing.T) {
			const n = 50_000
			var out enginetest.Collect[keyCount]
			cfg := engine.Config{Name: "windows", Dir: t.TempDir(), Parallelism: par, CheckpointEvery: 5 * time.Millisecond}
			if err := windowed(cfg, n, &out).Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			checkWindows(t, out.Rows(), n)
		})
	}
}

// sum keeps a running sum of each key.
type sum struct{ total state.Value[int64] }

func (s *sum) Open(b *engine.Setup[int64]) error {
	s.total = state.NewValue[int64](b, "total")
	return nil
}

func (s *sum) Process(_ *engine.Ctx[int64], e event, out *engine.Out[keyCount]) error {
	p := s.total.Ref()
	*p += e.Value
	out.Emit(keyCount{Key: e.Key, Sum: *p})
	return nil
}

func TestRunningSum(t *testing.T) {
	const n = 20_000
	var out enginetest.Collect[keyCount]
	p := engine.New(engine.Config{Name: "sums", Parallelism: 2})
	s := engine.From(p, "numbers", gen.Source[event]{Make: makeEvent, Count: n})
	engine.To(engine.Process(engine.KeyBy(s, func(e event) int64 { return e.Key }), "sum", func() *sum { return &sum{} }), "out", &out)
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	last, want := map[int64]int64{}, map[int64]int64{}
	for _, r := range out.Rows() {
		last[r.Key] = max(last[r.Key], r.Sum)
	}
	for seq := range int64(n) {
		want[makeEvent(seq).Key] += seq
	}
	if !maps.Equal(last, want) {
		t.Errorf("sums differ: %d keys, want %d", len(last), len(want))
	}
	if len(out.Rows()) != n {
		t.Errorf("%d outputs, want %d", len(out.Rows()), n)
	}
}
