package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/weirline/weirline/internal/testsvc"
)

// delivery is a workload that writes to a real server, exactly once or with the effect of it, beside the bare client in the same run. It's fast enough
// if it's so many times what Apache Flink reaches, or takes hardly longer than the bare client.
type delivery struct {
	workload string
	records  int64
	flink    float64 // records a second
	times    float64
	server   func(e *env, ctx context.Context) (args []string, stop func(), err error)
}

// bareLimit is how much of the bare client's time a workload may take instead.
const bareLimit = 1.18

func (d delivery) check(ctx context.Context, e *env) (string, error) {
	args, stop, err := d.server(e, ctx)
	if err != nil {
		return "", err
	}
	defer stop()
	n := runs
	if e.quick {
		n = 1
	}
	var rates, limits, bare []float64
	pause := 0.0
	for range n {
		o, err := e.work(ctx, d.workload, d.records, args...)
		if err != nil {
			return "", err
		}
		rates, limits, bare, pause = append(rates, o.Rate), append(limits, o.Limit), append(bare, o.Bare), max(pause, o.Pause)
	}
	for _, all := range [][]float64{rates, limits, bare} {
		slices.Sort(all)
	}
	rate, limit := rates[n/2], limits[n/2]
	figure := fmt.Sprintf("%.0f k/s, %.2f times Flink's %.0f k/s (at least %.2f), or xlimit %.2f beside the bare client's %.0f k/s (at most %.2f); "+
		"median of %d runs, %.0f to %.0f k/s, longest pause %.1f ms",
		rate/1e3, rate/d.flink, d.flink/1e3, d.times, limit, bare[n/2]/1e3, bareLimit, n, rates[0]/1e3, rates[n-1]/1e3, pause)
	return figure, want(rate >= d.times*d.flink || limit <= bareLimit, "too slow")
}

// fastKafka starts a broker as it was for Flink's figures.
func (e *env) fastKafka(ctx context.Context) ([]string, func(), error) {
	dir, err := e.dir("fast-kafka")
	if err != nil {
		return nil, nil, err
	}
	k, err := testsvc.StartKafka(ctx, filepath.Join(dir, "kafka"), testsvc.KafkaOptions{Heap: "1g"})
	if err != nil {
		return nil, nil, err
	}
	return []string{"-kafka", k.Addr}, k.Kill, nil
}

// fastPostgres starts a server as it was for Flink's figures.
func (e *env) fastPostgres(ctx context.Context) ([]string, func(), error) {
	dir, err := e.dir("fast-postgres")
	if err != nil {
		return nil, nil, err
	}
	pg, err := testsvc.StartPostgres(ctx, filepath.Join(dir, "postgres"), testsvc.PostgresOptions{
		Sync: true, Args: []string{"-c", "shared_buffers=512MB", "-c", "max_wal_size=4GB", "-c", "wal_level=logical"},
	})
	if err != nil {
		return nil, nil, err
	}
	return []string{"-postgres", pg.URL}, pg.Kill, nil
}
