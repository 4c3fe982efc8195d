package engine

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// epochRun is an epoch being taken.
type epochRun struct {
	id         uint64
	end        store.End
	began      time.Time
	waiting    map[*task]bool
	rec        *store.Record
	acked      map[string][]store.Split
	handles    []sink.Handle
	pause      time.Duration
	bytes      int64
	aligned    time.Duration // longest alignment of a task
	inFlight   int64
	overtook   bool       // some task has stored what its barriers had overtaken
	overtaking bool       // the tasks have been told so, or needn't be
	closed     bool       // all acks are in; the record is being published
	asked      bool       // it was requested
	save       *savepoint // nil: a checkpoint of the job
	records    map[*attempt]int64
}

// maybeEpoch begins an epoch if one is due: the last one of a stop or an end, one that was requested, or a periodic one.
func (c *coord) maybeEpoch(now time.Time) error {
	if c.job.store == nil {
		c.requested = false
		c.resumeSwitches(0)
		return nil
	}
	c.forget()
	if c.stopping != store.Running && !c.ended && c.lastFailure != nil && now.Sub(c.stopAt) > c.job.cfg.CommitWait {
		return fault.Wrap(fault.EpochFailures, c.lastFailure, "no last checkpoint within %v of the stop; the next start resumes from epoch %d",
			c.job.cfg.CommitWait, c.job.lastEpoch())
	}
	for _, e := range c.pending {
		if e.save != nil && !e.closed && e.save.given.Load() {
			return c.failEpoch(e, context.Canceled)
		}
		if !e.closed && now.Sub(e.began) > c.job.cfg.CheckpointTimeout {
			return c.failEpoch(e, fault.New(fault.EpochTimeout, "epoch %d is not acked after %v by %s",
				e.id, c.job.cfg.CheckpointTimeout, e.slowest()))
		}
	}
	if len(c.pending) > 0 && c.pending[0].save != nil {
		return nil // a savepoint is alone
	}
	if len(c.pending) == 0 {
		if s := c.nextSave(); s != nil {
			return c.beginEpoch(c.outcome, s, now)
		}
	}
	if c.ended || !c.allUp || now.Before(c.retryAt) || len(c.pending) >= c.job.cfg.MaxConcurrent {
		return nil
	}
	end := store.Running
	switch {
	case c.allDrained():
		end = c.endKind()
	case c.stopping == store.Suspended:
		end = store.Suspended
	case c.requested:
	case c.stopping == store.Running && c.due(now):
	default:
		return nil
	}
	if end != store.Running && len(c.pending) > 0 {
		return nil // the last one is alone
	}
	return c.beginEpoch(end, nil, now)
}

// due says whether it is time for a periodic epoch. While some source reads backlog another interval holds.
func (c *coord) due(now time.Time) bool {
	every := c.job.cfg.CheckpointEvery
	if b := c.job.cfg.BacklogEvery; b != 0 && slices.ContainsFunc(c.sources, func(s *sourceCoord) bool { return s.d.Backlog() }) {
		every = b
	}
	return every > 0 && now.Sub(c.lastAt) >= every && !now.Before(c.pauseUntil)
}

func (c *coord) beginEpoch(end store.End, save *savepoint, now time.Time) error {
	j := c.job
	id, err := j.store.NextEpoch()
	if err != nil {
		return c.noEpoch(err, save, now)
	}
	e := &epochRun{
		id: id, end: end, began: now, waiting: map[*task]bool{}, acked: map[string][]store.Split{},
		rec: &store.Record{
			Format: store.Format, Job: j.cfg.Name, Epoch: id, Taken: now.UTC(), KeyGroups: j.cfg.KeyGroups, End: end,
			Sources: map[string]store.Source{}, Operators: map[string]store.Operator{}, Origin: j.origin, Prefix: j.prefix,
		},
		asked: c.requested, overtaking: !j.cfg.Unaligned || c.requested || end != store.Running || save != nil, save: save,
		records: map[*attempt]int64{},
	}
	if c.stopping == store.Drained {
		e.rec.End = store.Drained // also if not all has drained yet
	}
	for _, r := range c.regions {
		e.records[r.att] = r.att.recordsRead()
	}
	for _, v := range j.p.vertices {
		e.rec.Operators[v.name] = store.Operator{Parallelism: v.tasks}
	}
	for _, s := range c.sources {
		e.rec.Sources[s.v.name] = s.d.Snapshot()
		if s.derived && s.carried == 0 && save == nil {
			s.carried = id
		}
	}
	for _, t := range c.tasks {
		e.waiting[t] = true
	}
	c.pending, c.requested = append(c.pending, e), c.requested && save != nil
	if save != nil {
		save.to.Discard(save.epoch) // of an attempt that failed
		save.epoch = id
		c.homes.Store(id, save.to)
	} else {
		c.lastAt = now
	}
	for _, s := range c.sources {
		for _, t := range s.tasks {
			t.in.tell(func(t *task) error {
				if end == store.Suspended {
					t.src.stop()
				}
				return t.barrier(id, nil)
			})
		}
	}
	return nil
}

