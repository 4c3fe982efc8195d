// Package deliver is what the benchmarks on real servers and the workloads program share: jobs that write to a server, each record
// exactly once or with the effect of it, the bare client library doing the same, and the check of what arrived.
//
//	t := &deliver.Table{URL: url, Records: 2_000_000, Keys: 10_000}
//	bare, err := t.Bare(ctx, cfg)
//	ours, err := t.Job(ctx, cfg, t.Sink(postgres.XA))
//
// Both take their number of tasks and the time between two transactions from the job's settings, and both have batches, buffers,
// compression and delays alike. A [Topics], [Table] or [Strings] is used by one goroutine; each run starts goroutines of its own and returns
// when all is committed and has been read back.
package deliver

import (
	"time"

	"github.com/weirline/weirline/benchmarks/internal/load"
	"github.com/weirline/weirline/engine"
)

// Outcome is what a job left to be measured.
type Outcome struct {
	Watch  *load.Watch
	End    time.Time // when all was committed
	Status engine.Status
}

// Took is the time from the start, as the job's kind has it, to the end.
func (o Outcome) Took() time.Duration {
	first, _ := o.Watch.Times()
	return o.End.Sub(first)
}

// due says whether a transaction that the bare client began at a time is to be committed; every is negative for one transaction only.
func due(began time.Time, every time.Duration) bool { return every > 0 && time.Since(began) >= every }
