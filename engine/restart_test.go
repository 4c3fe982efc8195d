package engine_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/sink"
)

// failing runs a job whose n-th attempt panics after the n-th of these times, and which ends well after the last. It returns the
// status and when each failure came, in seconds after the start.
func failing(t *testing.T, r engine.Restart, every time.Duration, after ...time.Duration) (st engine.Status, at []float64, err error) {
	began := time.Now()
	in := &enginetest.Script[int]{Splits: map[string][]enginetest.Step[int]{"a": {enginetest.Rec(1)}}}
	p := engine.New(engine.Config{Name: "failing", Dir: t.TempDir(), Parallelism: 1, CheckpointEvery: every, Restart: r})
	tries := 0
	engine.To(engine.Map(engine.From(p, "in", in), "trip", func(n int) int {
		if tries < len(after) {
			tries++
			<-time.After(after[tries-1])
			panic("planted")
		}
		return n
	}), "out", &enginetest.Collect[int]{})
	err = p.Run(t.Context())
	st = p.Status()
	for _, f := range st.Failures {
		at = append(at, f.At.Sub(began).Seconds())
	}
	return st, at, err
}

func TestRestartStrategies(t *testing.T) {
	const s = time.Second
	times := func(d time.Duration, n int) []time.Duration {
		out := make([]time.Duration, n)
		for i := range out {
			out[i] = d
		}
		return out
	}
	for _, c := range []struct {
		name  string
		r     engine.Restart
		after []time.Duration
		at    []float64
		code  string
	}{
		{"fixed delay", engine.Restart{Attempts: 3, Delay: s, Factor: 1, Jitter: -1}, times(s, 3), []float64{1, 3, 5}, ""},
		{"fixed delay, spent", engine.Restart{Attempts: 3, Delay: s, Factor: 1, Jitter: -1}, times(s, 9), []float64{1, 3, 5, 7}, "WL1405"},
		{"growing", engine.Restart{Delay: s, MaxDelay: 4 * s, Jitter: -1}, times(0, 5), []float64{0, 1, 3, 7, 11}, ""},
		{"quiet", engine.Restart{Attempts: 2, Delay: s, Quiet: 30 * s, Jitter: -1}, []time.Duration{0, 0, 60 * s, 0, 60 * s}, []float64{0, 1, 63, 64, 126}, ""},
		{"quiet, spent", engine.Restart{Attempts: 2, Delay: s, Quiet: 90 * s, Jitter: -1}, []time.Duration{0, 0, 60 * s, 0}, []float64{0, 1, 63}, "WL1405"},
		{"rate", engine.Restart{Attempts: 2, Delay: -1, Per: 10 * s}, times(6*s, 5), []float64{6, 12, 18, 24, 30}, ""},
		{"rate, spent", engine.Restart{Attempts: 2, Delay: -1, Per: 10 * s}, times(4*s, 5), []float64{4, 8, 12}, "WL1405"},
		{"none", engine.Restart{Attempts: -1}, times(s, 1), []float64{1}, "WL1401"},
	} {
		bubble.Test(t, func(t *testing.T) {
			st, at, err := failing(t, c.r, -1, c.after...)
			if codeOf(err) != c.code {
				t.Errorf("%s: got %v", c.name, err)
			}
			if len(at) != len(c.at) {
				t.Fatalf("%s: failures at %v, want %v", c.name, at, c.at)
			}
			for i := range at {
				if d := at[i] - c.at[i]; d < 0 || d > 0.1 {
					t.Errorf("%s: failures at %v, want %v", c.name, at, c.at)
					break
				}
			}
			if want := int64(len(at)); st.Restarts != want && c.code == "" {
				t.Errorf("%s: %d restarts, want %d", c.name, st.Restarts, want)
			}
		})
	}
}

func TestJitterSpreadsRestarts(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		_, at, err := failing(t, engine.Restart{Delay: 10 * time.Second, Factor: 1, Jitter: 0.5}, -1, make([]time.Duration, 8)...)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[int]bool{}
		for i := 1; i < len(at); i++ {
			gap := at[i] - at[i-1]
			if gap < 10 || gap > 15.1 {
				t.Errorf("a pause of %v s", gap)
			}
			seen[int(gap*1000)] = true
		}
		if len(seen) < 3 {
			t.Errorf("the pauses are all alike: %v", at)
		}
	})
}

func TestFailuresAreRemembered(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		began := time.Now()
		r := engine.Restart{Attempts: 20, Delay: time.Second, Factor: 1, Jitter: -1}
		st, _, err := failing(t, r, -1, make([]time.Duration, 21)...)
		if len(st.Failures) != 16 || st.Restarts != 20 {
			t.Fatalf("%d failures after %d restarts", len(st.Failures), st.Restarts)
		}
		f := st.Failures[0]
		if f.Task != "in/0" || f.Operator != "trip" || f.Region != "in" || f.Epoch != 0 || !strings.Contains(f.Error, "planted") {
			t.Errorf("got %+v", f)
		}
		if at := f.At.Sub(began).Round(100 * time.Millisecond); at != 5*time.Second || f.Down.Round(100*time.Millisecond) != time.Second {
			t.Errorf("the sixth failure came after %v, down for %v", at, f.Down)
		}
		if last := st.Failures[15]; last.Down != 0 {
			t.Errorf("the last failure is over after %v", last.Down)
		}
		if len(st.Regions) != 1 || st.Regions[0] != (engine.RegionStatus{Name: "in", Restarts: 20, LastFailure: st.Failures[15]}) {
			t.Errorf("regions %+v", st.Regions)
		}
		if n := strings.Count(err.Error(), "in/0: WL"); n != 15 {
			t.Errorf("the error names %d earlier failures: %v", n, err)
		}
	})
}

// patient is a sink whose transactions must live as long as the job says.
type patient struct {
	*enginetest.Tx[int]
	asked *sink.Times
}

func (s patient) Fits(t sink.Times) error {
	*s.asked = t
	return errors.New("too short")
}

// TestTimesOfAJob: a sink is told the times of the job, and may refuse it.
func TestTimesOfAJob(t *testing.T) {
	for _, c := range []struct {
		cfg  engine.Config
		want sink.Times
	}{
		{engine.Config{}, sink.Times{Interval: 10 * time.Second, Timeout: 10 * time.Minute, Restarts: 112_530 * time.Millisecond}},
		{
			engine.Config{
				CheckpointEvery: time.Second, BacklogEvery: time.Minute, CheckpointTimeout: time.Hour,
				Restart: engine.Restart{Attempts: 3, Delay: time.Second, MaxDelay: 3 * time.Second, Jitter: -1},
			},
			sink.Times{Interval: time.Minute, Timeout: time.Hour, Restarts: 6 * time.Second},
		},
		{engine.Config{CheckpointEvery: -1, Restart: engine.Restart{Attempts: -1}}, sink.Times{Timeout: 10 * time.Minute}},
	} {
		var got sink.Times
		c.cfg.Name, c.cfg.Dir = "patient", t.TempDir()
		p := engine.New(c.cfg)
		engine.ToTx(engine.From(p, "in", &enginetest.Script[int]{}), "out", patient{enginetest.NewTx[int](), &got})
		if err := p.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "too short") {
			t.Errorf("got %v", err)
		}
		if got.Restarts = got.Restarts.Round(time.Millisecond); got != c.want {
			t.Errorf("got %+v, want %+v", got, c.want)
		}
	}
}
