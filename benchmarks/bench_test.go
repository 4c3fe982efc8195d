package benchmarks

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/weirline/weirline/benchmarks/internal/load"
	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/source"
)

const (
	tasks  = 2
	rounds = 7
)

// against runs a case and its limit in turn and reports how they compare. Each returns how long it took.
func against(b *testing.B, records int64, ours, limit func() time.Duration) {
	b.Helper()
	limit() // caches and pools are warm
	var ratios, rates, limits, allocs []float64
	for b.Loop() {
		for range rounds {
			l := limit()
			before := mallocs()
			o := ours()
			allocs = append(allocs, float64(mallocs()-before)/float64(records))
			ratios = append(ratios, o.Seconds()/l.Seconds())
			rates = append(rates, float64(records)/o.Seconds())
			limits = append(limits, float64(l.Nanoseconds())/float64(records))
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(ratios), "xlimit")
	b.ReportMetric(slices.Min(ratios), "xlimit-min")
	b.ReportMetric(median(rates), "rec/s")
	b.ReportMetric(median(limits), "limit-ns")
	b.ReportMetric(median(allocs), "allocs/record")
}

func median(xs []float64) float64 {
	s := slices.Sorted(slices.Values(xs))
	return s[len(s)/2]
}

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

// job is a pipeline over generated events.
type job[T any] struct {
	records int64
	keys    uint32
	fill    load.Filler
	build   func(*engine.Pipeline, source.Source[load.Event, gen.Split]) *load.Total[T]
	answer  func(n int64, keys uint32) (count, sum int64)
}

// run runs it once and checks the answer, which it computes if it is the first time.
func (j job[T]) run(b *testing.B, cfg engine.Config, want *[2]int64) (took time.Duration, s engine.Status) {
	b.Helper()
	cfg.Name, cfg.Parallelism = "bench", tasks
	w := load.NewWatch(j.records)
	p := engine.New(cfg)
	total := j.build(p, gen.Source[load.Event]{Fill: w.Timing(j.fill), Count: j.records})
	if err := p.Run(b.Context()); err != nil {
		b.Fatal(err)
	}
	if *want == [2]int64{} {
		want[0], want[1] = j.answer(j.records, j.keys)
	}
	count, sum, last := total.Result()
	if got := [2]int64{count, sum}; got != *want {
		b.Fatalf("the pipeline's answer is %v, want %v", got, *want)
	}
	first, _ := w.Times()
	return last.Sub(first), p.Status()
}

// versus compares a job with its limit, whose answer is checked too.
func (j job[T]) versus(b *testing.B, limit func(n int64, keys uint32) (count, sum int64)) {
	var want [2]int64
	want[0], want[1] = j.answer(j.records, j.keys)
	ours := func() time.Duration {
		took, _ := j.run(b, engine.Config{}, &want)
		return took
	}
	against(b, j.records, ours, func() time.Duration {
		began := time.Now()
		count, sum := limit(j.records, j.keys)
		took := time.Since(began)
		if got := [2]int64{count, sum}; got != want {
			b.Fatalf("the limit's answer is %v, want %v", got, want)
		}
		return took
	})
}

func BenchmarkChain(b *testing.B) {
	job[load.Event]{50_000_000, 10_000, load.Fill(10_000), load.Chain, load.ChainAnswer}.versus(b, chainLimit)
}

func BenchmarkKeyedSum(b *testing.B) {
	b.Run("keys=10k", func(b *testing.B) {
		job[load.Sum]{20_000_000, 10_000, load.Fill(10_000), load.Keyed, load.KeyedAnswer}.versus(b, keyedLimit)
	})
	b.Run("keys=1M", func(b *testing.B) {
		const keys = 1_000_000
		job[load.Sum]{20_000_000, keys, load.Fill(keys), load.Keyed, load.KeyedAnswer}.versus(b, keyedLimit)
	})
}

func BenchmarkWindowedCount(b *testing.B) {
	job[load.Counted]{20_000_000, 10_000, load.FillTimed(10_000), load.Windows, load.WindowsAnswer}.versus(b, windowsLimit)
}

// BenchmarkCheckpoints compares a job with a checkpoint each second to the same without.
func BenchmarkCheckpoints(b *testing.B) {
	b.Run("keys=1M", func(b *testing.B) { checkpoints(b, 1_000_000, 5) })
	b.Run("keys=10M", func(b *testing.B) { checkpoints(b, 10_000_000, 1) })
}

func checkpoints(b *testing.B, keys uint32, rounds int) {
	b.Helper()
	j := job[load.Sum]{80_000_000, keys, load.Fill(keys), load.Keyed, load.KeyedAnswer}
	var want [2]int64
	var slower, pauses, counts []float64
	for b.Loop() {
		for range rounds {
			without, _ := j.run(b, engine.Config{Dir: b.TempDir(), CheckpointEvery: -1}, &want)
			with, s := j.run(b, engine.Config{Dir: b.TempDir(), CheckpointEvery: time.Second}, &want)
			slower = append(slower, 100*(with.Seconds()/without.Seconds()-1))
			pauses = append(pauses, float64(s.Epochs.LongestPause.Microseconds())/1000)
			counts = append(counts, float64(s.Epochs.Completed))
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(slower), "%slower")
	b.ReportMetric(slices.Min(slower), "%slower-min")
	b.ReportMetric(median(pauses), "pause-ms")
	b.ReportMetric(slices.Max(pauses), "pause-ms-max")
	b.ReportMetric(median(counts), "checkpoints")
}