// overtake lets the barriers of periodic epochs that have taken long enough overtake queued records.
func (c *coord) overtake(now time.Time) {
	for _, e := range c.pending {
		if e.overtaking || now.Sub(e.began) < c.job.cfg.UnalignedAfter {
			continue
		}
		e.overtaking = true
		for _, t := range c.tasks {
			if t.src == nil {
				t.in.tell(func(t *task) error { t.overtaking = e.id; return nil })
			}
		}
	}
}

// noEpoch is an epoch that could not even get a number.
func (c *coord) noEpoch(err error, save *savepoint, now time.Time) error {
	if save != nil {
		save.done <- err
		return nil
	}
	c.retryAt = now.Add(retryPause(c.failures))
	return c.countFailure(err, 0)
}

func retryPause(failures int) time.Duration {
	return min(100*time.Millisecond<<min(failures, 6), 5*time.Second)
}

func (e *epochRun) slowest() string {
	var names []string
	for t := range e.waiting {
		names = append(names, t.name)
	}
	sort.Strings(names)
	return "operator " + strings.Join(names, ", ")
}

// acked takes a task's part of the cut.
func (c *coord) acked(a ack) error {
	i := slices.IndexFunc(c.pending, func(e *epochRun) bool { return e.id == a.epoch })
	if i < 0 || !c.pending[i].waiting[a.t] {
		return nil // of an epoch that was given up
	}
	e := c.pending[i]
	if a.err != nil {
		return c.failEpoch(e, a.err)
	}
	delete(e.waiting, a.t)
	for name, st := range a.ops {
		op := e.rec.Operators[name]
		op.Tasks = append(op.Tasks, st)
		e.rec.Operators[name] = op
	}
	if a.t.src != nil {
		e.acked[a.t.name] = append(e.acked[a.t.name], a.splits...)
	}
	e.handles = append(e.handles, a.handles...)
	e.pause, e.bytes = max(e.pause, a.pause), e.bytes+a.bytes
	e.aligned, e.inFlight, e.overtook = max(e.aligned, a.aligned), e.inFlight+a.inFlight, e.overtook || a.overtook
	e.rec.InFlight = append(e.rec.InFlight, a.flights...)
	return c.closeNext()
}

// closeNext publishes the newest epoch that all tasks have acked, if none is being published. Older ones are dropped: it has
// everything they have, their transactions included.
func (c *coord) closeNext() error {
	last := -1
	for i, e := range c.pending {
		if e.closed {
			return nil
		}
		if len(e.waiting) == 0 {
			last = i
		}
	}
	if last < 0 {
		return nil
	}
	for _, older := range c.pending[:last] {
		c.discard(older.id)
	}
	c.pending = c.pending[last:]
	return c.closeEpoch(c.pending[0])
}

// discard deletes what was written for an epoch, away from here: a publish that goes on holds it up.
func (c *coord) discard(epoch uint64) {
	c.workers.Go(func() { c.storeOf(epoch).Discard(epoch) })
}

// drop takes an epoch off the list.
func (c *coord) drop(e *epochRun) {
	c.pending = slices.DeleteFunc(c.pending, func(p *epochRun) bool { return p == e })
}

// closeEpoch assembles the record and has it published.
func (c *coord) closeEpoch(e *epochRun) error {
	for _, s := range c.sources {
		src := e.rec.Sources[s.v.name]
		if err := s.d.Merge(&src, e.acked[s.v.name]); err != nil {
			return c.failEpoch(e, fault.At(err, "source "+s.v.name))
		}
		e.rec.Sources[s.v.name] = src
	}
	for name, op := range e.rec.Operators {
		sort.Slice(op.Tasks, func(i, k int) bool { return op.Tasks[i].Index < op.Tasks[k].Index })
		e.rec.Operators[name] = op
	}
	slices.SortFunc(e.rec.InFlight, func(a, b store.Flight) int {
		return cmp.Or(cmp.Compare(a.To, b.To), cmp.Compare(a.From, b.From), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Index, b.Index))
	})
	e.rec.Handles = c.handlesOf(e)
	e.closed = true
	c.workers.Go(func() {
		c.post(published{e, c.storeOf(e.id).Publish(e.rec)})
	})
	return nil
}

