package sim

import (
	"context"
	"log/slog"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/state"
)

// listener looks for what must never be logged: an epoch declined because a split was in no place, or in two.
type listener struct{ inc *incarnation }

func (l listener) Enabled(_ context.Context, at slog.Level) bool { return at >= slog.LevelWarn }

func (l listener) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok && fault.CodeOf(err) == fault.Misplaced.ID && !l.inc.isDead() {
			l.inc.w.wrong("%s: %v", r.Message, err)
		}
		return true
	})
	return nil
}

func (l listener) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l listener) WithGroup(string) slog.Handler      { return l }

// build makes the pipeline of one process.
func (p *Plan) build(inc *incarnation) *engine.Pipeline {
	cfg := p.cfg
	cfg.Name, cfg.Parallelism, cfg.Store = "sim", inc.run.parallelism, inc.open
	cfg.Open = inc.saves
	cfg.Log = slog.New(listener{inc})
	g := engine.New(cfg)
	var streams []engine.Stream[Rec]
	for _, s := range p.sources {
		var in engine.Stream[Rec]
		if s.hybrid {
			in = engine.From(g, s.name, s.chained(p, inc))
		} else {
			in = engine.From(g, s.name, s.input(p, inc))
		}
		if s.width > 0 {
			in = in.Parallel(s.width)
		}
		in = in.EventTime(nil, s.marks)
		if s.width > 0 {
			in = in.Parallel(s.width)
		}
		streams = append(streams, chain(in, s.ops, inc))
	}
	for _, t := range p.tails {
		s := streams[t.sources[0]]
		for _, k := range t.sources[1:] {
			s = engine.Union(s, streams[k])
		}
		t.build(chain(s, t.ops, inc), inc)
	}
	if p.cfg.Poison.Policy == engine.PoisonDeadLetter {
		g.DeadLetters(deadSink{inc.w.dead, inc})
	}
	return g
}

func (t *tailSpec) build(s engine.Stream[Rec], inc *incarnation) {
	key := func(r Rec) int { return r.Key }
	switch t.kind {
	case tailPlain:
		t.write(t.name, engine.Map(s, t.name+".row", t.row), inc)
	case tailSum:
		t.write(t.name, engine.Process(engine.KeyBy(s, key), t.name+".sum", func() *summing { return &summing{} }), inc)
	case tailTimer:
		t.write(t.name, engine.Process(engine.KeyBy(s, key), t.name+".timer", func() *bucketing { return &bucketing{size: t.size} }), inc)
	case tailWindow:
		win := engine.Window(engine.KeyBy(s, key), t.name+".window", engine.Tumbling{Size: millis(t.size), Lateness: millis(t.late)})
		if t.maps {
			t.write(t.name, engine.Aggregate(win, addMap, emitMap), inc)
		} else {
			t.write(t.name, engine.Aggregate(win, addFlat, emitFlat), inc)
		}
		t.writeLate(win.Late(), inc)
	case tailSlide:
		win := engine.Slide(engine.KeyBy(s, key), t.name+".window", engine.Sliding{
			Size: millis(t.size), Every: millis(t.every), Lateness: millis(t.late),
		})
		if t.maps {
			t.write(t.name, engine.AggregateSliding(win, addMap, mergeMap, emitMap), inc)
		} else {
			t.write(t.name, engine.AggregateSliding(win, addFlat, mergeFlat, emitFlat), inc)
		}
		t.writeLate(win.Late(), inc)
	}
}

