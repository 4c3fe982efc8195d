package prom

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/goleak"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/internal/meter"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var rewrite = flag.Bool("rewrite", false, "write docs/metrics.md and golden files anew")

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; write it anew with: go test ./engine/prom -rewrite. Got:\n%s", file, got)
	}
}

// page is docs/metrics.md.
func page() string {
	var b strings.Builder
	b.WriteString("# Metrics\n\n" +
		"<!-- Generated from engine/prom/families.go: go test ./engine/prom -rewrite -->\n\n" +
		"A binary that serves `prom.Handler` has these on `/metrics`, beside the Go runtime's and the process's. Times are in\n" +
		"seconds and sizes in bytes. `operator` is an operator's name, or that of the first one in a task where the value is the\n" +
		"whole task's; `task` is the number of the task. Values of tasks begin at zero again when the job restarts.\n" +
		"Those about checkpoints are absent in a job without a state directory.\n\n" +
		"| Name | Type | Labels | Meaning |\n| --- | --- | --- | --- |\n")
	for _, f := range families {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.name, f.kind, strings.Join(f.labels, ", "), f.help)
	}
	fmt.Fprintf(&b, "| `%s<name>_total` | %s | %s | What a connector counts under that name. |\n", connectorPrefix, counterKind, strings.Join(opLabels, ", "))
	fmt.Fprintf(&b, "| `%s<name>` | %s | %s | A current value of a connector. |\n", connectorPrefix, gaugeKind, strings.Join(opLabels, ", "))
	fmt.Fprintf(&b, "| `%s<name>` | %s | %s | How a connector's values are spread, in buckets of seconds from 0.001 to 60. |\n", connectorPrefix, histogramKind, strings.Join(opLabels, ", "))
	fmt.Fprintf(&b, "\nConnectors' names are listed in their own pages. `task` is `%s` where a source's enumerator or a sink's committer\ncounts.\n", coordinator)
	return b.String()
}

func TestMetricsPage(t *testing.T) {
	golden(t, filepath.Join("..", "..", "docs", "metrics.md"), page())
}

func TestNamesAreInBaseUnits(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range families {
		switch {
		case !regexp.MustCompile(`^weirline(_[a-z]+)+$`).MatchString(f.name), seen[f.name]:
			t.Errorf("%s: not a name of its own under weirline_", f.name)
		case strings.HasSuffix(f.name, "_total") != (f.kind == counterKind):
			t.Errorf("%s: counters, and only they, end in _total", f.name)
		case regexp.MustCompile(`milli|micro|nano|minute|kilo|_ms|_kb`).MatchString(f.name):
			t.Errorf("%s: not a base unit", f.name)
		case f.labels[0] != "job", !strings.HasSuffix(f.help, "."):
			t.Errorf("%s: the first label is job, and the help is a sentence", f.name)
		}
		seen[f.name] = true
	}
}

// fixed is a status with something in every field.
func fixed() engine.Status {
	at := time.Unix(1_700_000_000, 0)
	return engine.Status{
		Job: "j", Phase: "running", Began: at, Restarts: 2, Rescales: 3, RescaleTook: 250 * time.Millisecond, Parallelism: 3, Stored: true, Uncommitted: 4,
		Regions: []engine.RegionStatus{
			{Name: "a", Restarts: 2, LastFailure: engine.Failure{At: at.Add(time.Second), Down: 50 * time.Millisecond}}, {Name: "c"},
		},
		Epochs: engine.EpochStatus{
			Completed: 3, Failed: 1, Last: 7, LastAt: at.Add(5 * time.Second), LastDuration: 300 * time.Millisecond,
			LastPause: 2 * time.Millisecond, LongestPause: 9 * time.Millisecond, LastBytes: 4096,
			Durations: []time.Duration{10 * time.Millisecond, 20 * time.Millisecond, 10 * time.Minute},
		},
		Tasks: []engine.TaskStatus{
			{
				Name: "a", Index: 0, Operators: []engine.OperatorStatus{{Name: "a", In: 10}, {Name: "b", In: 20, State: onDiskStats}}, Watermark: at, Poison: 1, Late: 2,
				Idle: 1500 * time.Millisecond, Blocked: 250 * time.Millisecond, LongestPause: time.Millisecond, Paused: 5, Lapsed: 6, Queued: 7,
			},
			{Name: "c", Index: 1, Operators: []engine.OperatorStatus{{Name: "c", In: 30}}},
		},
		Alignment: []engine.AlignStatus{{Group: "g", Drift: time.Minute, Lead: 30 * time.Second, Worst: 70 * time.Second}},
		Connectors: []engine.ConnectorMetric{
			{Operator: "a", Task: 0, Name: "fetch_errors", Value: 3, Counter: true},
			{Operator: "a", Task: 0, Name: "Fetch-Errors", Value: 4, Counter: true},
			{Operator: "a", Task: -1, Name: "fetch_errors_total", Value: 5},
			{Operator: "c", Task: 1, Name: "\xff\n{}", Value: 6},
			{Operator: "c", Task: 1, Name: "send_seconds", Value: 2.5, Distribution: &meter.Distribution{
				Buckets: [len(meter.Bounds) + 1]uint64{1: 2, 9: 1, 15: 1}, Count: 4,
			}},
		},
	}
}

func scrapeOf(t *testing.T, c prometheus.Collector) string {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	rec := httptest.NewRecorder()
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if rec.Code != http.StatusOK {
		t.Fatalf("%d: %s", rec.Code, rec.Body)
	}
	return rec.Body.String()
}

