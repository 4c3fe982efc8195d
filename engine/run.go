package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/meter"
	"github.com/weirline/weirline/internal/statefiles"
)

// job is a running pipeline.
type job struct {
	p       *Pipeline
	cfg     Config
	log     *slog.Logger
	store   store.Store // nil without Config.Dir
	metrics *meter.Set
	pools   sync.Map // reflect.Type -> *pool[T]
	origin  string   // of the record begun from, as is the prefix of the names of slots
	prefix  string
	ended   chan struct{} // closed when Run is about to return
	work    *statefiles.Work

	queueBytes int64 // bound of each queue

	statusMu sync.Mutex
	saves    []*savepoint // asked for and not done
	scaling  *rescaling   // nil = none
	scales   int64
	scaled   time.Duration // the last one took
	coord    *coord
	stopWith store.End // asked before the coordinator was there
	epochs   EpochStatus
	failures []*Failure
	began    time.Time
	phase    string
	outcome  string       // how it ended
	left     atomic.Int64 // transactions prepared in a complete epoch, commit not recorded
}

// StopMode is how a job ends on request.
type StopMode int

// The modes.
const (
	// Suspend stops the sources, processes what is in flight, commits one last epoch. Windows stay open; a new run goes on.
	Suspend StopMode = iota
	// Drain ends the input: windows fire, and then one last epoch is committed.
	Drain
)

// Run runs the pipeline until its input ends, until it is stopped, or until it fails for good. When ctx ends, the job is
// suspended: in flight records are processed, one last epoch is committed, which takes at most Config.CommitWait longer than
// the epoch itself. A job whose state says that its input has ended runs nothing and returns nil.
func (p *Pipeline) Run(ctx context.Context) error {
	if err := p.Check(); err != nil {
		return err
	}
	j, err := p.open()
	if err != nil {
		return err
	}
	if j.store != nil {
		defer j.store.Close()
	}
	if j.work, err = statefiles.Open(j.cfg.State, j.store, j.cfg.Dir, j.cfg.Name, j.store != nil); err == nil {
		err = errors.Join(j.run(ctx), j.work.Close())
	}
	j.setEnded()
	close(j.ended)
	return err
}

// open takes the claim on the state.
func (p *Pipeline) open() (*job, error) {
	j := &job{p: p, cfg: p.cfg, log: p.cfg.Log, metrics: meter.New(), began: time.Now(), phase: "starting", ended: make(chan struct{})}
	open := p.cfg.Store
	if open == nil && p.cfg.Dir != "" {
		open = func(o store.Options) (store.Store, error) { return store.Open(p.cfg.Dir, o) }
	}
	if open != nil {
		var err error
		j.store, err = open(store.Options{Job: p.cfg.Name, Retain: p.cfg.Retain, Log: p.cfg.Log, Salvage: p.cfg.Fallback})
		if err != nil {
			return nil, err
		}
	}
	p.setJob(j)
	return j, nil
}

func (j *job) run(ctx context.Context) error {
	if err := j.p.Preflight(ctx); err != nil {
		return err
	}
	if j.cfg.Begin != nil && j.store != nil {
		if err := j.cfg.Begin(j.store); err != nil {
			return err
		}
	}
	if ctx.Err() == nil {
		defer context.AfterFunc(ctx, func() { j.stop(store.Suspended) })()
	} else {
		j.stop(store.Suspended) // before the coordinator is there: the job starts and stops
	}
	for {
		c, err := j.live(ctx)
		if err != nil {
			return err
		}
		if j.rescale() {
			continue
		}
		if c.outcome != store.Running {
			j.setOutcome(c.outcome)
			j.log.Info("job ended", "how", endName(c.outcome), "epoch", j.lastEpoch())
		}
		return j.dropAtEnd(c.outcome)
	}
}

// live runs the graph from the newest epoch until it has ended, or makes way for one of another parallelism.
func (j *job) live(ctx context.Context) (*coord, error) {
	rec, err := j.latest()
	if err != nil {
		return nil, err
	}
	heads := j.p.plan()
	if j.queueBytes, err = j.p.queueBytes(); err != nil {
		j.log.Warn("queues may take more memory than they should", "error", err) // Run has checked the parallelism it began with
	}
	c := newCoord(j, j.p.regions(heads))
	j.logStart(rec)
	j.setCoord(c)
	return c, c.run(ctx, rec)
}

// dropAtEnd deletes the checkpoints of a job that has come to its end, if that is wanted and nothing is left to commit.
func (j *job) dropAtEnd(end store.End) error {
	if !j.cfg.DropAtEnd || j.store == nil || end != store.Finished && end != store.Drained || j.left.Load() > 0 {
		return nil
	}
	return j.store.Drop()
}

