package engine

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// budget counts the failures of a region against Config.Restart.
type budget struct {
	failures  []time.Time // that still count
	completed int64       // epochs complete at the last one
}

// next counts a failure. It returns the pause before the next attempt, and false if there should be none.
func (b *budget) next(r Restart, now time.Time, completed int64) (time.Duration, bool) {
	switch n := len(b.failures); {
	case r.Per > 0:
		b.failures = slices.DeleteFunc(b.failures, func(t time.Time) bool { return now.Sub(t) >= r.Per })
	case r.Quiet > 0 && n > 0 && now.Sub(b.failures[n-1]) >= r.Quiet, r.Quiet <= 0 && completed > b.completed:
		b.failures = nil
	}
	b.completed = completed
	b.failures = append(b.failures, now)
	n := len(b.failures)
	return r.pause(n, rand.Float64()), n <= r.Attempts //nolint:gosec // it only spreads restarts
}

// pause is that before restart n of a row, the first being 1. jitter is the part of Jitter that is added.
func (r Restart) pause(n int, jitter float64) time.Duration {
	d := min(float64(r.Delay)*math.Pow(r.Factor, float64(n-1)), float64(r.MaxDelay))
	return time.Duration(max(0, d+d*max(0, r.Jitter)*jitter))
}

// times is what transactions that come to an end by themselves have to outlast. Restarts are added up to a year.
func (c Config) times() sink.Times {
	t := sink.Times{Interval: max(0, c.CheckpointEvery, c.BacklogEvery), Timeout: c.CheckpointTimeout}
	for n := 1; n <= c.Restart.Attempts && t.Restarts < 365*24*time.Hour; n++ {
		t.Restarts += c.Restart.pause(n, 1)
	}
	return t
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
	pause, ok := r.budget.next(j.cfg.Restart, now, j.epochs.Completed)
	if !ok && !outage(c.lastFailure) {
		return 0, fault.Wrap(fault.GaveUp, cause, "gave up on region %s after %d restarts %s%s",
			r.name, j.cfg.Restart.Attempts, j.cfg.Restart.span(), j.history(r))
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

// span says over what restarts are counted.
func (r Restart) span() string {
	switch {
	case r.Per > 0:
		return "within " + r.Per.String()
	case r.Quiet > 0:
		return "without " + r.Quiet.String() + " of quiet in between"
	}
	return "without a checkpoint in between"
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
