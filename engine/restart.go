package engine

import (
	"errors"
	"strings"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/restart"
	"github.com/weirline/weirline/sink"
)

// times is what transactions that come to an end by themselves have to outlast.
func (c Config) times() sink.Times {
	return sink.Times{
		Interval: max(0, c.CheckpointEvery, c.BacklogEvery), Timeout: c.CheckpointTimeout, Restarts: restart.Strategy(c.Restart).Longest(365 * 24 * time.Hour),
	}
}

// verdict decides what follows a failure of a region: another attempt after a pause, or the end of the job.
func (c *coord) verdict(r *region, cause error) (time.Duration, error) {
	j, now := c.job, time.Now()
	f := &Failure{At: now, Region: r.name}
	if t, ok := cause.(taskError); ok { //nolint:errorlint // made by the attempt, never wrapped
		cause, f.Task, f.Operator = t.error, t.task, t.operator
	}
	f.Error = cause.Error()
	j.statusMu.Lock()
	defer j.statusMu.Unlock()
	r.last, j.failures = f, append(j.failures[max(0, len(j.failures)-maxFailures+1):], f)
	if j.store == nil || c.stopping == store.Suspended || j.cfg.Restart.Attempts < 0 || isFinal(cause) {
		return 0, cause
	}
	strategy := restart.Strategy(j.cfg.Restart)
	pause, ok := r.budget.Next(strategy, now, j.epochs.Completed)
	if !ok && !outage(c.lastFailure) {
		return 0, fault.Wrap(fault.GaveUp, cause, "gave up on region %s after %d restarts %s%s",
			r.name, j.cfg.Restart.Attempts, strategy.Span(), j.history(r))
	}
	r.restarts++
	return pause, nil
}

// maxFailures is how many failures Status remembers.
const maxFailures = 16

// history names a region's failures before the last one. The caller holds statusMu.
func (j *job) history(r *region) string {
	var lines []string
	for _, f := range j.failures[:len(j.failures)-1] {
		if f.Region == r.name {
			lines = append(lines, f.String())
		}
	}
	if lines == nil {
		return ""
	}
	return "; failed before: " + strings.Join(lines, ", ") + "; now"
}

// outage says that the store may answer later: what can't be learned from it between attempts is no reason to give up.
func outage(err error) bool {
	id := fault.CodeOf(err)
	return errors.Is(err, store.ErrUnknown) || id == fault.StoreFull.ID || id == fault.StateDir.ID
}

// isFinal says whether an error would only come again.
func isFinal(err error) bool {
	switch fault.CodeOf(err) {
	case fault.BadRecord.ID, fault.PoisonBudget.ID, fault.BadState.ID, fault.OtherBackend.ID, fault.NewerFormat.ID, fault.DamagedEpoch.ID,
		fault.NoTopic.ID, fault.AuthFailed.ID, fault.NoInput.ID, fault.Unreadable.ID, fault.CutShort.ID, fault.BadType.ID,
		fault.BadPipeline.ID, fault.UncommittedOp.ID, fault.LostRange.ID, fault.LostSplit.ID, fault.BadPosition.ID,
		fault.DroppedState.ID, fault.SinkRejected.ID, fault.Preflight.ID, fault.Fenced.ID:
		return true
	}
	return sink.IsPermanent(err)
}
