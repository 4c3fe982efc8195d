package engine

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// alignGroup is the sources that are read at about the same event time. Sources join by Watermarks.Align.
type alignGroup struct {
	drift   int64 // microseconds
	sources map[*vertex]bool
	lead    atomic.Int64 // microseconds from the slowest split to the fastest, when last looked at
	worst   atomic.Int64 // the largest lead so far
}

// alignEvery is how often the allowed time is announced; a pause that isn't renewed for leaseRounds of these ends by itself,
// so that a lost announcement can't hang a job.
const (
	alignEvery  = 200 * time.Millisecond
	leaseRounds = 3
)

// timed notes what an EventTime operator wants of the sources before it.
func (p *Pipeline) timed(v *vertex, w Watermarks) {
	if w.Idle <= 0 && w.Align == "" {
		return
	}
	roots := p.sourcesOf(v)
	for _, r := range roots {
		r.source.ticks = true
	}
	if w.Align == "" {
		return
	}
	drift := cmp.Or(w.MaxDrift, time.Minute)
	g := p.groups[w.Align]
	if g == nil {
		g = &alignGroup{drift: drift.Microseconds(), sources: map[*vertex]bool{}}
		p.groups[w.Align] = g
	}
	if g.drift != drift.Microseconds() {
		p.errorf("alignment group %q has MaxDrift %v elsewhere and %v here", w.Align, micros(g.drift), drift)
	}
	for _, r := range roots {
		g.sources[r] = true
	}
}

// align announces to each group how far its splits may go: the lowest event time of all of them plus the drift. Splits that
// are idle, finished, unstarted or haven't a time yet don't count; without any that count there is no limit.
func (c *coord) align(now time.Time) {
	until := now.Add(leaseRounds * alignEvery)
	for _, g := range c.job.p.groups {
		lowest, highest := int64(maxTime), int64(minTime)
		for v := range g.sources {
			for _, t := range c.tasksOf(v) {
				lowest, highest = min(lowest, t.stats.slowest.Load()), max(highest, t.stats.fastest.Load())
			}
		}
		if lowest <= highest {
			g.lead.Store(highest - lowest)
			g.worst.Store(max(g.worst.Load(), highest-lowest))
		}
		allowed := lowest
		if lowest < math.MaxInt64-g.drift {
			allowed = lowest + g.drift
		}
		for v := range g.sources {
			for _, t := range c.tasksOf(v) {
				t.in.tell(func(t *task) error { t.src.allow(allowed, until); return nil })
			}
		}
	}
}

// alignStatus is every group, by name.
func (p *Pipeline) alignStatus() []AlignStatus {
	var out []AlignStatus
	for _, name := range slices.Sorted(maps.Keys(p.groups)) {
		g := p.groups[name]
		out = append(out, AlignStatus{Group: name, Drift: micros(g.drift), Lead: micros(g.lead.Load()), Worst: micros(g.worst.Load())})
	}
	return out
}

func micros(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
