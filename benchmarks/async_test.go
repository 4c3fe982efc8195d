package benchmarks

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// order is a record of the size of a small row.
type order struct {
	ID, User int64
	Amount   float64
	City     string
}

// BenchmarkAsyncSink is what sink/async costs a record on its way from Write through Send to the answer, with a
// destination that answers at once. The limit copies each batch and hands it to a goroutine, without any bookkeeping.
func BenchmarkAsyncSink(b *testing.B) {
	cities := []string{"Aachen", "Bremen", "Celle", "Dresden", "Emden", "Fulda", "Gera", "Halle"}
	for name, set := range map[string]func(*async.Sink[order]){
		"plain":    func(*async.Sink[order]) {},
		"keys=8":   func(s *async.Sink[order]) { s.Key = func(o order) string { return o.City } },
		"shards=8": func(s *async.Sink[order]) { s.Shard = func(o order) string { return o.City } },
	} {
		b.Run(name, func(b *testing.B) { asyncSink(b, cities, set) })
	}
}

func asyncSink(b *testing.B, cities []string, set func(*async.Sink[order])) {
	const records, batch = 2_000_000, 500
	in := make([]order, batch)
	for i := range in {
		in[i] = order{int64(i), int64(i % 97), 1, cities[i%len(cities)]}
	}
	s := async.Sink[order]{Send: func(context.Context, []order) error { return nil }, MaxBatch: batch}
	set(&s)
	var took []float64 // of each record
	ours := func() time.Duration {
		w, err := s.Writer(b.Context(), sink.Task{})
		if err != nil {
			b.Fatal(err)
		}
		defer w.Close()
		began := time.Now()
		for range records / batch {
			if err := w.Write(b.Context(), in); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
		d := time.Since(began)
		took = append(took, float64(d.Nanoseconds())/records)
		return d
	}
	against(b, records, ours, func() time.Duration { return handOver(records/batch, in) })
	b.ReportMetric(median(took), "ns/record")
}

// handOver copies a batch and hands it to one of some goroutines, again and again.
func handOver(times int, in []order) time.Duration {
	const most = 16
	free := make(chan []order, most)
	for range most {
		free <- make([]order, len(in))
	}
	began := time.Now()
	var wg sync.WaitGroup
	for range times {
		out := <-free
		copy(out, in)
		wg.Go(func() { free <- out })
	}
	wg.Wait()
	return time.Since(began)
}
