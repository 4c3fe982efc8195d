package main

import (
	"context"
	"errors"
	"fmt"
)

// servicesPkg has the benchmarks of sinks on real servers.
const servicesPkg = "./benchmarks/services/"

const (
	exactlyOnceCost = 15.0  // per cent, beside at least once
	commitHold      = 500.0 // ms by which the benchmark holds commits up
	commitPause     = 50.0  // ms by which checkpoints and commits may lengthen a task's longest pause: it flushes, it doesn't wait for a commit
)

// servicesChecks are what exactly once costs on real servers, beside the bare client libraries in the same run.
func servicesChecks() []check {
	all := []check{
		besideClient("services/kafka", "Kafka", 1.25),
		besideClient("services/postgres-xa", "Postgres/xa", 1.25),
		besideClient("services/postgres-ledger", "Postgres/ledger", 1.67),
		besideClient("services/mariadb-xa", "MariaDB", 1.25),
		besidePlain("services/postgres-upsert", "PostgresUpsert", 1.25),
		besidePlain("services/redis", "Redis", 1.25),
		{"services/exactly-once", func(ctx context.Context, e *env) (string, error) {
			b := e.benchmarksOf(ctx, servicesPkg)
			cost, err := b.figure("Kafka", "%slower")
			if err = errors.Join(b.err, err); err != nil {
				return "", err
			}
			return fmt.Sprintf("Kafka to Kafka %.1f %% slower than at least once (at most %.0f)", cost, exactlyOnceCost), want(cost <= exactlyOnceCost, "costs too much")
		}},
	}
	for _, sink := range []string{"kafka", "postgres-xa", "postgres-ledger"} {
		all = append(all, check{"services/pause/" + sink, func(ctx context.Context, e *env) (string, error) {
			return pause(e.benchmarksOf(ctx, servicesPkg), sink)
		}})
	}
	return all
}

// besideClient is besidePlain for a sink with transactions, whose pauses are told, too.
func besideClient(name, bench string, most float64) check {
	return check{name, func(ctx context.Context, e *env) (string, error) {
		figure, err := besidePlain(name, bench, most).run(ctx, e)
		longest, perr := e.benchmarksOf(ctx, servicesPkg).figure(bench, "pause-ms")
		return figure + fmt.Sprintf("; longest time between two batches of a task %.0f ms", longest), errors.Join(err, perr)
	}}
}

// besidePlain checks the time of a job through that of the bare client.
func besidePlain(name, bench string, most float64) check {
	return check{name, func(ctx context.Context, e *env) (string, error) {
		b := e.benchmarksOf(ctx, servicesPkg)
		x, err := b.figure(bench, "xlimit")
		best, berr := b.figure(bench, "xlimit-min")
		rate, rerr := b.figure(bench, "rec/s")
		bare, lerr := b.figure(bench, "bare/s")
		if err = errors.Join(b.err, err, berr, rerr, lerr); err != nil {
			return "", err
		}
		figure := fmt.Sprintf("xlimit %.2f (at most %.2f), %.2f at best: %.0f k/s beside the bare client's %.0f k/s", x, most, best, rate/1e3, bare/1e3)
		return figure, want(x <= most, "slower than allowed")
	}}
}

// pause wants that no task that writes waits for the commit of an epoch: its longest time between two batches stays about what it
// is without commits, and far below that by which commits are held up.
func pause(b *benchRun, sink string) (string, error) {
	got, err := b.figure("Pause/"+sink, "pause-ms")
	once, oerr := b.figure("Pause/"+sink, "pause-once-ms")
	held, herr := b.figure("Pause/"+sink, "pause-held-ms")
	if err = errors.Join(b.err, err, oerr, herr); err != nil {
		return "", err
	}
	figure := fmt.Sprintf("at a steady rate, longest time between two batches of a task %.0f ms with a commit each second, %.0f ms with one at the end (at most %.0f more), %.0f ms with commits held up by %.0f ms (less than that)",
		got, once, commitPause, held, commitHold)
	return figure, errors.Join(want(got <= once+commitPause, "commits hold up tasks"), want(held < commitHold, "tasks wait for commits"))
}
