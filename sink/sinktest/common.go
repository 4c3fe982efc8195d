package sinktest

import (
	"fmt"
	"log/slog"

	"github.com/weirline/weirline/sink"
)

// task is what the engine would lend.
func task(job string, index int) sink.Task {
	return sink.Task{
		Job: job, Operator: "out", Index: index, Parallelism: index + 1,
		Log: slog.New(slog.DiscardHandler), Metrics: noMetrics{}, Request: func() {},
	}
}

type noMetrics struct{}

func (noMetrics) Count(string, int64)     {}
func (noMetrics) Gauge(string, float64)   {}
func (noMetrics) Observe(string, float64) {}

// id makes records comparable.
func id[T any](v T) string { return fmt.Sprintf("%+v", v) }

// tally counts records.
func tally[T any](rs []T) map[string]int {
	m := make(map[string]int, len(rs))
	for _, r := range rs {
		m[id(r)]++
	}
	return m
}

// compare says how got differs from want, looking at the records of want only: each must be there once, or, if more is
// set, at least once.
func compare[T any](got, want []T, more bool) error {
	have := tally(got)
	var missing, twice []string
	for _, r := range want {
		switch n := have[id(r)]; {
		case n == 0:
			missing = append(missing, id(r))
		case n > 1 && !more:
			twice = append(twice, fmt.Sprintf("%s (%d times)", id(r), n))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%d of %d records are missing, the first: %s", len(missing), len(want), missing[0])
	}
	if len(twice) > 0 {
		return fmt.Errorf("%d of %d records appear more than once, the first: %s", len(twice), len(want), twice[0])
	}
	return nil
}

// absent says which of the records appear though none should.
func absent[T any](got, unwanted []T) error {
	have := tally(got)
	for _, r := range unwanted {
		if have[id(r)] > 0 {
			return fmt.Errorf("record %s is visible", id(r))
		}
	}
	return nil
}
