package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// job is a running pipeline.
type job struct {
	p       *Pipeline
	cfg     Config
	log     *slog.Logger
	store   store.Store // nil without Config.Dir
	metrics *connectorMetrics
	pools   sync.Map       // reflect.Type -> *pool[T]
	workers sync.WaitGroup // goroutines of the present attempt outside loops

	statusMu sync.Mutex
	att      *attempt
	stopWith store.End // asked before the attempt was there
	epochs   epochStats
	restarts int64
	lastErr  error
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
	p.linkDeadLetters()
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
	err = j.run(ctx)
	j.setEnded()
	return err
}

// open takes the claim on the state.
func (p *Pipeline) open() (*job, error) {
	j := &job{p: p, cfg: p.cfg, log: p.cfg.Log, metrics: newConnectorMetrics(), began: time.Now(), phase: "starting"}
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
	stop := context.AfterFunc(ctx, func() { j.stop(store.Suspended) })
	defer stop()
	work := context.WithoutCancel(ctx) // the end of ctx suspends; it doesn't kill
	failed := 0
	for {
		rec, err := j.latest()
		if err != nil {
			return err
		}
		if rec != nil && rec.End == store.Finished {
			j.log.Info("the input had ended and everything is committed; nothing to run", "epoch", rec.Epoch)
			j.setOutcome(rec.End)
			return j.commitLeft(work, rec)
		}
		before := j.completed()
		j.logStart(rec)
		end, err := j.runAttempt(work, rec)
		if err == nil {
			j.setOutcome(end)
			j.log.Info("job ended", "how", endName(end), "epoch", j.lastEpoch())
			return nil
		}
		if j.completed() > before {
			failed = 0
		}
		if failed++; !j.restartable(ctx, err) {
			return err
		}
		if failed > j.cfg.Restart.Attempts {
			return fault.Wrap(fault.GaveUp, err, "gave up after %d restarts without a checkpoint in between", failed-1)
		}
		if !j.pause(ctx, failed, err) {
			return nil
		}
	}
}

// latest is the epoch to begin from.
func (j *job) latest() (*store.Record, error) {
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
	if j.cfg.Parallelism > rec.KeyGroups {
		return nil, fault.New(fault.Parallelism, "parallelism %d with %d key groups, fixed by the first checkpoint", j.cfg.Parallelism, rec.KeyGroups)
	}
	j.cfg.KeyGroups = rec.KeyGroups
	return rec, j.checkDropped(rec)
}

func (j *job) logStart(rec *store.Record) {
	if rec == nil {
		j.log.Info("job starts", "job", j.cfg.Name, "parallelism", j.cfg.Parallelism, "state", j.cfg.Dir)
		return
	}
	j.log.Info("job resumes", "job", j.cfg.Name, "parallelism", j.cfg.Parallelism, "epoch", rec.Epoch, "taken", rec.Taken)
	if rec.End == store.Drained {
		j.log.Warn("this state was drained: windows that were open then have fired, and may fire again with what follows")
	}
}

// commitLeft finishes the transactions of a job that has ended but died before its last commits were recorded.
func (j *job) commitLeft(ctx context.Context, rec *store.Record) error {
	j.p.plan()
	a := &attempt{job: j}
	a.coord = newCoord(a)
	err := a.openCommitters(ctx, rec.Handles)
	if a.commits != nil {
		a.commits.close()
	}
	return err
}

// restartable says whether another attempt may help. Without state it would count everything twice.
func (j *job) restartable(ctx context.Context, err error) bool {
	return j.store != nil && ctx.Err() == nil && j.asked() == store.Running && j.cfg.Restart.Attempts >= 0 && !isFinal(err)
}

// isFinal says whether an error would only come again.
func isFinal(err error) bool {
	switch fault.CodeOf(err) {
	case fault.BadRecord.ID, fault.PoisonBudget.ID, fault.BadState.ID, fault.NewerFormat.ID, fault.DamagedEpoch.ID,
		fault.NoTopic.ID, fault.AuthFailed.ID, fault.NoInput.ID, fault.Unreadable.ID, fault.CutShort.ID, fault.BadType.ID,
		fault.BadPipeline.ID, fault.UncommittedOp.ID, fault.LostRange.ID, fault.LostSplit.ID, fault.BadPosition.ID,
		fault.SinkRejected.ID, fault.Preflight.ID:
		return true
	}
	return sink.IsPermanent(err)
}

// pause waits before a restart; false if the job was stopped meanwhile.
func (j *job) pause(ctx context.Context, failed int, err error) bool {
	r := j.cfg.Restart
	d := time.Duration(min(float64(r.Delay)*math.Pow(r.Factor, float64(failed-1)), float64(r.MaxDelay)))
	d += time.Duration(rand.Int64N(max(1, int64(d)/10))) //nolint:gosec // jitter
	j.statusMu.Lock()
	j.restarts++
	j.lastErr, j.att, j.phase = err, nil, "restarting"
	j.statusMu.Unlock()
	j.log.Warn("restarting", "in", max(0, d), "attempt", failed, "error", err)
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
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
	a := j.att
	j.phase = "stopping"
	j.statusMu.Unlock()
	if a != nil {
		a.coord.post(stopAsked{end})
	}
}

// Checkpoint asks for a checkpoint now.
func (p *Pipeline) Checkpoint() {
	if j := p.running(); j != nil {
		j.statusMu.Lock()
		a := j.att
		j.statusMu.Unlock()
		if a != nil {
			a.coord.request()
		}
	}
}

func (j *job) setAttempt(a *attempt) {
	j.statusMu.Lock()
	j.att, j.epochs.records = a, 0
	if j.phase = "running"; j.stopWith != store.Running {
		j.phase = "stopping"
		a.coord.post(stopAsked{j.stopWith})
	}
	j.statusMu.Unlock()
}

func (j *job) asked() store.End {
	j.statusMu.Lock()
	defer j.statusMu.Unlock()
	return j.stopWith
}

func (j *job) completed() int64 {
	j.statusMu.Lock()
	defer j.statusMu.Unlock()
	return j.epochs.completed
}

func (j *job) lastEpoch() uint64 {
	j.statusMu.Lock()
	defer j.statusMu.Unlock()
	return j.epochs.lastEpoch
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
