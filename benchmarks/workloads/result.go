package main

import (
	"bufio"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirline/weirline/benchmarks/internal/load"
	"github.com/weirline/weirline/engine"
)

// result is what is printed. Rates are records per second of all tasks together.
type result struct {
	Workload    string   `json:"workload"`
	Records     int64    `json:"records"`
	Keys        uint32   `json:"keys"`
	Parallelism int      `json:"parallelism"`
	Backend     string   `json:"backend"`
	Seconds     float64  `json:"seconds"`
	Rate        float64  `json:"records_per_s"`
	LastHalf    float64  `json:"last_half_per_s"`
	OutCount    int64    `json:"out_count"`
	Checksum    uint64   `json:"checksum"`
	OK          bool     `json:"ok"`
	Checkpoint  float64  `json:"checkpoint_ms"` // median
	Checkpoints int64    `json:"checkpoints"`
	Pause       float64  `json:"longest_pause_ms"`
	Memory      float64  `json:"peak_memory_mb"` // 0 where the system doesn't tell
	CPU         float64  `json:"cpu_seconds"`    // of the process until the end of the run; 0 where the system doesn't tell
	Latency     *latency `json:"latency,omitempty"`

	Recovery *recovery `json:"recovery,omitempty"`

	Bare  float64 `json:"bare_per_s,omitempty"` // what the bare client reached on the same server
	Limit float64 `json:"xlimit,omitempty"`     // our time / the bare client's
}

// latency is in microseconds.
type latency struct {
	P50  float64 `json:"p50_us"`
	P99  float64 `json:"p99_us"`
	P999 float64 `json:"p999_us"`
	Max  float64 `json:"max_us"`
}

// measured fills in what the clock and the job tell.
func measured(o options, w *load.Watch, last time.Time, s engine.Status) result {
	r := result{
		Records: o.records, Keys: o.keys, Parallelism: o.parallelism, Backend: "memory", Memory: peakMemory(), CPU: cpuSeconds(),
	}
	if o.backend != nil {
		r.Backend = o.backend.Name()
	}
	first, half := w.Times()
	r.Seconds = last.Sub(first).Seconds()
	r.Rate = float64(o.records) / r.Seconds
	r.LastHalf = float64(o.records) / 2 / last.Sub(half).Seconds()
	r.Checkpoints = s.Epochs.Completed
	r.Pause = millis(s.Epochs.LongestPause)
	if ds := slices.Sorted(slices.Values(s.Epochs.Durations)); len(ds) > 0 {
		r.Checkpoint = millis(ds[len(ds)/2])
	}
	return r
}

// check compares the answer with the right one.
func (r *result) check(count, sum, wantCount, wantSum int64) {
	r.OutCount, r.Checksum = count, uint64(sum)
	r.OK = count == wantCount && sum == wantSum
}

// beside puts what the bare client took for the same beside it.
func (r *result) beside(bare time.Duration) {
	r.Bare = float64(r.Records) / bare.Seconds()
	r.Limit = r.Seconds / bare.Seconds()
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// peakMemory is the largest resident size of the process so far, in MiB, where the system tells it.
func peakMemory() float64 {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 64)
			if err != nil {
				return 0
			}
			return kib / 1024
		}
	}
	return 0
}

// cpuSeconds is the processor time the process has used, in the kernel too, where the system tells it.
func cpuSeconds() float64 {
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ") // the program's name may hold blanks
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	const ticks = 100 // a second
	sum := 0.0
	for _, f := range fields[11:13] {
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return 0
		}
		sum += n / ticks
	}
	return sum
}
