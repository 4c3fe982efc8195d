package prom

import (
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/weirline/weirline/engine"
)

// Handler serves the metrics of a pipeline, of the Go runtime and of the process. It is safe for concurrent use, before,
// during and after Run.
func Handler(p *engine.Pipeline) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(NewCollector(p), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, Registry: reg, Timeout: 10 * time.Second})
}

// NewCollector is the pipeline's metrics alone, for a registry of the caller's. Register one a pipeline: two pipelines in
// one registry need prometheus.WrapRegistererWith and a label that tells them apart.
func NewCollector(p *engine.Pipeline) prometheus.Collector {
	c := &collector{status: p.Status, now: time.Now}
	for _, f := range families {
		c.descs = append(c.descs, prometheus.NewDesc(f.name, f.help, f.labels, nil))
	}
	return c
}

// collector turns a status into metrics.
type collector struct {
	status func() engine.Status
	now    func() time.Time
	descs  []*prometheus.Desc // of families

	mu        sync.Mutex
	durations histogram
}

// Describe sends nothing, so that names of connectors, which nobody knows beforehand, are accepted too.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the status once.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := scrape{Status: c.status(), now: c.now()}
	if s.Job == "" {
		return
	}
	for i, f := range families {
		if f.kind == histogramKind {
			c.collectDurations(c.descs[i], s, out)
			continue
		}
		f.read(s, func(v float64, labels ...string) {
			send(out, c.descs[i], f.kind.valueType(), v, append([]string{s.Job}, labels...))
		})
	}
	collectConnectors(s, out)
}

func send(out chan<- prometheus.Metric, d *prometheus.Desc, t prometheus.ValueType, v float64, labels []string) {
	m, err := prometheus.NewConstMetric(d, t, v, labels...)
	if err != nil {
		m = prometheus.NewInvalidMetric(d, err)
	}
	out <- m
}

// histogram counts the durations of checkpoints. The status keeps only the newest ones, so each scrape adds those that came
// since the one before.
type histogram struct {
	seen   int64
	counts []uint64 // by bound, not cumulative; the last is everything above
	sum    float64
	n      uint64
}

// bounds are the buckets of checkpoint durations, in seconds.
var bounds = []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300}

func (h *histogram) add(completed int64, newest []time.Duration) {
	if h.counts == nil {
		h.counts = make([]uint64, len(bounds)+1)
	}
	fresh := min(max(0, completed-h.seen), int64(len(newest)))
	h.seen = max(h.seen, completed)
	for _, d := range newest[int64(len(newest))-fresh:] {
		i, _ := slices.BinarySearch(bounds, d.Seconds())
		h.counts[i]++
		h.sum += d.Seconds()
		h.n++
	}
}

func (c *collector) collectDurations(d *prometheus.Desc, s scrape, out chan<- prometheus.Metric) {
	if !s.Stored {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.durations.add(s.Epochs.Completed, s.Epochs.Durations)
	sendHistogram(out, d, bounds, c.durations.counts, c.durations.sum, s.Job)
}

// sendHistogram sends counts by bound, which are not cumulative and one more than bounds.
func sendHistogram(out chan<- prometheus.Metric, d *prometheus.Desc, bounds []float64, counts []uint64, sum float64, labels ...string) {
	buckets, total := map[float64]uint64{}, uint64(0)
	for i, b := range bounds {
		total += counts[i]
		buckets[b] = total
	}
	m, err := prometheus.NewConstHistogram(d, total+counts[len(bounds)], sum, buckets, labels...)
	if err != nil {
		m = prometheus.NewInvalidMetric(d, err)
	}
	out <- m
}
