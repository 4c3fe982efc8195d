package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/weirline/weirline/benchmarks/internal/load"
	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/source"
)

// workloads are the runs by name.
var workloads = map[string]func(ctx context.Context, o options) (result, error){
	"w1":       chain,
	"w2":       keyed,
	"w3":       windows,
	"w2lat":    keyedLatency,
	"w4":       topics,
	"w6":       table,
	"w6upsert": upserts,
	"w9":       recovers,
	"q5":       hotAuctions,
	"q8":       newcomers,
}

func chain(ctx context.Context, o options) (result, error) {
	o.state = ""
	return throughput(ctx, o, load.Fill(o.keys), load.Chain, load.ChainAnswer)
}

func keyed(ctx context.Context, o options) (result, error) {
	return throughput(ctx, o, load.Fill(o.keys), load.Keyed, load.KeyedAnswer)
}

func windows(ctx context.Context, o options) (result, error) {
	return throughput(ctx, o, load.FillTimed(o.keys), load.Windows, load.WindowsAnswer)
}

func hotAuctions(ctx context.Context, o options) (result, error) {
	o.keys = 0
	return throughput(ctx, o, load.FillAuctioned, load.HotAuctions, load.HotAuctionsAnswer)
}

func newcomers(ctx context.Context, o options) (result, error) {
	o.keys = 0
	return throughput(ctx, o, load.FillAuctioned, load.Newcomers, load.NewcomersAnswer)
}

// throughput runs a job as fast as it goes.
func throughput[E, T any](
	ctx context.Context, o options,
	fill func(from, step int64, n int, out *source.Batch[E]),
	build func(*engine.Pipeline, source.Source[E, gen.Split]) *load.Total[T],
	answer func(n int64, keys uint32) (count, sum int64),
) (result, error) {
	w := load.NewWatch(o.records)
	p := engine.New(config(o))
	total := build(p, gen.Source[E]{Fill: load.Timing(w, fill), Count: o.records})
	if o.announce {
		var once sync.Once
		total.First = func() { once.Do(func() { fmt.Fprintln(os.Stderr, firstOutput) }) }
	}
	if err := p.Run(ctx); err != nil {
		return result{}, err
	}
	count, sum, last := total.Result()
	if last.IsZero() {
		return result{}, errStopped
	}
	r := measured(o, w, last, p.Status())
	wantCount, wantSum := answer(o.records, o.keys)
	r.check(count, sum, wantCount, wantSum)
	return r, nil
}

// firstOutput is what -announce prints; who kills processes to see how long a restart takes waits for it.
const firstOutput = "first output"

func config(o options) engine.Config {
	return engine.Config{Name: "workload", Dir: o.state, State: o.backend, Parallelism: o.parallelism, CheckpointEvery: o.checkpoint}
}

var errStopped = errors.New("stopped before the end; there is nothing to report (a state directory must be new)")
