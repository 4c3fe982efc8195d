package engine

import (
	"context"
	"slices"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/restart"
	"github.com/weirline/weirline/sink"
)

// region is a part of the graph that nothing connects with the rest: neither a link nor an alignment group. Its tasks fail
// and restart together, and no others with them.
type region struct {
	name     string // of its first operator
	vertices []*vertex
	heads    []*vertex
	again    chan time.Duration // capacity 1: make another attempt after this pause

	// Guarded by statusMu.
	tasks    []*task // of the newest attempt that came up
	restarts int64
	last     *Failure // in job.failures

	// Owned by the coordinator.
	att     *attempt // nil while it is down
	waiting bool     // for another attempt, until no record is being published
	pause   time.Duration
	budget  restart.Budget
	stuck   bool // and the log says so
}

// regions finds the regions of a planned pipeline, in graph order.
func (p *Pipeline) regions(heads []*vertex) (out []*region) {
	for _, v := range p.vertices {
		v.region = &region{name: v.name, again: make(chan time.Duration, 1)}
	}
	join := func(a, b *region) {
		for _, v := range p.vertices {
			if v.region == b {
				v.region = a
			}
		}
	}
	for _, v := range p.vertices {
		for _, l := range v.inputs {
			join(l.from.region, v.region)
		}
		for _, g := range p.groups {
			for other := range g.sources {
				if g.sources[v] {
					join(v.region, other.region)
				}
			}
		}
	}
	for _, v := range p.vertices {
		if v.region.vertices = append(v.region.vertices, v); len(v.region.vertices) == 1 {
			v.region.name = v.name
			out = append(out, v.region)
		}
	}
	for _, h := range heads {
		h.region.heads = append(h.region.heads, h)
	}
	return out
}

// run makes one attempt after another, as the coordinator says, until ctx ends. The first begins from rec, the others from
// the newest complete record.
func (r *region) run(ctx context.Context, c *coord, rec *store.Record) {
	var err error
	for {
		a := &attempt{
			job: c.job, coord: c, region: r, byHead: map[*vertex][]*task{},
			uncommitted: map[string]sink.Handle{}, queued: map[string]bool{},
		}
		a.run(ctx, rec, err)
		select {
		case d := <-r.again:
			if !sleep(ctx, d) {
				return
			}
		case <-ctx.Done():
			return
		}
		rec, err = c.job.newest()
		for told := false; outage(err) && sleep(ctx, time.Second); rec, err = c.job.newest() {
			if !told {
				c.job.log.Warn("can't read the newest checkpoint; trying until it can be", "error", err)
			}
			told = true
		}
	}
}

// sleep waits; false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// up takes an attempt that has been opened: its sources are dealt their splits, or drained if that was asked for.
func (c *coord) up(a *attempt) {
	c.setAttempt(a.region, a)
	if a.over {
		c.ended, c.outcome = true, store.Finished
	}
	c.lastAt = time.Now() // what a failure has lost is read again before the next periodic epoch
	if c.stopping == store.Drained {
		c.drain(a)
		return
	}
	for _, s := range a.sources {
		c.welcome(s)
	}
}

// fail takes an attempt down: nothing of it counts any more, a pending epoch is declined. The error is the job's if no
// other attempt may follow.
func (c *coord) fail(a *attempt, cause error) error {
	if a.failed {
		return nil
	}
	a.failed = true
	a.cancel(cause)
	r := a.region
	c.setAttempt(r, nil)
	c.saves, c.unsettled = append(c.saves, c.unsettled...), nil // to be taken anew when everything is up again
	for _, e := range slices.Clone(c.pending) {
		if e.closed {
			continue
		}
		if e.save != nil {
			c.saves = append(c.saves, e.save)
		}
		c.abandon(e)
	}
	pause, err := c.verdict(r, cause)
	if err != nil {
		return err
	}
	r.waiting, r.pause = true, pause
	c.job.log.Warn("restarting", "region", r.name, "in", pause, "attempt", r.budget.Count(), "error", cause)
	return nil
}

// failAll takes everything down, for a cause that is nobody's.
func (c *coord) failAll(cause error) error {
	for _, r := range c.regions {
		if a := r.att; a != nil {
			if err := c.fail(a, cause); err != nil {
				return err
			}
		}
	}
	return nil
}

// release lets regions that wait make their next attempt, once it is known which record is the newest.
func (c *coord) release() {
	for _, r := range c.regions {
		if r.waiting && len(c.pending) == 0 {
			r.waiting = false
			r.again <- r.pause
		}
	}
}

// setAttempt notes that a region is up, or down.
func (c *coord) setAttempt(r *region, a *attempt) {
	j := c.job
	r.att = a
	c.tasks, c.sources, c.allUp = nil, nil, true
	for _, r := range c.regions {
		if r.att == nil {
			c.allUp = false
			continue
		}
		c.tasks = append(c.tasks, r.att.tasks...)
		c.sources = append(c.sources, r.att.sources...)
	}
	j.statusMu.Lock()
	if a != nil {
		r.tasks = a.tasks
		if f := r.last; f != nil && f.Down == 0 {
			f.Down, f.Epoch = max(1, time.Since(f.At)), a.from
		}
	}
	switch {
	case c.stopping != store.Running:
		j.phase = "stopping"
	case c.allUp:
		j.phase = "running"
	case a == nil:
		j.phase = "restarting"
	}
	if c.allUp {
		j.rescaled()
	}
	j.statusMu.Unlock()
}

// tasksOf is the tasks of an operator that begins one, none while its region is down.
func (c *coord) tasksOf(v *vertex) []*task {
	if a := v.region.att; a != nil {
		return a.byHead[v]
	}
	return nil
}

// sum adds up a figure of all attempts.
func (c *coord) sum(f func(a *attempt) int64) (n int64) {
	for _, r := range c.regions {
		if r.att != nil {
			n += f(r.att)
		}
	}
	return n
}
