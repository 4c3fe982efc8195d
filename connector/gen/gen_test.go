package gen_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/source"
	"github.com/weirline/weirline/source/sourcetest"
)

func numbers(n int64) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = int64(i)
	}
	return out
}

func same(seq int64) int64 { return seq }

func TestContract(t *testing.T) {
	fill := func(from, step int64, n int, out *source.Batch[int64]) {
		for i := range n {
			out.AddMicros(from+int64(i)*step, 7)
		}
	}
	for name, src := range map[string]gen.Source[int64]{
		"make":   {Make: same, Count: 40},
		"splits": {Make: same, Count: 41, Splits: 7},
		"few":    {Make: same, Count: 2, Splits: 5},
		"fill":   {Fill: fill, Count: 40, Splits: 2},
		"paced":  {Make: same, Count: 40, PerSecond: 20_000},
	} {
		t.Run(name, func(t *testing.T) {
			sourcetest.Run(t, sourcetest.Case[int64, gen.Split]{
				Source: src, Want: numbers(src.Count), Bad: []gen.Split{{}, {Step: 1, Next: -1}},
			})
		})
	}
}

// drain reads one split of a source until stop, and returns the values, times and the moments at which they came.
func drain(t *testing.T, src gen.Source[int64], at gen.Split, limit int, stop func(n int) bool) (b source.Batch[int64], came []time.Duration) {
	t.Helper()
	r, err := src.Reader(t.Context(), source.Task{Parallelism: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := r.Add(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for !stop(len(b.Values)) {
		b.Limit(len(b.Values) + limit)
		if _, err := r.Read(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		for len(came) < len(b.Values) {
			came = append(came, time.Since(start))
		}
	}
	return b, came
}

func TestSchedule(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		src := gen.Source[int64]{Make: same, PerSecond: 100}
		at := gen.Split{Index: 0, Step: 2, Next: 600} // restored: goes on from here, at once
		b, came := drain(t, src, at, 1000, func(n int) bool { return n >= 100 })
		for i, v := range b.Values {
			if v != 600+2*int64(i) {
				t.Fatalf("value %d is %d", i, v)
			}
			due := time.Duration(2*i) * 10 * time.Millisecond
			if early := due - came[i]; early > time.Microsecond || early < -3*time.Millisecond {
				t.Errorf("record %d came after %v, was due after %v", v, came[i], due)
			}
		}
	})
}

func TestHighRateComesInBatches(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		reads := 0
		src := gen.Source[int64]{Make: same, PerSecond: 1e6}
		_, came := drain(t, src, gen.Split{Step: 1}, 1<<20, func(n int) bool { reads++; return n >= 100_000 })
		if last := came[len(came)-1]; last < 99*time.Millisecond || last > 110*time.Millisecond {
			t.Errorf("100000 records at a million a second took %v", last)
		}
		if reads > 110 {
			t.Errorf("%d reads for 100 ms", reads)
		}
	})
}

func TestEventTime(t *testing.T) {
	src := gen.Source[int64]{Make: same, EventTime: func(seq int64) time.Time { return time.UnixMicro(seq * 10) }}
	b, _ := drain(t, src, gen.Split{Step: 3, Next: 3}, 4, func(n int) bool { return n >= 4 })
	if got := fmt.Sprint(b.Values, b.Times); got != "[3 6 9 12] [30 60 90 120]" {
		t.Error(got)
	}
}

func TestSplitsStayWithTheJob(t *testing.T) {
	src := gen.Source[int64]{Make: same, Count: 10}
	first, err := src.Enumerator(t.Context(), source.Task{Parallelism: 2})
	if err != nil {
		t.Fatal(err)
	}
	state, err := first.(source.Stateful).Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	second, err := src.Enumerator(t.Context(), source.Task{Parallelism: 5})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.(source.Stateful).Restore(state); err != nil {
		t.Fatal(err)
	}
	if found, _, err := second.Discover(t.Context()); err != nil || len(found) != 2 {
		t.Errorf("after a restore with another parallelism: %v, %v", found, err)
	}
	for _, bad := range []string{"", "{}", "x"} {
		if err := second.(source.Stateful).Restore([]byte(bad)); fault.CodeOf(err) != fault.BadPosition.ID {
			t.Errorf("Restore(%q) = %v", bad, err)
		}
	}
}

func TestWaitHeedsContext(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r, err := gen.Source[int64]{Make: same, PerSecond: 0.001}.Reader(t.Context(), source.Task{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if err := r.Add(t.Context(), gen.Split{Step: 1}); err != nil {
			t.Fatal(err)
		}
		var b source.Batch[int64]
		b.Limit(5)
		if _, err := r.Read(t.Context(), &b); err != nil || len(b.Values) != 1 {
			t.Fatalf("the first record is due at once: %v, %v", b.Values, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if s, err := r.Read(ctx, &b); !errors.Is(err, context.DeadlineExceeded) || s.Next != 1 || len(b.Values) != 1 {
			t.Errorf("got %v, %v, %v", s, err, b.Values)
		}
	})
}

func TestPreflight(t *testing.T) {
	if err := (gen.Source[int]{}).Preflight(t.Context()); fault.CodeOf(err) != fault.BadPipeline.ID {
		t.Errorf("no Make: %v", err)
	}
	if (gen.Source[int]{}).Bounded() || !(gen.Source[int]{Count: 1}).Bounded() {
		t.Error("a source is bounded exactly if it has a Count")
	}
}

func BenchmarkRead(b *testing.B) {
	fill := func(from, step int64, n int, out *source.Batch[int64]) {
		at := len(out.Values)
		out.Values = out.Values[:at+n]
		for i := range out.Values[at:] {
			out.Values[at+i] = from
			from += step
		}
	}
	for name, src := range map[string]gen.Source[int64]{"with=make": {Make: same}, "with=fill": {Fill: fill}} {
		b.Run(name, func(b *testing.B) {
			r, err := src.Reader(b.Context(), source.Task{Parallelism: 1})
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			if err := r.Add(b.Context(), gen.Split{Step: 1}); err != nil {
				b.Fatal(err)
			}
			batch := source.Batch[int64]{Values: make([]int64, 0, 1024)}
			batch.Limit(1024)
			n := 0
			for b.Loop() {
				batch.Reset()
				if _, err := r.Read(b.Context(), &batch); err != nil {
					b.Fatal(err)
				}
				n += len(batch.Values)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds()/1e6, "Mrec/s")
		})
	}
}
