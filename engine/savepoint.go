package engine

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
)

// savepoint is a savepoint somebody waits for. One that was begun when a region failed is begun anew.
type savepoint struct {
	to    store.Store
	last  bool        // to be taken when the job has ended as asked
	given atomic.Bool // up: nobody waits any more
	epoch uint64      // its number, once begun; owned by the coordinator until done
	done  chan error  // room for two: a coordinator may take it up just when it is done
}

// Savepoint takes a checkpoint that is a whole of its own: all state at location, in a form that doesn't depend on the state
// backend, which may be moved, kept for ever, and begun from (package savepoint). Location must be empty or absent; Config.Open
// opens it. Savepoint returns when it is durable, with its number. The job goes on meanwhile, also if it fails; what was
// written of it is removed then. Transactions that
// it prepares are in it, and are committed with a checkpoint that follows at once. When ctx ends, it is given up. From any goroutine.
func (p *Pipeline) Savepoint(ctx context.Context, location string) (epoch uint64, err error) {
	return p.save(ctx, location, nil)
}

// StopWithSavepoint stops the job as Stop does and takes a savepoint of where it ended: after the job's own last checkpoint, so
// either may be resumed from. If the savepoint fails, the job has stopped all the same.
func (p *Pipeline) StopWithSavepoint(ctx context.Context, m StopMode, location string) (epoch uint64, err error) {
	return p.save(ctx, location, func() { p.Stop(m) })
}

func (p *Pipeline) save(ctx context.Context, location string, stop func()) (uint64, error) {
	j := p.running()
	if j == nil || j.store == nil {
		return 0, fault.New(fault.NotRunning, "savepoint at %s: no job runs that keeps state", location)
	}
	open := j.cfg.Open
	if open == nil {
		open = func(dir string, o store.Options) (store.Store, error) { return store.Open(dir, o) }
	}
	to, err := open(location, store.Options{Job: j.cfg.Name, New: true, Retain: 1, Log: j.log})
	if err != nil {
		return 0, err
	}
	s := &savepoint{to: to, last: stop != nil, done: make(chan error, 2)}
	for op, slots := range j.store.Granted() {
		err = errors.Join(err, to.Grant(op, slots))
	}
	if err == nil {
		err = j.await(ctx, s, stop)
	}
	if err = errors.Join(err, to.Close()); err != nil {
		return 0, fault.Wrap(fault.SavepointFails, err, "savepoint at %s", location)
	}
	j.log.Info("savepoint is complete", "epoch", s.epoch, "location", location)
	return s.epoch, nil
}

// await has a savepoint taken and waits for it.
func (j *job) await(ctx context.Context, s *savepoint, stop func()) error {
	j.statusMu.Lock()
	j.saves = append(j.saves, s)
	if j.coord != nil {
		j.coord.post(s)
	}
	j.statusMu.Unlock()
	defer func() {
		j.statusMu.Lock()
		j.saves = slices.DeleteFunc(j.saves, func(o *savepoint) bool { return o == s })
		j.statusMu.Unlock()
	}()
	if stop != nil {
		stop()
	}
	defer context.AfterFunc(ctx, func() { s.given.Store(true) })()
	select {
	case err := <-s.done:
		return err
	case <-j.ended:
	}
	select {
	case err := <-s.done:
		return err
	default:
		return fault.New(fault.NotRunning, "the job ended before it was taken")
	}
}

// nextSave takes the next savepoint that may be taken now. Those of a job that is about to end wait until it has.
func (c *coord) nextSave() *savepoint {
	for i, s := range c.saves {
		if c.allUp && len(c.tasks) > 0 && (c.ended || c.stopping == store.Running && !s.last) {
			c.saves = slices.Delete(c.saves, i, i+1)
			return s
		}
	}
	return nil
}

// saved is a savepoint that is durable. It counts when a checkpoint has what it had prepared: until then a failure would
// clear it.
func (c *coord) saved(e *epochRun) {
	c.unsettled = append(c.unsettled, e.save)
	if len(e.handles) == 0 || c.ended {
		c.settled()
	} else {
		c.requested = true
	}
}

// settled tells those who wait for savepoints.
func (c *coord) settled() {
	for _, s := range c.unsettled {
		s.done <- nil
	}
	c.unsettled = nil
}

// forget lets go of savepoints that nobody waits for.
func (c *coord) forget() {
	given := func(s *savepoint) bool {
		if !s.given.Load() {
			return false
		}
		s.done <- context.Canceled
		return true
	}
	c.saves, c.unsettled = slices.DeleteFunc(c.saves, given), slices.DeleteFunc(c.unsettled, given)
}

// storeOf is where an epoch is written: a savepoint's is elsewhere, and in canonical form. From any goroutine.
func (c *coord) storeOf(epoch uint64) store.Store {
	if s, ok := c.homes.Load(epoch); ok {
		return s.(store.Store)
	}
	return c.job.store
}