func fixedCollector(status func() engine.Status) *collector {
	c := NewCollector(engine.New(engine.Config{Name: "j"})).(*collector)
	c.status, c.now = status, func() time.Time { return time.Unix(1_700_000_020, 0) }
	return c
}

func TestScrapeGolden(t *testing.T) {
	text := scrapeOf(t, fixedCollector(fixed))
	golden(t, filepath.Join("testdata", "scrape.txt"), text)
	for _, f := range families {
		if !strings.Contains(text, "# TYPE "+f.name+" "+string(f.kind)+"\n") {
			t.Errorf("%s is documented and not served", f.name)
		}
	}
}

func TestNothingBeforeRun(t *testing.T) {
	if text := scrapeOf(t, NewCollector(engine.New(engine.Config{Name: "j"}))); text != "" {
		t.Errorf("before Run:\n%s", text)
	}
}

func TestCheckpointsAreAbsentWithoutState(t *testing.T) {
	text := scrapeOf(t, fixedCollector(func() engine.Status {
		return engine.Status{Job: "j", Phase: "running"}
	}))
	if strings.Contains(text, "weirline_checkpoint") || !strings.Contains(text, `weirline_job_phase{job="j",phase="running"} 1`) {
		t.Errorf("got:\n%s", text)
	}
}

func TestHistogramAddsWhatIsNew(t *testing.T) {
	var h histogram
	for _, step := range []struct {
		completed int64
		newest    []time.Duration
		n         uint64
		sum       float64
	}{
		{0, nil, 0, 0},
		{2, []time.Duration{time.Second, 2 * time.Second}, 2, 3},
		{2, []time.Duration{time.Second, 2 * time.Second}, 2, 3},
		{3, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}, 3, 7},
		{9, []time.Duration{4 * time.Second, 8 * time.Second}, 5, 19}, // more came than the status keeps
		{9, nil, 5, 19},
	} {
		if h.add(step.completed, step.newest); h.n != step.n || h.sum != step.sum {
			t.Errorf("after %d: %d of %v s, want %d of %v s", step.completed, h.n, h.sum, step.n, step.sum)
		}
	}
	h = histogram{}
	h.add(2, []time.Duration{10 * time.Millisecond, time.Hour}) // on a bound: in its bucket
	if h.counts[0] != 1 || h.counts[len(bounds)] != 1 {
		t.Errorf("buckets %v", h.counts)
	}
}

func TestConnectorName(t *testing.T) {
	for _, c := range []struct {
		in      string
		counter bool
		want    string
	}{
		{"sent", true, "sent_total"},
		{"sent_total", true, "sent_total"},
		{"sent_total_total", false, "sent"},
		{"In Flight", false, "in_flight"},
		{"", false, "unnamed"},
		{"é", true, "unnamed_total"},
		{"total", false, "unnamed"},
		{"_total", true, "unnamed_total"},
		{"total_total", false, "unnamed"},
		{"9lives", false, "9lives"},
		{"send_seconds", false, "send_seconds"},
		{"a_total_", false, "a"},
	} {
		if got := connectorName(c.in, c.counter); got != connectorPrefix+c.want {
			t.Errorf("%q, counter %v: %s, want %s", c.in, c.counter, got, c.want)
		}
	}
}

// discard is a sink that takes everything, and counts it.
type discard struct{ n sink.Metrics }

func (discard) Writer(_ context.Context, t sink.Task) (sink.Writer[int64], error) {
	return discard{t.Metrics}, nil
}

func (d discard) Write(_ context.Context, b []int64) error {
	d.n.Count("taken", int64(len(b)))
	return nil
}
func (discard) Flush(context.Context) error { return nil }
func (discard) Close() error                { return nil }

func TestHandlerOfARealRun(t *testing.T) {
	p := engine.New(engine.Config{Name: "real", Dir: t.TempDir(), Parallelism: 1, CheckpointEvery: time.Millisecond})
	s := engine.From(p, "numbers", gen.Source[int64]{Make: func(n int64) int64 { return n }, Count: 1000})
	engine.To(s, "out", discard{})
	srv := httptest.NewServer(Handler(p))
	defer srv.Close()
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	resp, err := srv.Client().Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`weirline_records_total{job="real",operator="numbers",task="0"} 1000`,
		`weirline_records_total{job="real",operator="out",task="0"} 1000`,
		`weirline_connector_taken_total{job="real",operator="out",task="0"} 1000`,
		`weirline_job_phase{job="real",phase="ended"} 1`,
		`go_goroutines `,
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("lacks %s:\n%s", want, b)
		}
	}
	n := regexp.MustCompile(`weirline_checkpoints_completed_total\{job="real"\} (\d+)`).FindSubmatch(b)
	h := regexp.MustCompile(`weirline_checkpoint_duration_seconds_count\{job="real"\} (\d+)`).FindSubmatch(b)
	if n == nil || h == nil || string(n[1]) != string(h[1]) || string(n[1]) == "0" {
		t.Errorf("checkpoints %s, durations %s", n, h)
	}
}

// onDiskStats are those of an operator with a disk behind its state.
var onDiskStats = state.Stats{
	Entries: 5, Bytes: 160, Hits: 7, Misses: 3, Disk: 900,
	Hit:  state.Latency{Samples: 2, Total: 80 * time.Nanosecond},
	Miss: state.Latency{Samples: 1, Total: 2 * time.Microsecond},
}