// published is the store's answer: the moment an epoch is complete, or isn't.
func (c *coord) published(p published) error {
	e, now := p.e, time.Now()
	if e.save != nil && p.err == nil {
		c.drop(e)
		c.saved(e)
		return nil
	}
	if errors.Is(p.err, store.ErrUnknown) && e.save == nil {
		c.drop(e)
		return c.failAll(p.err) // the next attempts ask the store what is true
	}
	if p.err != nil {
		return c.failEpoch(e, p.err)
	}
	c.drop(e)
	if c.failures > 0 {
		c.job.log.Info("checkpoints succeed again", "epoch", e.id, "failed", c.failures)
	}
	c.failures, c.retryAt, c.lastFailure = 0, time.Time{}, nil
	c.note(e, now)
	c.settled()
	c.pauseUntil = now.Add(c.job.cfg.MinPause)
	for _, t := range c.tasks {
		t.in.tell(func(t *task) error { t.complete(e.id); return nil })
	}
	for a, n := range e.records {
		a.durable.Store(n)
		a.commit(e)
	}
	if e.end != store.Running {
		c.ended, c.outcome = true, e.end
	}
	c.resumeSwitches(e.id)
	return c.closeNext()
}

// note keeps the figures of a complete epoch.
func (c *coord) note(e *epochRun, now time.Time) {
	j := c.job
	j.statusMu.Lock()
	defer j.statusMu.Unlock()
	s := &j.epochs
	s.Completed++
	s.Last, s.LastAt, s.LastDuration = e.id, now, now.Sub(e.began)
	s.LastPause, s.LastBytes = e.pause, e.bytes
	s.LongestPause = max(s.LongestPause, e.pause)
	s.LastInFlight, s.LastAlignment = e.inFlight, e.aligned
	if e.overtook {
		s.Unaligned++
	}
	if s.Durations = append(s.Durations, s.LastDuration); len(s.Durations) > 1024 {
		s.Durations = s.Durations[512:]
	}
	j.log.Debug("epoch complete", "epoch", e.id, "duration", s.LastDuration, "pause", e.pause, "bytes", e.bytes)
}

// resumeSwitches lets sources go on whose change of stage is durable now.
func (c *coord) resumeSwitches(epoch uint64) {
	for _, s := range c.sources {
		if s.derived && (c.job.store == nil || s.carried != 0 && s.carried <= epoch) {
			s.switching, s.derived, s.carried = false, false, 0
			s.resume <- struct{}{}
		}
	}
}

// failEpoch gives up an epoch. Others that are under way go on.
func (c *coord) failEpoch(e *epochRun, cause error) error {
	c.abandon(e)
	if e.save != nil {
		e.save.done <- cause // the job doesn't mind
		return nil
	}
	for _, t := range c.tasks {
		if fault.CodeOf(cause) == fault.StoreFull.ID && t.src != nil {
			continue // a restart would not help: the next barrier comes through, whatever input waits
		}
		t.in.tell(func(t *task) error { return t.declined() })
	}
	c.lastAt, c.retryAt = time.Time{}, time.Now().Add(retryPause(c.failures))
	if err := c.countFailure(cause, e.id); err != nil {
		return err
	}
	return c.closeNext()
}

// abandon gives up an epoch as if it had never begun; what was requested is requested again.
func (c *coord) abandon(e *epochRun) {
	c.drop(e)
	c.requested = c.requested || e.asked
	for _, t := range c.tasks {
		t.in.tell(func(t *task) error { t.abort(e.id); return nil })
	}
	for _, s := range c.sources {
		if s.carried == e.id {
			s.carried, c.requested = 0, true
		}
	}
	c.discard(e.id)
}

// countFailure logs the first failure of a streak, and restarts all regions when there are too many. A store that can't be
// written doesn't count: a restart would not help, and nothing is lost while the job goes on.
func (c *coord) countFailure(cause error, epoch uint64) error {
	j := c.job
	if fault.CodeOf(cause) == fault.Fenced.ID {
		return c.failAll(cause)
	}
	c.failures++
	c.lastFailure = cause
	j.statusMu.Lock()
	j.epochs.Failed++
	j.statusMu.Unlock()
	if c.failures == 1 {
		j.log.Warn("checkpoint failed; the job goes on and retries", "epoch", epoch, "error", cause,
			"a_restart_would_replay_records", c.sum((*attempt).replays))
	}
	if most := j.cfg.TolerateFailures; most >= 0 && c.failures > most && fault.CodeOf(cause) != fault.StoreFull.ID {
		n := c.failures
		c.failures = 0
		return c.failAll(fault.Wrap(fault.EpochFailures, cause, "%d checkpoints failed in a row", n))
	}
	return nil
}
