package txn

import (
	"context"
	"errors"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// Loss says what to do when a prepared transaction is gone: rolled back by somebody else, or of an age or a destination that its
// fate can't be asked for any more.
type Loss int

const (
	// FailOnLoss stops the job with an error.
	FailOnLoss Loss = iota

	// AcceptLoss goes on without the records, logs each transaction as an error, and counts it as lost_transactions.
	AcceptLoss
)

// Check refuses a value that is none of the policies.
func (l Loss) Check() error {
	if l != FailOnLoss && l != AcceptLoss {
		return fault.New(fault.BadPipeline, "Lost is %d", l).WithFix("use txn.FailOnLoss or txn.AcceptLoss")
	}
	return nil
}

// NewCommitter makes the committer of an operator, which owns r from now on. What r can do beside, as a [Lister] say, is found
// on it by [sink.As].
func NewCommitter(r Resource, t sink.Task, lost Loss) sink.Committer {
	return &committer{r: r, t: t, lost: lost, counted: map[string]bool{}}
}

type committer struct {
	r    Resource
	t    sink.Task
	lost Loss

	counted map[string]bool // tokens of transactions that were given up: a commit that fails further on comes again
}

// Commit finishes the transactions in order and ends at the first that isn't done.
func (c *committer) Commit(ctx context.Context, hs []sink.Handle) error {
	for _, h := range hs {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := c.one(ctx, h); err != nil {
			return err
		}
	}
	return nil
}

// one is committed if Commit says so, or Prove of one that is absent; nothing else is.
func (c *committer) one(ctx context.Context, h sink.Handle) error {
	o, err := c.r.Commit(ctx, h)
	if o == Absent {
		if o, err = c.r.Prove(ctx, h); o == Absent {
			o = Unknown
		}
	}
	if o == Done && err == nil {
		return nil
	}
	if err == nil {
		err = errors.New("the destination gave no reason")
	}
	switch o {
	case Lost:
		return c.gone(h, fault.LostCommit, err)
	case Unknown:
		return c.gone(h, fault.UnknownCommit, err)
	case Stop:
		return sink.Permanent(c.coded(h, fault.CommitFailed, err))
	}
	return c.coded(h, fault.CommitFailed, err)
}

// gone applies the policy to a transaction that can't be committed any more.
func (c *committer) gone(h sink.Handle, code fault.Code, err error) error {
	if fault.CodeOf(err) != code.ID {
		err = c.named(h, code, err)
	}
	if c.lost != AcceptLoss {
		return sink.Permanent(err)
	}
	if c.counted[h.Token] {
		return nil
	}
	c.counted[h.Token] = true
	c.t.Metrics.Count("lost_transactions", 1)
	c.t.Log.Error("a prepared transaction is gone; going on without its records by policy",
		"slot", h.Slot.Name, "token", h.Token, "epoch", h.Epoch, "error", err)
	return nil
}

// coded gives an error a code unless it has one.
func (c *committer) coded(h sink.Handle, code fault.Code, err error) error {
	if fault.CodeOf(err) != "" {
		return err
	}
	return c.named(h, code, err)
}

func (c *committer) named(h sink.Handle, code fault.Code, err error) error {
	return fault.Wrap(code, err, "commit transaction %s of epoch %d in slot %s", h.Token, h.Epoch, h.Slot.Name)
}

// Recover commits keep, all of it, and then lets the resource clear the slots.
func (c *committer) Recover(ctx context.Context, keep []sink.Handle, slots []sink.Slot) error {
	if err := c.Commit(ctx, keep); err != nil || len(slots) == 0 {
		return err
	}
	return c.r.Clear(ctx, slots)
}

// Close closes the resource.
func (c *committer) Close() error { return c.r.Close() }

// Unwrap returns the resource.
func (c *committer) Unwrap() any { return c.r }
