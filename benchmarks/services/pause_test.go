package services

import (
	"context"
	"testing"
	"time"

	"github.com/weirline/weirline/benchmarks/internal/deliver"
	"github.com/weirline/weirline/connector/postgres"
	"github.com/weirline/weirline/engine"
)

// watchedJob runs a job whose writers report their pauses.
type watchedJob func(ctx context.Context, cfg engine.Config, p *deliver.Pauses) error

// pace is records a second, far from what the servers can take: a task has nothing to wait for but checkpoints and commits.
const pace = 100_000

// BenchmarkPause measures the longest time between two batches of a task that writes: with one commit at the end, with a checkpoint
// and commit each second, and with each commit held up for longer than any pause may be. Would a task wait for its commit, its
// pause would be as long.
func BenchmarkPause(b *testing.B) {
	b.Run("kafka", func(b *testing.B) {
		pauses(b, copiesWatched(openTopics(b, 4*pace)))
	})
	for _, m := range modes {
		b.Run("postgres-"+m.name, func(b *testing.B) {
			pauses(b, rowsWatched(openTable(b, 4*pace), m.mode))
		})
	}
}

func copiesWatched(t *deliver.Topics) watchedJob {
	return func(ctx context.Context, cfg engine.Config, p *deliver.Pauses) error {
		_, err := t.Paced(ctx, cfg, pace, t.ExactlyOnce(p))
		return err
	}
}

func rowsWatched(t *deliver.Table, mode postgres.Mode) watchedJob {
	t.Rate = pace
	return func(ctx context.Context, cfg engine.Config, p *deliver.Pauses) error {
		_, err := t.Job(ctx, cfg, deliver.Watched(t.Sink(mode), p))
		return err
	}
}

func pauses(b *testing.B, job watchedJob) {
	var none, usual, held []float64
	for b.Loop() {
		for range short(3) {
			none = append(none, longest(b, job, -1, 0))
			usual = append(usual, longest(b, job, every, 0))
			held = append(held, longest(b, job, every, hold))
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(none), "pause-once-ms")
	b.ReportMetric(median(usual), "pause-ms")
	b.ReportMetric(median(held), "pause-held-ms")
}

// longest is the longest pause of one run, in milliseconds.
func longest(tb testing.TB, job watchedJob, every, hold time.Duration) float64 {
	tb.Helper()
	p := &deliver.Pauses{Hold: hold}
	if err := job(tb.Context(), settings(tb, every), p); err != nil {
		tb.Fatal(err)
	}
	if every > 0 && p.Commits() < 3 {
		tb.Fatalf("there were only %d commits", p.Commits())
	}
	return millis(p.Longest())
}