// latest is the epoch the job begins from.
func (j *job) latest() (*store.Record, error) {
	rec, err := j.newest()
	if err != nil || rec == nil {
		j.prefix = store.PrefixOf(j.cfg.Name)
		return nil, err
	}
	if j.cfg.Parallelism > rec.KeyGroups {
		return nil, fault.New(fault.Parallelism, "parallelism %d with %d key groups, fixed by the first checkpoint", j.cfg.Parallelism, rec.KeyGroups)
	}
	j.statusMu.Lock()
	j.cfg.KeyGroups = rec.KeyGroups
	j.statusMu.Unlock()
	j.origin, j.prefix = rec.Origin, rec.Prefix
	for _, h := range rec.Handles {
		if v := j.p.byName[h.Operator]; (v == nil || v.commit == nil) && !j.store.IsCommitted(h.Token) {
			return nil, fault.New(fault.UncommittedOp, "operator %q has an uncommitted transaction %s", h.Operator, h.Slot.Name)
		}
	}
	if err := j.keepFlights(rec); err != nil {
		return nil, err
	}
	return rec, j.checkDropped(rec)
}

// newest is the newest complete record, or the newest one that is whole if that is allowed.
func (j *job) newest() (*store.Record, error) {
	if j.store == nil {
		return nil, nil
	}
	rec, err := j.store.Latest()
	if err != nil && j.cfg.Fallback && errors.Is(err, fault.New(fault.DamagedEpoch, "")) {
		j.log.Warn("the newest checkpoint is damaged; falling back as allowed; what was committed since will appear again", "error", err)
		rec, err = j.store.Fallback()
	}
	if err != nil || rec == nil {
		return nil, err
	}
	return rec, j.cfg.rename(rec)
}

func (j *job) logStart(rec *store.Record) {
	if rec == nil {
		j.log.Info("job starts", "job", j.cfg.Name, "parallelism", j.cfg.Parallelism, "state", j.cfg.Dir)
		return
	}
	if rec.End == store.Finished {
		j.log.Info("the input had ended; nothing to run but what is uncommitted", "epoch", rec.Epoch)
		return
	}
	j.log.Info("job resumes", "job", j.cfg.Name, "parallelism", j.cfg.Parallelism, "epoch", rec.Epoch, "taken", rec.Taken)
	for _, v := range j.p.vertices {
		if _, ok := rec.Operators[v.name]; !ok {
			j.log.Info("the checkpoint doesn't know this operator; it starts empty", "operator", v.name)
		}
	}
	if rec.End == store.Drained {
		j.log.Warn("this state was drained: windows that were open then have fired, and may fire again with what follows")
	}
}

// Stop asks the job to end; Run returns when it has. Before Run it asks the job to end as soon as it has started: Drain then
// means resume, read nothing more, let windows fire, end.
func (p *Pipeline) Stop(m StopMode) {
	end := store.Suspended
	if m == Drain {
		end = store.Drained
	}
	p.mu.Lock()
	j := p.job
	if j == nil {
		p.stopEarly = end
	}
	p.mu.Unlock()
	if j != nil {
		j.stop(end)
	}
}

func (j *job) stop(end store.End) {
	j.statusMu.Lock()
	if j.stopWith == store.Running {
		j.stopWith = end
	}
	c := j.coord
	j.phase = "stopping"
	j.statusMu.Unlock()
	if c != nil {
		c.post(stopAsked{end})
	}
}

// Checkpoint asks for a checkpoint now.
func (p *Pipeline) Checkpoint() {
	if j := p.running(); j != nil {
		j.statusMu.Lock()
		c := j.coord
		j.statusMu.Unlock()
		if c != nil {
			c.request()
		}
	}
}

// setCoord notes the coordinator. What was asked before it was there is carried out once everything is up.
func (j *job) setCoord(c *coord) {
	j.statusMu.Lock()
	j.coord, c.stopping, c.stopAt = c, j.stopWith, time.Now()
	if j.scaling != nil && j.scaling.tasks != j.cfg.Parallelism {
		c.stopping = store.Suspended
	}
	for _, s := range j.saves {
		c.post(s)
	}
	j.statusMu.Unlock()
}

func (j *job) lastEpoch() uint64 {
	j.statusMu.Lock()
	defer j.statusMu.Unlock()
	return j.epochs.Last
}

func endName(e store.End) string {
	return [...]string{"running", "suspended", "drained", "finished"}[e]
}

func preflightError(v *vertex, err error) error {
	if fault.CodeOf(err) != "" {
		return fault.At(err, "operator "+v.name)
	}
	return fault.Wrap(fault.Preflight, err, "check before start").At("operator " + v.name)
}

func panicError(where string, r any) error {
	return fault.New(fault.UserPanic, "%s", fmt.Sprintf("panic: %v\n%s", r, debug.Stack())).At(where)
}

// poolFor is the pool of batches of T, shared by the job's tasks.
func poolFor[T any](j *job) *pool[T] {
	p, _ := j.pools.LoadOrStore(typeKey[T]{}, &pool[T]{})
	return p.(*pool[T])
}

type typeKey[T any] struct{}

// sourceBatch is how many records one read may return: more than an exchange's batch, since it costs no latency.
func (c Config) sourceBatch() int { return 4 * c.BatchSize }
