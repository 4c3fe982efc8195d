package services

import (
	"context"
	"testing"
	"time"

	"github.com/weirline/weirline/benchmarks/internal/deliver"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/internal/testsvc"
)

// BenchmarkHTTP posts lines to a service in this process: by bare loops, and by a job.
func BenchmarkHTTP(b *testing.B) {
	besideLoop(b, openWeb(b, short(2_000_000)))
}

// BenchmarkOpenSearch writes documents by _bulk: by bare loops, and by a job.
func BenchmarkOpenSearch(b *testing.B) {
	besideLoop(b, inSearch(testsvc.NewOpenSearch(b, testsvc.OpenSearchOptions{Heap: "1g"}), short(200_000)))
}

// loop is work that bare loops and a job do.
type loop struct {
	records int64
	bare    run
	job     func(ctx context.Context, cfg engine.Config) (deliver.Outcome, error)
}

// ours is the job as a contender.
func (l loop) ours(ctx context.Context, cfg engine.Config) (time.Duration, error) {
	return took(l.job(ctx, cfg))
}

// besideLoop reports a job's times beside those of bare loops.
func besideLoop(b *testing.B, l loop) {
	b.Helper()
	if _, err := l.bare(b.Context(), settings(b, every)); err != nil { // servers get faster as they run
		b.Fatal(err)
	}
	var times [][]float64
	for b.Loop() {
		times = inTurn(b, l.bare, l.ours)
	}
	beside(b, l.records, times[1], times[0], nil)
}

func openWeb(tb testing.TB, records int64) loop {
	tb.Helper()
	w, err := deliver.OpenWeb(records)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(w.Close)
	return loop{records, w.Bare, w.Job}
}

func inSearch(srv *testsvc.OpenSearchServer, records int64) loop {
	s := &deliver.Search{Server: srv, Records: records}
	return loop{records, s.Bare, s.Job}
}

// TestLoops runs each contender once with few records. Each compares what arrived with what should have.
func TestLoops(t *testing.T) {
	const records = 20_000
	for name, l := range map[string]loop{"http": openWeb(t, records), "opensearch": inSearch(testsvc.OpenSearch(t), records)} {
		for who, do := range map[string]run{"bare": l.bare, "job": l.ours} {
			t.Run(name+"/"+who, func(t *testing.T) {
				if took, err := do(t.Context(), settings(t, 20*time.Millisecond)); err != nil || took <= 0 {
					t.Errorf("took %v, %v", took, err)
				}
			})
		}
	}
}
