package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// outcome is the line that bin/workloads prints.
type outcome struct {
	Records  int64   `json:"records"`
	Seconds  float64 `json:"seconds"`
	Rate     float64 `json:"records_per_s"`
	OutCount int64   `json:"out_count"`
	Checksum uint64  `json:"checksum"`
	OK       bool    `json:"ok"`
	Pause    float64 `json:"longest_pause_ms"`
	Bare     float64 `json:"bare_per_s"`
	Limit    float64 `json:"xlimit"`
	Recovery *struct {
		First    float64 `json:"recovery_ms"`
		CaughtUp float64 `json:"caught_up_ms"`
	} `json:"recovery"`
	Latency *struct {
		P50 float64 `json:"p50_us"`
		P99 float64 `json:"p99_us"`
	} `json:"latency"`
}

// Runs last long enough for start and end not to matter, and the median of some is taken.
const (
	runSeconds = 15
	runs       = 5
)

// flink is what Apache Flink 2.2.1 reaches on the same workload and kind of machine, in records a second over the whole run
// (parallelism 2, tuned in its favour), and times how many of it we promise.
type flink struct {
	name     string
	workload string
	keys     int // 0 = the workload has its own
	rate     float64
	times    float64
	args     []string
}

func workloadChecks() []check {
	all := []check{{"workloads/answers", knownAnswers}}
	for _, f := range []flink{
		{"w1", "w1", 10_000, 121.6e6, 1.6, nil},
		{"w2/keys=10k", "w2", 10_000, 8.68e6, 6, nil},
		{"w2/keys=1M", "w2", 1_000_000, 1.71e6, 15, nil},
		{"w2/pebble/keys=10k", "w2", 10_000, 694e3, 10, []string{"-backend", "pebble"}},
		{"w2/pebble/keys=1M", "w2", 1_000_000, 398e3, 3, []string{"-backend", "pebble"}},
		{"w3/keys=10k", "w3", 10_000, 6.69e6, 6, nil},
		{"w3/keys=1M", "w3", 1_000_000, 1.11e6, 8, nil},
		{"q5", "q5", 0, 1.28e6, 4, nil},
		{"q8", "q8", 0, 6.5e6, 2.5, nil},
	} {
		all = append(all, check{"workloads/" + f.name, f.check})
	}
	return append(all,
		check{"workloads/w4", delivery{"w4", 4_000_000, 500e3, 1.6, (*env).fastKafka}.check},
		check{"workloads/w6", delivery{"w6", 2_000_000, 513e3, 1.15, (*env).fastPostgres}.check},
		check{"workloads/w6upsert", delivery{"w6upsert", 2_000_000, 361e3, 1, (*env).fastPostgres}.check},
		check{"workloads/latency/200k", latencyCheck(200_000, 1.5)},
		check{"workloads/latency/2M", latencyCheck(2_000_000, 3)})
}

// work runs bin/workloads once.
func (e *env) work(ctx context.Context, workload string, records int64, args ...string) (outcome, error) {
	var o outcome
	bin, err := e.binary("workloads")
	if err != nil {
		return o, err
	}
	p, err := e.start(ctx, nil, bin, append([]string{workload, strconv.FormatInt(records, 10)}, args...)...)
	if err != nil {
		return o, err
	}
	if err := p.finish(5 * time.Minute); err != nil {
		return o, err
	}
	if err := json.Unmarshal([]byte(strings.TrimSpace(p.text())), &o); err != nil {
		return o, fmt.Errorf("read what it printed: %w: %s", err, p.tail())
	}
	return o, want(o.OK, "the answer is wrong: %s", p.tail())
}

// knownAnswers holds some answers against those that were computed elsewhere.
func knownAnswers(ctx context.Context, e *env) (string, error) {
	known := []struct {
		workload string
		records  int64
		keys     int
		count    int64
		checksum uint64
	}{
		{"w1", 200_000_000, 10_000, 99_992_061, 157274921382457},
		{"w2", 4_000_000, 10_000, 4_000_000, 17025328505686719002},
		{"w2", 4_000_000, 1_000_000, 4_000_000, 5862154598828789114},
		{"w3", 50_000_000, 10_000, 509_953, 866844775582199519},
		{"w3", 10_000_000, 1_000_000, 6_354_239, 10802204118538803364},
		{"q5", 10_000_000, 0, 504, 857185287720766},
		{"q8", 20_000_000, 0, 1_125_346, 6997199393803},
	}
	for _, k := range known {
		var args []string
		if k.keys > 0 {
			args = []string{"-keys", strconv.Itoa(k.keys)}
		}
		o, err := e.work(ctx, k.workload, k.records, args...)
		if err != nil {
			return "", err
		}
		if o.OutCount != k.count || o.Checksum != k.checksum {
			return "", fmt.Errorf("%s of %d records and %d keys: count %d, checksum %d; want %d, %d", k.workload, k.records, k.keys, o.OutCount, o.Checksum, k.count, k.checksum)
		}
	}
	return fmt.Sprintf("%d known answers equal", len(known)), nil
}

func (f flink) check(ctx context.Context, e *env) (string, error) {
	seconds, n := float64(runSeconds), runs
	if e.quick {
		seconds, n = 4, 1
	}
	args := f.args
	if f.keys > 0 {
		args = append([]string{"-keys", strconv.Itoa(f.keys)}, args...)
	}
	probe, err := e.work(ctx, f.workload, int64(f.rate*f.times), args...) // about a second
	if err != nil {
		return "", err
	}
	records := int64(probe.Rate * seconds * 1.15)
	var rates []float64
	shortest, pause := seconds*100, 0.0
	for len(rates) < n {
		o, err := e.work(ctx, f.workload, records, args...)
		if err != nil {
			return "", err
		}
		if o.Seconds < seconds {
			records = int64(float64(records) * 1.1 * seconds / o.Seconds) // it ran too fast to count
			continue
		}
		rates, shortest, pause = append(rates, o.Rate), min(shortest, o.Seconds), max(pause, o.Pause)
	}
	slices.Sort(rates)
	got := rates[len(rates)/2] / f.rate
	figure := fmt.Sprintf("%.1f M/s, %.2f times Flink's %.2f M/s (at least %.1f); median of %d runs of %.0f s or more, %.1f to %.1f M/s, longest pause %.1f ms",
		rates[len(rates)/2]/1e6, got, f.rate/1e6, f.times, n, shortest, rates[0]/1e6, rates[len(rates)-1]/1e6, pause)
	return figure, want(got >= f.times, "too slow")
}

// latencyCheck wants the 99th percentile at a fixed rate below a limit in milliseconds.
func latencyCheck(rate int, limit float64) func(context.Context, *env) (string, error) {
	return func(ctx context.Context, e *env) (string, error) {
		seconds, n := runSeconds+1, runs
		if e.quick {
			seconds, n = 4, 1
		}
		var p99 []float64
		for range n {
			o, err := e.work(ctx, "w2lat", int64(rate*seconds), "-rate", strconv.Itoa(rate))
			if err != nil {
				return "", err
			}
			if o.Latency == nil {
				return "", fmt.Errorf("it printed no latency")
			}
			p99 = append(p99, o.Latency.P99/1000)
		}
		slices.Sort(p99)
		figure := fmt.Sprintf("p99 %.2f ms (at most %.1f); median of %d runs, %.2f to %.2f ms", p99[n/2], limit, n, p99[0], p99[n-1])
		return figure, want(p99[n/2] <= limit, "too slow")
	}
}
