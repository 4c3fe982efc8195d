package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// commitLoop is the goroutine that finishes prepared transactions: in epoch order, off the data path, with back-off. It owns
// the committers.
type commitLoop struct {
	att        *attempt
	order      []string // operators, in graph order
	committers map[string]sink.Committer
	jobs       chan commitJob
}

type commitJob struct {
	epoch   uint64
	handles []sink.Handle
}

// maxQueuedCommits bounds the queue; slots bound what can be in it.
const maxQueuedCommits = 1 << 10

// openCommitters makes the committers and lets them recover: what the restored epoch prepared is committed, whatever else
// was left under our slots is cleared, before any writer exists.
func (a *attempt) openCommitters(ctx context.Context, keep []sink.Handle) error {
	a.commits = &commitLoop{att: a, committers: map[string]sink.Committer{}, jobs: make(chan commitJob, maxQueuedCommits)}
	byOp := map[string][]sink.Handle{}
	for _, h := range keep {
		if !a.job.store.IsCommitted(h.Token) {
			byOp[h.Operator] = append(byOp[h.Operator], h)
		}
	}
	for _, v := range a.region.vertices {
		if v.commit == nil {
			continue
		}
		if err := a.openCommitter(ctx, v, byOp[v.name]); err != nil {
			return fault.At(err, "operator "+v.name)
		}
	}
	return nil
}

func (a *attempt) openCommitter(ctx context.Context, v *vertex, keep []sink.Handle) error {
	c, err := v.commit(ctx, a.committerTask(v))
	if err != nil {
		return err
	}
	a.commits.order = append(a.commits.order, v.name)
	a.commits.committers[v.name] = c
	need := v.tasks * a.job.slotsPerTask()
	granted := max(a.job.store.Granted()[v.name], need)
	if err := a.job.store.Grant(v.name, granted); err != nil {
		return err
	}
	slots := make([]sink.Slot, granted)
	for i := range slots {
		slots[i] = a.job.slot(v.name, i)
	}
	old := a.job.cfg.Renamed[v.name]
	for i := range a.job.store.Granted()[old] {
		slots = append(slots, a.job.slot(old, i))
	}
	if err := c.Recover(ctx, keep, slots); err != nil {
		return fault.Ensure(fault.CommitFailed, err, "recover %d transactions", len(keep))
	}
	if len(keep) == 0 {
		return nil
	}
	a.job.log.Info("committed what the restored epoch had prepared", "operator", v.name, "transactions", len(keep))
	return a.job.store.Committed(keep)
}

// slotsPerTask is one open transaction, those of epochs under way, those that may wait for their commit, and those of epochs
// that fail.
func (j *job) slotsPerTask() int {
	return 1 + j.cfg.MaxConcurrent + j.cfg.Uncommitted + max(0, j.cfg.TolerateFailures)
}

func (j *job) slot(op string, id int) sink.Slot {
	return sink.Slot{ID: id, Name: fmt.Sprintf("%s-%s-%d", cmp.Or(j.prefix, j.cfg.Name), op, id)}
}

// slotsOf is the slots of one task, all free at the start of an attempt, the first one last.
func (j *job) slotsOf(v *vertex, index int) []sink.Slot {
	n := j.slotsPerTask()
	out := make([]sink.Slot, n)
	for i := range out {
		out[n-1-i] = j.slot(v.name, index*n+i)
	}
	return out
}

// commit queues what a complete epoch has prepared. A task reports a handle until it has heard that an epoch carrying it is
// complete, so the same one may come several times, the last time after it was committed: queued remembers until it no
// longer comes. Of an attempt that failed while the record was being published nothing comes of it: the next one recovers
// from the record.
func (a *attempt) commit(e *epochRun) {
	var fresh []sink.Handle
	reported := map[string]bool{}
	for _, h := range e.handles {
		if a.job.p.byName[h.Operator].region != a.region {
			continue
		}
		reported[h.Token] = true
		if !a.queued[h.Token] {
			a.queued[h.Token] = true
			a.uncommitted[h.Token] = h
			fresh = append(fresh, h)
		}
	}
	for token := range a.queued {
		if _, waits := a.uncommitted[token]; !waits && !reported[token] {
			delete(a.queued, token)
		}
	}
	if len(fresh) > 0 {
		sortHandles(fresh)
		a.waits++
		a.commits.jobs <- commitJob{e.id, fresh}
	}
}

