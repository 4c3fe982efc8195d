package engine_test

import (
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/internal/fault"
)

// mapJob counts windows in accumulators that hold maps; trip is called for each record.
func mapJob(p *engine.Pipeline, n int64, out *enginetest.Tx[keyCount], trip func() error) {
	s := engine.From(p, "numbers", gen.Source[event]{Make: makeEvent, Count: n, Splits: 4, PerSecond: 60_000})
	s = engine.Map(s, "trip", func(e event) event {
		if err := trip(); err != nil {
			panic(err)
		}
		return e
	})
	timed := s.EventTime(func(e event) time.Time { return e.At }, engine.Watermarks{Delay: 200 * time.Millisecond})
	win := engine.Window(engine.KeyBy(timed, func(e event) int64 { return e.Key }), "count", engine.Tumbling{Size: time.Second})
	engine.ToTx(engine.Aggregate(win, func(m *map[int64]int64, e event) {
		if *m == nil {
			*m = map[int64]int64{}
		}
		(*m)[e.Value%7] += e.Value
		(*m)[-1]++
	}, func(k int64, sp engine.Span, m *map[int64]int64) keyCount {
		r := keyCount{Key: k, Start: sp.Start.UnixMilli()}
		for i, v := range *m {
			if i < 0 {
				r.Count = v
			} else {
				r.Sum += v
			}
		}
		return r
	}), "out", out)
}

func storeFull(err error) error { return fault.Wrap(fault.StoreFull, err, "write") }

func codeOf(err error) string { return fault.CodeOf(err) }
