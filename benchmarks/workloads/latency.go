package main

import (
	"context"
	"math/bits"
	"sync"
	"time"

	"github.com/weirline/weirline/benchmarks/internal/load"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/state"
)

// timedSum is a running sum with the time at which its record was due.
type timedSum struct {
	load.Sum
	due int64 // nanoseconds after the schedule's start
}

// timedSummer is load.Summer that passes the due time on.
type timedSummer struct{ total state.Value[int64] }

func (s *timedSummer) Open(b *engine.Setup[int64]) error {
	s.total = state.NewValue[int64](b, "total")
	return nil
}

func (s *timedSummer) Process(_ *engine.Ctx[int64], e load.Event, out *engine.Out[timedSum]) error {
	total := s.total.Ref()
	*total += e.Value
	out.Emit(timedSum{load.Sum{Key: e.Key, Total: *total, Value: e.Value}, e.At})
	return nil
}

// keyedLatency is keyed at a fixed rate. Latencies are those of the last half.
func keyedLatency(ctx context.Context, o options) (result, error) {
	w := load.NewWatch(o.records)
	sch := newSchedule(o, w)
	p := engine.New(config(o))
	total := &timedTotal{Total: load.NewTotal(func(s timedSum) int64 { return load.SumOf(s.Sum) }), sch: sch}
	sums := engine.Process(engine.KeyBy(engine.From(p, "events", sch.source()), load.KeyOf), "sum",
		func() *timedSummer { return &timedSummer{} })
	engine.To(sums, "discard", total)
	if err := p.Run(ctx); err != nil {
		return result{}, err
	}
	count, sum, last := total.Result()
	if last.IsZero() {
		return result{}, errStopped
	}
	r := measured(o, w, last, p.Status())
	r.Latency = total.all.percentiles()
	wantCount, wantSum := load.KeyedAnswer(o.records, o.keys)
	r.check(count, sum, wantCount, wantSum)
	return r, nil
}

// timedTotal is a Total whose writers also measure how late each record comes.
type timedTotal struct {
	*load.Total[timedSum]
	sch *schedule

	mu  sync.Mutex
	all histogram
}

func (t *timedTotal) Writer(ctx context.Context, task sink.Task) (sink.Writer[timedSum], error) {
	w, err := t.Total.Writer(ctx, task)
	return &timedWriter{Writer: w, all: t, since: t.sch.after(t.sch.records / 2)}, err
}

// timedWriter is one task's part of a timedTotal.
type timedWriter struct {
	sink.Writer[timedSum]
	all   *timedTotal
	since time.Duration // records due earlier aren't measured
	mine  histogram
}

// Unwrap shows the writer inside, whose count is part of the checkpoints.
func (w *timedWriter) Unwrap() any { return w.Writer }

func (w *timedWriter) Write(ctx context.Context, batch []timedSum) error {
	now := int64(time.Since(w.all.sch.start))
	for i := range batch {
		if due := batch[i].due; due >= int64(w.since) {
			w.mine.add(now - due)
		}
	}
	return w.Writer.Write(ctx, batch)
}

func (w *timedWriter) Flush(ctx context.Context) error {
	w.all.mu.Lock()
	w.all.all.merge(&w.mine)
	w.mine = histogram{}
	w.all.mu.Unlock()
	return w.Writer.Flush(ctx)
}

// histogram counts durations in nanoseconds, in buckets 1/64 wide.
type histogram struct {
	buckets [40 * 64]int64
	count   int64
	max     int64
}

func (h *histogram) add(nanos int64) {
	nanos = max(nanos, 0)
	h.buckets[bucketOf(nanos)]++
	h.count++
	h.max = max(h.max, nanos)
}

// bucketOf is the value itself below 64, then 64 buckets for each power of two.
func bucketOf(nanos int64) int {
	shift := max(bits.Len64(uint64(nanos))-7, 0)
	return min(shift*64+int(nanos>>shift), 40*64-1)
}

// upper is the largest value of a bucket.
func upper(bucket int) int64 {
	if bucket < 128 {
		return int64(bucket)
	}
	shift := bucket/64 - 1
	return (int64(bucket-shift*64)+1)<<shift - 1
}

func (h *histogram) merge(o *histogram) {
	for i, n := range o.buckets {
		h.buckets[i] += n
	}
	h.count += o.count
	h.max = max(h.max, o.max)
}

// at is the value below which the part q of all lies.
func (h *histogram) at(q float64) float64 {
	left := int64(q * float64(h.count))
	for i, n := range h.buckets {
		if left -= n; left < 0 {
			return float64(min(upper(i), h.max)) / 1000
		}
	}
	return float64(h.max) / 1000
}

func (h *histogram) percentiles() *latency {
	return &latency{P50: h.at(0.5), P99: h.at(0.99), P999: h.at(0.999), Max: float64(h.max) / 1000}
}