// handlesOf is every handle of this epoch or an earlier one that is not recorded as committed.
func (c *coord) handlesOf(e *epochRun) []sink.Handle {
	var out []sink.Handle
	for _, r := range c.regions {
		for _, h := range r.att.uncommitted {
			out = append(out, h)
		}
	}
	for _, h := range e.handles {
		if !c.job.p.byName[h.Operator].region.att.queued[h.Token] {
			out = append(out, h)
		}
	}
	sortHandles(out)
	return out
}

// sortHandles orders by epoch, then operator, then slot.
func sortHandles(hs []sink.Handle) {
	slices.SortFunc(hs, func(a, b sink.Handle) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Operator, b.Operator), cmp.Compare(a.Slot.ID, b.Slot.ID))
	})
}

// run is the goroutine.
func (l *commitLoop) run(ctx context.Context) {
	defer func() {
		if r := recover(); r != nil {
			l.att.coord.post(committed{a: l.att, err: panicError("committer", r)})
		}
	}()
	for {
		select {
		case j := <-l.jobs:
			err := l.commit(ctx, j)
			if ctx.Err() != nil {
				return
			}
			l.att.coord.post(committed{a: l.att, epoch: j.epoch, handles: j.handles, err: err})
			if err != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// commit finishes the transactions of one epoch, operator by operator, and records it; only then may slots be used again.
func (l *commitLoop) commit(ctx context.Context, j commitJob) error {
	for _, op := range l.order {
		var hs []sink.Handle
		for _, h := range j.handles {
			if h.Operator == op {
				hs = append(hs, h)
			}
		}
		if len(hs) == 0 {
			continue
		}
		if err := l.retry(ctx, op, func() error { return l.committers[op].Commit(ctx, hs) }); err != nil {
			return fault.At(fault.Ensure(fault.CommitFailed, err, "commit epoch %d", j.epoch), "operator "+op)
		}
	}
	return l.retry(ctx, "", func() error { return l.att.job.store.Committed(j.handles) })
}

// retry repeats what may heal, logging once a streak.
func (l *commitLoop) retry(ctx context.Context, op string, f func() error) error {
	delay, streak := 50*time.Millisecond, 0
	for {
		err := f()
		if err == nil || sink.IsPermanent(err) || ctx.Err() != nil {
			if err == nil && streak > 0 {
				l.att.job.log.Info("commits succeed again", "operator", op, "failed", streak)
			}
			return err
		}
		if streak++; streak == 1 {
			l.att.job.log.Warn("commit failed; it is retried", "operator", op, "error", err)
		}
		wait := delay
		if d, ok := sink.RetryDelay(err); ok {
			wait = d
		}
		if !sleep(ctx, wait) {
			return ctx.Err()
		}
		delay = min(2*delay, 10*time.Second)
	}
}

func (l *commitLoop) close() {
	for op, c := range l.committers {
		if err := c.Close(); err != nil {
			l.att.job.log.Warn("close committer", "operator", op, "error", err)
		}
	}
}

// committed frees the slots of transactions whose commit is recorded.
func (c *coord) committed(ev committed) error {
	if ev.err != nil {
		return c.fail(ev.a, ev.err)
	}
	ev.a.waits--
	for _, h := range ev.handles {
		delete(ev.a.uncommitted, h.Token)
		for _, t := range ev.a.tasks {
			for _, p := range t.parts {
				if p.freed != nil && p.name == h.Operator && h.Slot.ID/c.job.slotsPerTask() == t.index {
					t.in.tell(func(*task) error { p.freed(h.Slot); return nil })
				}
			}
		}
	}
	return nil
}
