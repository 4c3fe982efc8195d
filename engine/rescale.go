package engine

import (
	"context"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
)

// rescaling is a change of parallelism under way.
type rescaling struct {
	tasks int
	began time.Time
	done  chan struct{}
}

// Rescale changes the parallelism of the running job: it suspends, with a checkpoint, and goes on in this process with n tasks
// for each operator that has no parallelism of its own. It returns when the job runs again; Status says how long that
// took. If something fails in between, the job restarts from its last checkpoint. When ctx ends it returns, and the change
// goes on. From any goroutine.
func (p *Pipeline) Rescale(ctx context.Context, n int) error {
	j := p.running()
	if j == nil || j.store == nil {
		return fault.New(fault.NotRunning, "rescale to %d: no job runs that keeps state", n)
	}
	r := &rescaling{tasks: n, began: time.Now(), done: make(chan struct{})}
	over := fault.New(fault.NotRunning, "rescale to %d: the job ended before", n)
	select {
	case <-j.ended:
		return over
	default:
	}
	if err := j.setScale(r); err != nil {
		return err
	}
	select {
	case <-r.done:
		return nil
	case <-j.ended:
		return over
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (j *job) setScale(r *rescaling) error {
	j.statusMu.Lock()
	defer j.statusMu.Unlock()
	switch {
	case r.tasks < 1 || r.tasks > j.cfg.KeyGroups:
		return fault.New(fault.Parallelism, "rescale to %d with %d key groups, fixed by the first checkpoint", r.tasks, j.cfg.KeyGroups)
	case j.scaling != nil:
		return fault.New(fault.Parallelism, "rescale to %d: the job is just being rescaled to %d", r.tasks, j.scaling.tasks)
	case r.tasks == j.cfg.Parallelism:
		close(r.done)
		return nil
	}
	if j.scaling = r; j.coord != nil {
		j.coord.post(stopAsked{store.Suspended})
	}
	return nil
}

// rescale takes over a parallelism that was asked for, when the graph has come to its end; true if that was why.
func (j *job) rescale() bool {
	j.statusMu.Lock()
	defer j.statusMu.Unlock()
	if j.scaling == nil || j.stopWith == store.Suspended || j.coord.outcome > store.Suspended {
		return false
	}
	j.cfg.Parallelism, j.p.cfg.Parallelism = j.scaling.tasks, j.scaling.tasks
	return true
}

// rescaled is called when everything is up. The caller holds statusMu.
func (j *job) rescaled() {
	r := j.scaling
	if r == nil || r.tasks != j.cfg.Parallelism {
		return
	}
	j.scaling, j.scaled = nil, time.Since(r.began)
	j.scales++
	j.log.Info("rescaled", "parallelism", r.tasks, "took", j.scaled)
	close(r.done)
}
