package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// benchRun is one run of go test -bench, shared by its checks.
type benchRun struct {
	took    time.Duration
	figures map[string]map[string]float64 // by benchmark, by unit
	err     error
}

const (
	benchLimit  = 8 * time.Minute
	xlimit      = 2.0  // times the limit's time
	allocLimit  = 0.01 // a record
	slowerLimit = 15.0 // per cent
	pauseLimit  = 10.0 // ms
)

// benchCases are the benchmarks that have a limit beside them; free is set for the one whose client allocates.
var benchCases = []struct {
	name string
	free bool
}{
	{"Chain", false},
	{"KeyedSum/keys=10k", false},
	{"KeyedSum/keys=1M", false},
	{"WindowedCount", false},
	{"FileToCount", false},
	{"KafkaToCount", true},
}

func benchChecks() []check {
	all := []check{{"bench/time", func(ctx context.Context, e *env) (string, error) {
		b := e.benchmarks(ctx)
		return fmt.Sprintf("%.1f minutes", b.took.Minutes()), errors.Join(b.err, want(b.took <= benchLimit, "want at most %v", benchLimit))
	}}}
	for _, c := range benchCases {
		all = append(all, check{"bench/" + c.name, func(ctx context.Context, e *env) (string, error) {
			b := e.benchmarks(ctx)
			x, err := b.figure(c.name, "xlimit")
			a, aerr := b.figure(c.name, "allocs/record")
			if err = errors.Join(b.err, err, aerr); err != nil {
				return "", err
			}
			figure := fmt.Sprintf("xlimit %.2f (at most %.0f), %.4f allocations a record", x, xlimit, a)
			return figure, errors.Join(want(x <= xlimit, "slower than allowed"), want(c.free || a < allocLimit, "want under %v allocations", allocLimit))
		}})
	}
	for _, c := range checkpointCases {
		all = append(all, check{"bench/checkpoints/" + c.keys, c.check})
	}
	return append(
		all,
		benchFigure("bench/pebble", "PebbleKeyedSum", "xlimit", "xlimit %.3f (at most %v)", 0.34),
		benchFigure("bench/restore", "Restore", "restore-ms", "1M keys in memory after %.0f ms (at most %v)", 2000),
	)
}

// benchFigure checks one figure of a benchmark.
func benchFigure(name, bench, unit, text string, most float64) check {
	return check{name, func(ctx context.Context, e *env) (string, error) {
		b := e.benchmarks(ctx)
		got, err := b.figure(bench, unit)
		if err = errors.Join(b.err, err); err != nil {
			return "", err
		}
		return fmt.Sprintf(text, got, most), want(got <= most, "too much")
	}}
}

// checkpointCases are numbers of keys, with how many ms a checkpoint may stop a task, as a rule and at worst, and whether it's limited how
// much slower the job is.
var checkpointCases = []checkpointCase{{"keys=1M", 5, pauseLimit, true}, {"keys=10M", 30, 30, false}}

type checkpointCase struct {
	keys       string
	rule, most float64
	limited    bool
}

func (c checkpointCase) check(ctx context.Context, e *env) (string, error) {
	b, name := e.benchmarks(ctx), "Checkpoints/"+c.keys
	slower, err := b.figure(name, "%slower")
	pause, perr := b.figure(name, "pause-ms")
	most, merr := b.figure(name, "pause-ms-max")
	if err = errors.Join(b.err, err, perr, merr); err != nil {
		return "", err
	}
	limit := "no limit"
	if c.limited {
		limit = fmt.Sprintf("at most %.0f", slowerLimit)
	}
	figure := fmt.Sprintf("%.1f %% slower with a checkpoint each second (%s), longest pause of a task %.1f ms (at most %.0f), in one run %.1f ms",
		slower, limit, pause, c.rule, most)
	return figure, errors.Join(want(slower <= slowerLimit || !c.limited, "slower than allowed"),
		want(pause <= c.rule, "pauses are too long"), want(most <= c.most, "want pauses of at most %v ms", c.most))
}

// benchmarks are those beside plain loops.
func (e *env) benchmarks(ctx context.Context) *benchRun { return e.benchmarksOf(ctx, "./benchmarks/") }

// benchmarksOf runs those of a package at the first call.
func (e *env) benchmarksOf(ctx context.Context, pkg string) *benchRun {
	if b := e.bench[pkg]; b != nil {
		return b
	}
	b := &benchRun{}
	e.bench[pkg] = b
	began := time.Now()
	args := []string{"test", "-run", "^$", "-bench", ".", "-timeout", "25m", pkg}
	if e.quick {
		args = append(args, "-short")
	}
	p, err := e.start(ctx, nil, "go", args...)
	if err != nil {
		b.err = err
		return b
	}
	b.err = p.finish(26 * time.Minute)
	b.took, b.figures = time.Since(began), benchFigures(p.text())
	return b
}

var benchLine = regexp.MustCompile(`(?m)^Benchmark(\S+?)(?:-\d+)?\s+\d+\s+(.*)$`)

// benchFigures reads what go test -bench prints.
func benchFigures(text string) map[string]map[string]float64 {
	all := map[string]map[string]float64{}
	for _, m := range benchLine.FindAllStringSubmatch(text, -1) {
		fields := strings.Fields(m[2])
		units := map[string]float64{}
		for i := 0; i+1 < len(fields); i += 2 {
			if v, err := strconv.ParseFloat(fields[i], 64); err == nil {
				units[fields[i+1]] = v
			}
		}
		all[m[1]] = units
	}
	return all
}

func (b *benchRun) figure(name, unit string) (float64, error) {
	v, ok := b.figures[name][unit]
	if !ok {
		return 0, fmt.Errorf("benchmark %s reported no %s", name, unit)
	}
	return v, nil
}
