package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/source"
)

// attempt is one life of the graph, from a restore to an end or a failure. Inboxes, channels and the coordinator belong to
// it: whatever an older attempt still sends reaches nobody.
type attempt struct {
	job     *job
	coord   *coord
	tasks   []*task
	byHead  map[*vertex][]*task
	commits *commitLoop
}

var errStopped = errors.New("stopped")

// runAttempt runs the graph from rec, which may be nil. It returns when everything it started has ended.
func (j *job) runAttempt(ctx context.Context, rec *store.Record) (store.End, error) {
	actx, cancel := context.WithCancelCause(ctx)
	a := &attempt{job: j, byHead: map[*vertex][]*task{}}
	a.coord = newCoord(a)
	var loops sync.WaitGroup
	err := a.open(actx, rec)
	if err == nil {
		j.setAttempt(a)
		err = a.live(actx, cancel, &loops)
	} else {
		for _, t := range a.tasks {
			err = errors.Join(err, t.close())
		}
	}
	cancel(errStopped)
	loops.Wait()
	j.workers.Wait()
	if a.commits != nil {
		a.commits.close()
	}
	return a.coord.outcome, err
}

// live starts all goroutines of the attempt and waits for the first thing that ends it.
func (a *attempt) live(ctx context.Context, cancel context.CancelCauseFunc, loops *sync.WaitGroup) error {
	var tasks sync.WaitGroup
	for _, t := range a.tasks {
		tasks.Go(func() {
			if err := t.run(); err != nil && context.Cause(ctx) != errStopped {
				cancel(fault.At(err, "operator "+t.name))
			}
		})
	}
	for _, s := range a.coord.sources {
		done := s.d.state().done
		loops.Go(func() { s.discoverLoop(ctx, a.coord, done) })
	}
	if a.commits != nil {
		loops.Go(func() { a.commits.run(ctx) })
	}
	err := a.coord.run(ctx)
	cancel(errStopped)
	tasks.Wait()
	if cause := context.Cause(ctx); err == nil && cause != nil && cause != errStopped {
		err = cause
	}
	return err
}

// open makes tasks, channels and nodes, and puts back what was stored. Committers recover before any writer is made.
func (a *attempt) open(ctx context.Context, rec *store.Record) error {
	j := a.job
	heads := j.p.plan()
	if j.store != nil {
		var keep []sink.Handle
		if rec != nil {
			keep = rec.Handles
		}
		if err := a.openCommitters(ctx, keep); err != nil {
			return err
		}
	}
	for _, h := range heads {
		for i := range h.tasks {
			t := &task{
				name: h.name, index: i, job: j, att: a, ctx: ctx, in: newInbox(), inClock: clock{at: minTime},
				log: j.log.With("task", fmt.Sprintf("%s/%d", h.name, i)), poisoners: map[*vertex]*poisoner{},
			}
			t.stats.watermark.Store(minTime)
			t.stats.slowest.Store(maxTime)
			if rec != nil {
				t.restore = &restorer{job: j, rec: rec}
				t.epoch = rec.Epoch
			}
			a.tasks = append(a.tasks, t)
			a.byHead[h] = append(a.byHead[h], t)
		}
	}
	exits := a.connect()
	for _, h := range heads {
		for i, t := range a.byHead[h] {
			if err := a.build(h, t, exits[t]); err != nil {
				return fault.At(err, fmt.Sprintf("operator %s task %d", h.name, i))
			}
		}
	}
	return a.openSources(ctx, rec)
}

// connect makes the channels of all exchanges; the result says where each task sends to.
func (a *attempt) connect() map[*task]map[*link][]*channel {
	limit := a.job.cfg.QueueBatches
	exits := map[*task]map[*link][]*channel{}
	for _, v := range a.job.p.vertices {
		for _, l := range v.inputs {
			if l.fused {
				continue
			}
			for i, from := range a.byHead[l.from.head] {
				if exits[from] == nil {
					exits[from] = map[*link][]*channel{}
				}
				to := a.byHead[v.head]
				if l.kind == linkForward {
					to = to[i : i+1]
				}
				for _, t := range to {
					exits[from][l] = append(exits[from][l], t.in.addChannel(limit, from.in.signal))
				}
			}
		}
	}
	return exits
}

func (a *attempt) build(h *vertex, t *task, exits map[*link][]*channel) error {
	b := &builder{t: t, exits: exits}
	n, err := h.build(b)
	if err != nil {
		return err
	}
	if t.opened != nil {
		return t.opened
	}
	t.head = n.(lifecycle)
	t.receive = h.receive(a.job, n)
	t.chans = make([]clock, len(t.in.chans))
	for i := range t.chans {
		t.chans[i].at = minTime
	}
	if t.src == nil {
		for _, c := range t.clocks {
			c.standAlone()
		}
	}
	return nil
}

func (a *attempt) openSources(ctx context.Context, rec *store.Record) error {
	for _, v := range a.job.p.vertices {
		if v.source == nil {
			continue
		}
		d, err := v.source.open(ctx, source.Task{
			Job: a.job.cfg.Name, Operator: v.name, Parallelism: v.tasks, Log: a.job.log.With("operator", v.name),
			Metrics: a.job.metrics.of(v.name, -1), Request: a.coord.request,
		})
		if err != nil {
			return fault.At(err, "source "+v.name)
		}
		s := &sourceCoord{
			v: v, d: d, tasks: a.byHead[v], held: true, finished: make(chan []any, 1), resume: make(chan struct{}, 1),
		}
		if rec != nil {
			if src, ok := rec.Sources[v.name]; ok {
				if err := d.restore(src); err != nil {
					return fault.At(err, "source "+v.name)
				}
			}
		}
		a.coord.sources = append(a.coord.sources, s)
		a.coord.bySrc[v.name] = s
	}
	return nil
}

func (a *attempt) committerTask(v *vertex) sink.Task {
	return sink.Task{
		Job: a.job.cfg.Name, Operator: v.name, Parallelism: v.tasks, Log: a.job.log.With("operator", v.name),
		Metrics: a.job.metrics.of(v.name, -1), Request: a.coord.request,
	}
}

// recordsRead is how many records all sources have read in this attempt.
func (a *attempt) recordsRead() int64 {
	var n int64
	for _, t := range a.tasks {
		if t.src != nil {
			n += t.src.read()
		}
	}
	return n
}

// replays is how many records a restart would read again: those read since the last complete epoch was taken.
func (a *attempt) replays() int64 {
	a.job.statusMu.Lock()
	defer a.job.statusMu.Unlock()
	return a.recordsRead() - a.job.epochs.records
}

// spawn runs work that belongs to the attempt but to no loop; the attempt's end waits for it.
func (j *job) spawn(f func()) { j.workers.Go(f) }
