package main

import (
	"context"
	"io"
	"time"

	"github.com/weirline/weirline/benchmarks/internal/load"
	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/enumerator"
	"github.com/weirline/weirline/reader"
	"github.com/weirline/weirline/source"
)

// schedule is a source held to a rate: record seq is due seq/rate after the start, in steady time, and a source that was
// held up makes up for it at once.
type schedule struct {
	start   time.Time
	rate    float64
	records int64
	keys    uint32
	splits  int
	watch   *load.Watch
}

// lead is the time before the first record, for the job to start in.
const lead = 200 * time.Millisecond

func newSchedule(o options, w *load.Watch) *schedule {
	return &schedule{
		start: time.Now().Add(lead), rate: o.rate, records: o.records, keys: o.keys, splits: o.parallelism, watch: w,
	}
}

// after is when a record is due.
func (s *schedule) after(seq int64) time.Duration {
	return time.Duration(float64(seq) / s.rate * float64(time.Second))
}

func (s *schedule) source() source.Source[load.Event, gen.Split] {
	list := func(context.Context) ([]gen.Split, error) {
		var out []gen.Split
		for i := range s.splits {
			out = append(out, gen.Split{Index: i, Step: s.splits, Next: int64(i)})
		}
		return out, nil
	}
	policy := enumerator.Options{Policy: enumerator.Spread}
	return source.Of(enumerator.With(policy, enumerator.List(list)), reader.Each(s.open))
}

func (s *schedule) open(_ context.Context, at gen.Split) (source.Cursor[load.Event, gen.Split], error) {
	t, err := newSleeper()
	if err != nil {
		return nil, err
	}
	return &paced{schedule: s, at: at, sleep: t, fill: s.watch.Timing(s.make)}, nil
}

func (s *schedule) make(from, step int64, n int, out *source.Batch[load.Event]) {
	for range n {
		e := load.Make(from, s.keys)
		e.At = int64(s.after(from))
		out.Add(e)
		from += step
	}
}

// paced reads one split of a schedule.
type paced struct {
	*schedule
	at    gen.Split
	sleep *sleeper
	fill  load.Filler
}

func (p *paced) Read(ctx context.Context, out *source.Batch[load.Event]) (gen.Split, error) {
	for {
		if p.at.Next >= p.records {
			return p.at, io.EOF
		}
		due := int64(time.Since(p.start).Seconds()*p.rate) + 1 // the first record that isn't due yet
		if due = min(due, p.records); due > p.at.Next {
			step := int64(p.at.Step)
			n := min(int64(out.Room()), (due-1-p.at.Next)/step+1)
			p.fill(p.at.Next, step, int(n), out)
			p.at.Next += n * step
			return p.at, nil
		}
		if err := ctx.Err(); err != nil {
			return p.at, err
		}
		if err := p.sleep.sleep(min(max(p.after(p.at.Next)-time.Since(p.start), grain), nap)); err != nil {
			return p.at, err
		}
	}
}

const (
	grain = 50 * time.Microsecond // the shortest sleep: what becomes due within it comes together
	nap   = 5 * time.Millisecond  // the longest one: then the context is looked at
)

func (p *paced) Close() error { return p.sleep.close() }
