package load

import (
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/source"
	"github.com/weirline/weirline/state"
)

// Triple and Even are the user functions of the chain.
func Triple(e Event) Event { e.Value = e.Value*3 + 1; return e }

// Even keeps records with an even value.
func Even(e Event) bool { return e.Value&1 == 0 }

// ChainSum is what the chain's sink adds up.
func ChainSum(e Event) int64 { return e.Value ^ e.Key }

// Chain is source, map, filter, discard.
func Chain(p *engine.Pipeline, src source.Source[Event, gen.Split]) *Total[Event] {
	total := NewTotal(ChainSum)
	s := engine.From(p, "events", src)
	engine.To(engine.Map(s, "triple", Triple).Filter("even", Even), "discard", total)
	return total
}

// Sum is a key's running sum after one record.
type Sum struct{ Key, Total, Value int64 }

// SumOf is what the keyed workload's sink adds up: the growth of the square, so that all of them come to the sum of the
// squares of the last sums.
func SumOf(s Sum) int64 {
	old := s.Total - s.Value
	return s.Total*s.Total - old*old
}

// Summer keeps a running sum of each key.
type Summer struct{ total state.Value[int64] }

// Open declares the sum.
func (s *Summer) Open(b *engine.Setup[int64]) error {
	s.total = state.NewValue[int64](b, "total")
	return nil
}

// Process adds one value.
func (s *Summer) Process(_ *engine.Ctx[int64], e Event, out *engine.Out[Sum]) error {
	total := s.total.Ref()
	*total += e.Value
	out.Emit(Sum{Key: e.Key, Total: *total, Value: e.Value})
	return nil
}

// KeyOf is the key of an event.
func KeyOf(e Event) int64 { return e.Key }

// Keyed is source, exchange by key, running sum, discard.
func Keyed(p *engine.Pipeline, src source.Source[Event, gen.Split]) *Total[Sum] {
	total := NewTotal(SumOf)
	s := engine.From(p, "events", src)
	sums := engine.Process(engine.KeyBy(s, KeyOf), "sum", func() *Summer { return &Summer{} })
	engine.To(sums, "discard", total)
	return total
}

// Pane is the accumulator of a window.
type Pane struct{ Count, Sum int64 }

// Add takes an event in.
func (a *Pane) Add(e Event) {
	a.Count++
	a.Sum += e.Value
}

// Counted is the result of a window. Start is in milliseconds since 1970 UTC.
type Counted struct{ Key, Start, Count, Sum int64 }

// CountedOf is what the window workload's sink adds up.
func CountedOf(c Counted) int64 { return (c.Count*1_000_003 + c.Sum) ^ (c.Key + c.Start) }

// WindowSize is the length of the windows.
const WindowSize = 10 * time.Second

// Windows is source, exchange by key, tumbling windows, discard. The source gives the event times.
func Windows(p *engine.Pipeline, src source.Source[Event, gen.Split]) *Total[Counted] {
	total := NewTotal(CountedOf)
	s := engine.From(p, "events", src).EventTime(nil, engine.Watermarks{Delay: Disorder * time.Millisecond})
	w := engine.Window(engine.KeyBy(s, KeyOf), "count", engine.Tumbling{Size: WindowSize})
	counts := engine.Aggregate(w, (*Pane).Add, func(key int64, span engine.Span, a *Pane) Counted {
		return Counted{Key: key, Start: span.Start.UnixMilli(), Count: a.Count, Sum: a.Sum}
	})
	engine.To(counts, "discard", total)
	return total
}
