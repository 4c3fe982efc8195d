package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// refuses says why a transaction isn't to be finished in this way.
func (l leftover) refuses(do string, force bool) error {
	known := l.handle != nil && l.State != stateBehind || l.State == stateRecorded
	switch {
	case l.State == stateDropped && (do != abort || !force):
		return fault.New(fault.UncommittedOp, "transaction %s: this pipeline has no two-phase sink %q, which alone knows its destination", l.Name, l.Operator).
			WithFix("give this command to a binary that has the sink; if the destination is gone for good, abort it by name and with -force: its records are given up")
	case force:
		return nil
	case do == abort && known:
		return fault.New(fault.HarmByTxn, "abort %s: %s; its records would be lost", l.Name, l.durable())
	case do == commit && !known:
		return fault.New(fault.HarmByTxn, "commit %s: %s; they would be there twice", l.Name, l.Why)
	}
	return nil
}

func (l leftover) durable() string {
	if l.State == stateRecorded {
		return "it is recorded as committed"
	}
	return fmt.Sprintf("epoch %d is complete and has it", l.Epoch)
}

// finishOne finishes a transaction, records that, and says so. owned says that the state can be written.
func (c *command) finishOne(ctx context.Context, s *survey, l leftover, do string, owned bool) error {
	com := s.committers[l.Operator]
	if com == nil && l.State != stateDropped {
		return fault.New(fault.CommitFailed, "%s transaction %s: its destination can't be reached", do, l.Name).At("operator " + l.Operator)
	}
	done, err := "", error(nil)
	if do == commit {
		done, err = s.commit(ctx, com, l)
	} else {
		done, err = s.abort(ctx, com, l)
	}
	if err != nil {
		if fault.CodeOf(err) == "" {
			err = fault.Wrap(fault.CommitFailed, err, "%s transaction %s", do, l.Name)
		}
		return fault.At(err, "operator "+l.Operator)
	}
	if _, live := s.live[l.token()]; live { // a restart asks no more
		if !owned {
			return c.say("%s: %s; not recorded, since the state is held", l.Name, done)
		}
		if err := s.st.Committed([]sink.Handle{*l.handle}); err != nil {
			return fmt.Errorf("transaction %s: %s, and that can't be recorded: %w", l.Name, done, err)
		}
	}
	return c.say("%s: %s", l.Name, done)
}

func (l leftover) token() string {
	if l.handle == nil {
		return ""
	}
	return l.handle.Token
}

// commit commits by the handle, which proves what it can't see, or by the name of what no checkpoint knows.
func (s *survey) commit(ctx context.Context, com sink.Committer, l leftover) (string, error) {
	if l.handle == nil {
		by, _ := sink.As[txn.Lister](com) // it is what has listed it
		return "committed", by.Finish(ctx, *l.pending, true)
	}
	before := s.losses
	if err := patiently(ctx, func() error { return com.Commit(ctx, []sink.Handle{*l.handle}) }); err != nil {
		return "", err
	}
	switch {
	case s.losses != before:
		return "lost, which the sink's policy accepts", nil
	case l.State == stateAbsent:
		return "was committed before", nil
	}
	return "committed", nil
}

func (s *survey) abort(ctx context.Context, com sink.Committer, l leftover) (string, error) {
	by, ok := sink.As[txn.Lister](com)
	switch {
	case l.State == stateAbsent:
		return "given up: it wasn't there any more", nil
	case l.State == stateDropped:
		return "given up: nobody has asked its destination", nil
	case !ok || l.pending == nil:
		return "", fault.New(fault.CommitFailed, "abort %s: the sink can't finish single transactions by name", l.Name).
			WithFix("commit it, or start the job, which commits it")
	}
	return "aborted", by.Finish(ctx, *l.pending, false)
}

// patiently repeats for a while what isn't definite.
func patiently(ctx context.Context, f func() error) error {
	for until := time.Now().Add(10 * time.Second); ; {
		err := f()
		if err == nil || sink.IsPermanent(err) || time.Now().After(until) {
			return err
		}
		wait := 200 * time.Millisecond
		if d, ok := sink.RetryDelay(err); ok {
			wait = d
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return err
		}
	}
}
