package deliver

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weirline/weirline/benchmarks/internal/load"
	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/sink"
)

// What an asynchronous sink and the bare client have alike.
const (
	asyncBatch    = 500 // records in a request
	asyncRequests = 4   // on their way at once, of each task of the bare client; the sink finds its own number
)

// rowsInto makes so many rows and writes them by a job. Its clock starts when the first row is made and ends when all are delivered.
func rowsInto(ctx context.Context, cfg engine.Config, records int64, to sink.Sink[Row]) (Outcome, error) {
	w := load.NewWatch(records)
	p := engine.New(cfg)
	engine.To(engine.From(p, "rows", gen.Source[Row]{Fill: load.Timing(w, fillRows(lineKeys)), Count: records}), "out", to)
	if err := p.Run(ctx); err != nil {
		return Outcome{}, err
	}
	return Outcome{Watch: w, End: time.Now(), Status: p.Status()}, nil
}

// bareLoops lets as many loops as the bare client has make batches of rows and send them by f, and says how long that took.
func bareLoops(ctx context.Context, cfg engine.Config, records int64, send func(ctx context.Context, rows []Row) error) (time.Duration, error) {
	began := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	loops := int64(cfg.Parallelism * asyncRequests)
	for loop := range loops {
		g.Go(func() error {
			batch := make([]Row, 0, asyncBatch)
			for from := loop * asyncBatch; from < records; from += loops * asyncBatch {
				batch = batch[:0]
				for seq := from; seq < min(from+asyncBatch, records); seq++ {
					batch = append(batch, makeRow(seq, lineKeys))
				}
				if err := send(gctx, batch); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := g.Wait()
	return time.Since(began), err
}