func millis(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

func (t *tailSpec) writeLate(late engine.Stream[Rec], inc *incarnation) {
	rows := engine.Map(late, t.name+".late.row", t.row)
	if to := (side{inc.w.tables[t.name+".late"], inc}); inc.w.plan.cfg.AtLeastOnce {
		engine.To[Row](rows, t.name+".late", plain{side: to})
	} else {
		engine.ToTx(rows, t.name+".late", to)
	}
}

// windows are the starts of the windows a time is in.
func (t *tailSpec) windows(at int64) (out []int64) {
	for start := at / t.every * t.every; start > at-t.size; start -= t.every {
		out = append(out, start)
	}
	return out
}

// row is a record as it is. Start is that of the window it would belong to.
func (t *tailSpec) row(r Rec) Row {
	return Row{ID: r.ID, Key: r.Key, Start: r.At / t.size * t.size, N: 1, Sum: r.Val}
}

func (t *tailSpec) write(name string, s engine.Stream[Row], inc *incarnation) {
	to := side{inc.w.tables[name], inc}
	switch t.sink {
	case sinkTx:
		engine.ToTx(s, name, to)
	case sinkPlain:
		engine.To[Row](s, name, plain{side: to})
	case sinkIdem:
		engine.To[Row](s, name, plain{side: to, same: true})
	case sinkAsync:
		if t.size%2 == 0 {
			engine.ToKeyed(engine.KeyBy(s, func(r Row) int { return r.Key }), name, to.background())
		} else {
			engine.To(s, name, to.background())
		}
	}
}

var _ sink.TwoPhase[Row] = side{}

type flat struct{ N, Sum int64 }

func addFlat(a *flat, r Rec) { a.N++; a.Sum += r.Val }

func mergeFlat(into, from *flat) { into.N += from.N; into.Sum += from.Sum }

func emitFlat(k int, sp engine.Span, a *flat) Row {
	return Row{Key: k, Start: sp.Start.UnixMilli(), N: a.N, Sum: a.Sum}
}

func addMap(m *map[int64]int64, r Rec) {
	if *m == nil {
		*m = map[int64]int64{}
	}
	(*m)[r.ID%4] += r.Val
	(*m)[-1]++
}

func mergeMap(into, from *map[int64]int64) {
	if *into == nil {
		*into = map[int64]int64{}
	}
	for k, v := range *from {
		(*into)[k] += v
	}
}

func emitMap(k int, sp engine.Span, m *map[int64]int64) Row {
	out := Row{Key: k, Start: sp.Start.UnixMilli()}
	for i, v := range *m {
		if i < 0 {
			out.N = v
		} else {
			out.Sum += v
		}
	}
	return out
}

// summing emits the running count and sum of each key.
type summing struct{ acc state.Value[flat] }

func (s *summing) Open(b *engine.Setup[int]) error {
	s.acc = state.NewValue[flat](b, "acc")
	return nil
}

func (s *summing) Process(c *engine.Ctx[int], r Rec, out *engine.Out[Row]) error {
	a := s.acc.Ref()
	a.N++
	a.Sum += r.Val
	out.Emit(Row{ID: r.ID, Key: c.Key(), N: a.N, Sum: a.Sum})
	return nil
}

// bucketing sums up stretches of time with a timer at the end of each.
type bucketing struct {
	size int64
	n    state.Map[int64, flat]
}

func (b *bucketing) Open(s *engine.Setup[int]) error {
	b.n = state.NewMap[int64, flat](s, "buckets")
	return nil
}

func (b *bucketing) Process(c *engine.Ctx[int], r Rec, _ *engine.Out[Row]) error {
	end := r.At/b.size*b.size + b.size
	a, _ := b.n.Get(end)
	a.N++
	a.Sum += r.Val
	b.n.Put(end, a)
	c.At(time.UnixMilli(end))
	return nil
}

// OnTimer implements engine.TimerProcessor.
func (b *bucketing) OnTimer(c *engine.Ctx[int], at time.Time, out *engine.Out[Row]) error {
	end := at.UnixMilli()
	a, ok := b.n.Get(end)
	if !ok {
		return errPlanned
	}
	b.n.Delete(end)
	out.Emit(Row{Key: c.Key(), Start: end - b.size, N: a.N, Sum: a.Sum})
	return nil
}
