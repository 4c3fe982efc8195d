package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/source"
)

// attempt is one life of a region, from a restore to an end or a failure. Inboxes, channels, split tables and committers
// belong to it: whatever an older attempt still sends reaches nobody but what is left of that attempt.
type attempt struct {
	job     *job
	coord   *coord
	region  *region
	cancel  context.CancelCauseFunc
	tasks   []*task
	byHead  map[*vertex][]*task
	sources []*sourceCoord
	commits *commitLoop
	loops   sync.WaitGroup // everything the attempt has started
	from    uint64         // epoch it began from
	durable atomic.Int64   // records read when the newest complete epoch was taken

	// Owned by the coordinator.
	over        bool // it began from the end of the input: there is nothing to run
	failed      bool
	drained     int                    // tasks
	uncommitted map[string]sink.Handle // by token: in a complete epoch, commit not recorded
	queued      map[string]bool        // by token: given to the commit loop, and perhaps still reported
	waits       int                    // epochs with handles that are being committed
}

var errStopped = errors.New("stopped")

// taskError is the error of a task, with what it was doing.
type taskError struct {
	task, operator string
	error
}

// run lives from rec, which may be nil, until ctx or the attempt is cancelled, and returns when everything it started has
// ended. An err says that there is nothing to begin from.
func (a *attempt) run(ctx context.Context, rec *store.Record, err error) {
	ctx, a.cancel = context.WithCancelCause(ctx)
	if err == nil {
		err = a.open(ctx, rec)
	}
	if err == nil {
		a.coord.post(attemptUp{a})
		a.start(ctx)
		<-ctx.Done()
	} else {
		for _, t := range a.tasks {
			err = errors.Join(err, t.close())
		}
		a.cancel(err)
	}
	a.coord.post(attemptDown{a, context.Cause(ctx)})
	for _, t := range a.tasks {
		for _, d := range t.disks {
			d.Leave() // after the post: what now fails to be written is no failure of its epoch
		}
	}
	a.loops.Wait()
	for _, t := range a.tasks {
		for _, d := range t.disks {
			d.Close()
		}
	}
	if a.commits != nil {
		a.commits.close()
	}
}

// start starts all goroutines of the attempt.
func (a *attempt) start(ctx context.Context) {
	for _, t := range a.tasks {
		a.loops.Go(func() {
			if err := t.run(); err != nil && ctx.Err() == nil {
				a.cancel(taskError{t.place(), t.doing(), fault.At(err, "operator "+t.name)})
			}
		})
	}
	for _, s := range a.sources {
		a.loops.Go(func() { s.discoverLoop(ctx, a.coord) })
	}
	if a.commits != nil {
		a.loops.Go(func() { a.commits.run(ctx) })
	}
}

// open makes tasks, channels and nodes, and puts back what was stored. Committers recover before any writer is made.
func (a *attempt) open(ctx context.Context, rec *store.Record) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = panicError("region "+a.region.name, r)
		}
	}()
	j := a.job
	if j.store != nil {
		var keep []sink.Handle
		if rec != nil {
			keep, a.from = rec.Handles, rec.Epoch
		}
		if err := a.openCommitters(ctx, keep); err != nil {
			return err
		}
	}
	if a.over = rec != nil && rec.End == store.Finished; a.over {
		return nil // nothing to run
	}
	for _, h := range a.region.heads {
		for i := range h.tasks {
			t := &task{
				name: h.name, index: i, job: j, att: a, ctx: ctx, in: newInbox(), inClock: clock{at: minTime},
				log: j.log.With("task", fmt.Sprintf("%s/%d", h.name, i)), poisoners: map[*vertex]*poisoner{}, edges: map[*link]output{},
			}
			t.stats.watermark.Store(minTime)
			t.stats.slowest.Store(maxTime)
			t.stats.fastest.Store(minTime)
			if rec != nil {
				t.restore = &restorer{job: j, rec: rec}
				t.epoch = rec.Epoch
			}
			a.tasks = append(a.tasks, t)
			a.byHead[h] = append(a.byHead[h], t)
		}
	}
	exits := a.connect()
	for _, h := range a.region.heads {
		for i, t := range a.byHead[h] {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := a.build(h, t, exits[t]); err != nil {
				return fault.At(err, fmt.Sprintf("operator %s task %d", h.name, i))
			}
		}
	}
	if rec != nil {
		if err := a.replay(rec); err != nil {
			return err
		}
	}
	return a.openSources(ctx, rec)
}

// connect makes the channels of all exchanges; the result says where each task sends to.
func (a *attempt) connect() map[*task]map[*link][]*channel {
	limit := a.job.cfg.QueueBatches
	exits := map[*task]map[*link][]*channel{}
	for _, v := range a.region.vertices {
		for _, l := range v.inputs {
			if l.fused {
				continue
			}
			if l.flight != nil {
				l.codec, _ = l.flight() // Check has refused types without one, if they are needed
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
					c := t.in.addChannel(limit, a.job.queueBytes, from.in.signal)
					c.sender, c.receiver = from.place(), t.place()
					from.exits = append(from.exits, c)
					c.aside = v.aside && l.kind == linkBroadcast
					c.link, c.from = l, i
					exits[from][l] = append(exits[from][l], c)
				}
			}
		}
	}
	return exits
}

func (a *attempt) build(h *vertex, t *task, exits map[*link][]*channel) error {
	b := &builder{t: t, exits: exits, sides: map[*vertex][]lifecycle{}}
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
		if t.chans[i].at = minTime; t.in.chans[i].aside {
			t.chans[i].kind = clockIdle
		}
	}
	if t.src == nil {
		for _, c := range t.clocks {
			c.standAlone()
		}
	}
	return nil
}

func (a *attempt) openSources(ctx context.Context, rec *store.Record) error {
	for _, v := range a.region.vertices {
		if v.source == nil {
			continue
		}
		d, err := v.source.open(ctx, source.Task{
			Job: a.job.cfg.Name, Operator: v.name, Parallelism: v.tasks, Log: a.job.log.With("operator", v.name),
			Metrics: a.job.metrics.Of(v.name, -1), Request: a.coord.request,
		})
		if err != nil {
			return fault.At(err, "source "+v.name)
		}
		s := &sourceCoord{
			att: a, v: v, d: d, tasks: a.byHead[v], held: true, finished: make(chan []any, 1), resume: make(chan struct{}, 1),
		}
		if rec != nil {
			if src, ok := rec.Sources[v.name]; ok {
				if err := d.Restore(src); err != nil {
					return fault.At(err, "source "+v.name)
				}
			}
		}
		s.listed = d.State().Done
		a.sources = append(a.sources, s)
	}
	return nil
}

// sourceOf is the coordinator's side of a source.
func (a *attempt) sourceOf(v *vertex) *sourceCoord {
	i := slices.IndexFunc(a.sources, func(s *sourceCoord) bool { return s.v == v })
	return a.sources[i]
}

func (a *attempt) committerTask(v *vertex) sink.Task {
	return sink.Task{
		Job: a.job.cfg.Name, Operator: v.name, Parallelism: v.tasks, Log: a.job.log.With("operator", v.name),
		Metrics: a.job.metrics.Of(v.name, -1), Request: a.coord.request,
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
func (a *attempt) replays() int64 { return a.recordsRead() - a.durable.Load() }
