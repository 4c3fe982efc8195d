package kafka

import (
	"context"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/txn"
)

// A prepared transaction whose epoch isn't complete may still be rolled back by its timeout. Then its records must be written
// again, so the task fails. The writer isn't told when an epoch is complete; when one of its transactions gets too old it asks the
// broker what became of it. Most often that is one that was committed long ago and whose slot nobody has needed since.

const (
	overduePause = time.Second            // between questions about a transaction the broker hasn't rolled back yet
	askLimit     = 500 * time.Millisecond // for an answer, as the task waits for it
)

// watch has the task woken when a prepared transaction gets too old.
func (p *txProducer) watch(until time.Time, wake func()) {
	p.deadline, p.stop = until, at(time.Until(until), wake)
}

// unwatch ends that.
func (p *txProducer) unwatch() {
	if p.stop != nil {
		p.stop()
	}
	p.deadline, p.stop = time.Time{}, nil
}

// overdue fails if the broker has rolled back a prepared transaction.
func (x *tx) overdue() error {
	now := time.Now()
	for _, p := range x.resting {
		if p.deadline.IsZero() || now.Before(p.deadline) {
			continue
		}
		p.unwatch()
		o, err := p.fate()
		switch o {
		case txn.Lost:
			return fault.Wrap(fault.SinkFailed, err, "transaction %s was prepared, and not committed in time", p.name).
				WithFix("raise Timeout, or let checkpoints come more often; what wasn't committed is written again after the restart")
		case txn.Again:
			p.watch(now.Add(overduePause), x.room.signal)
		}
	}
	return nil
}

// fate asks the coordinator about the client's last transaction: Again as long as it is open, or the broker silent.
func (p *txProducer) fate() (txn.Outcome, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askLimit)
	defer cancel()
	d, err := p.describe(ctx)
	if err != nil {
		return txn.Again, err
	}
	return judge(native{ID: p.name, Producer: p.id, Epoch: p.epoch, Timeout: p.o.timeout.Milliseconds()}, d)
}
