package async

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weirline/weirline/sink"
)

// rec is the record of most tests.
type rec struct {
	K string
	N int
}

func (r rec) String() string { return fmt.Sprintf("%s%d", r.K, r.N) }

// dest is a destination that notes what it got and answers as told.
type dest struct {
	mu     sync.Mutex
	calls  []string                                     // each batch Send got, in the order the calls ended
	got    []rec                                        // delivered records
	answer func(ctx context.Context, batch []rec) error // nil delivers all
}

func (d *dest) send(ctx context.Context, batch []rec) error {
	d.mu.Lock()
	answer := d.answer
	d.mu.Unlock()
	var err error
	if answer != nil {
		err = answer(ctx, batch)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, fmt.Sprint(batch))
	v := judge(err, len(batch))
	for i, r := range batch {
		if what, _ := v.of(i); what == done {
			d.got = append(d.got, r)
		}
	}
	return err
}

func (d *dest) sent() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.calls, " ")
}

func (d *dest) delivered() []rec {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.got)
}

// open makes a writer whose destination is d.
func open(t *testing.T, d *dest, s Sink[rec]) *writer[rec] {
	t.Helper()
	return openTask(t, d, s, sink.Task{})
}

func openTask(t *testing.T, d *dest, s Sink[rec], task sink.Task) *writer[rec] {
	t.Helper()
	s.Send = d.send
	w, err := s.Writer(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w.(*writer[rec])
}

func write(t *testing.T, w sink.Writer[rec], rs ...rec) {
	t.Helper()
	if err := w.Write(t.Context(), rs); err != nil {
		t.Fatal(err)
	}
}

func flush(t *testing.T, w sink.Writer[rec]) {
	t.Helper()
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func seq(k string, from, to int) []rec {
	var rs []rec
	for i := from; i < to; i++ {
		rs = append(rs, rec{k, i})
	}
	return rs
}

func equal[V comparable](t *testing.T, what string, got, want V) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// logLines is a logger that keeps level and message of each line.
type logLines struct {
	mu    sync.Mutex
	lines []string
	attrs []map[string]slog.Value
}

func (l *logLines) Enabled(context.Context, slog.Level) bool { return true }
func (l *logLines) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logLines) WithGroup(string) slog.Handler            { return l }

func (l *logLines) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, r.Level.String()+" "+r.Message)
	m := map[string]slog.Value{}
	r.Attrs(func(a slog.Attr) bool { m[a.Key] = a.Value; return true })
	l.attrs = append(l.attrs, m)
	return nil
}

// counts is a Metrics that sums counters and keeps gauges.
type counts struct {
	mu     sync.Mutex
	counts map[string]int64
	gauges map[string]float64
	seen   map[string]int
}

func newCounts() *counts {
	return &counts{counts: map[string]int64{}, gauges: map[string]float64{}, seen: map[string]int{}}
}

func (c *counts) Count(name string, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[name] += n
}

func (c *counts) Gauge(name string, v float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gauges[name] = v
}

func (c *counts) Observe(name string, _ float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[name]++
}
