package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

const (
	fixTxID    = "grant the user WRITE on the transactional ids that begin with the job's name (its dashes doubled) or prefix, and on the topics"
	fixTimeout = "set Timeout to no more than the brokers' transaction.max.timeout.ms, or raise that"
	fixForeign = "see whether another job has the same name or prefix and writes to the same brokers; give one of them another"
)

// answers says what the answers to the commit of a prepared transaction mean. What isn't listed, and what is no answer of a
// broker, is tried again: a commit that is given up is lost.
var answers = map[int16]struct {
	is  txn.Outcome
	fix string
}{
	// The transaction isn't open any more, or the id isn't ours: the log says what became of it.
	kerr.InvalidTxnState.Code:          {txn.Absent, ""},
	kerr.ProducerFenced.Code:           {txn.Absent, ""},
	kerr.InvalidProducerEpoch.Code:     {txn.Absent, ""},
	kerr.InvalidProducerIDMapping.Code: {txn.Absent, ""},
	kerr.TransactionalIDNotFound.Code:  {txn.Absent, ""},
	kerr.TransactionAbortable.Code:     {txn.Absent, ""},

	kerr.TransactionalIDAuthorizationFailed.Code: {txn.Stop, fixTxID},
	kerr.ClusterAuthorizationFailed.Code:         {txn.Stop, fixTxID},
	kerr.SaslAuthenticationFailed.Code:           {txn.Stop, "check user, password and mechanism in Client.SASL"},
	kerr.UnsupportedSaslMechanism.Code:           {txn.Stop, "check the mechanism in Client.SASL"},
	kerr.UnsupportedVersion.Code:                 {txn.Stop, "run the brokers in the version the transaction was prepared with until it is committed"},
}

// answer is the outcome of a commit that wasn't answered by OK.
func answer(err error) (txn.Outcome, error) {
	k, ok := errors.AsType[*kerr.Error](err)
	if !ok {
		return txn.Again, err
	}
	a := answers[k.Code]
	if a.is == txn.Stop {
		return a.is, fault.Wrap(fault.CommitFailed, err, "the broker refuses to commit").WithFix("%s", a.fix)
	}
	return a.is, err
}

// produceFault explains what a writer met. Its transaction is given up.
func (o txSettings) produceFault(err error, what string, args ...any) error {
	f := fault.Wrap(fault.SinkFailed, err, what, args...)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, kgo.ErrClientClosed):
		return err
	case errors.Is(err, kerr.TransactionalIDAuthorizationFailed), refused(err):
		f.Code = fault.AuthFailed
		return sink.Permanent(f.WithFix("%s", fixTxID))
	case errors.Is(err, kerr.InvalidTransactionTimeout):
		f.Code = fault.Preflight
		return sink.Permanent(f.WithFix("%s", fixTimeout))
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge):
		f.Code = fault.SinkRejected
		return sink.Permanent(f.WithFix("set MaxBytes to the lowest max.message.bytes of the topics, so that too large records are rejected one by one"))
	case invalid(err):
		f.Code = fault.SinkRejected
		return sink.Permanent(f.WithFix("let Encode return an error for such records, so that they are rejected one by one; " +
			"a topic that is compacted takes no records without a key"))
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		f.Code = fault.NoTopic
		return f
	case errors.Is(err, kerr.InvalidProducerEpoch), errors.Is(err, kerr.ProducerFenced), errors.Is(err, kerr.InvalidProducerIDMapping),
		errors.Is(err, kerr.InvalidTxnState):
		return f.WithFix("the transaction was older than Timeout (%v), or another process has taken over its id; in that case %s", o.timeout, fixForeign)
	}
	return f
}

// clearFault explains why leftovers can't be rolled back.
func (o txSettings) clearFault(err error, id string) error {
	f := fault.Wrap(fault.CommitFailed, err, "take over transactional id %s, to roll back what is left of it", id)
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, kerr.TransactionalIDAuthorizationFailed), refused(err):
		f.Code = fault.AuthFailed
		return sink.Permanent(f.WithFix("%s", fixTxID))
	case errors.Is(err, kerr.InvalidTransactionTimeout):
		f.Code = fault.Preflight
		return sink.Permanent(f.WithFix("%s", fixTimeout))
	}
	return f
}

func errTimedOut(name string, timeout time.Duration) error {
	return fault.New(fault.SinkFailed, "transaction %s has become older than its timeout of %v before it was prepared", name, timeout).
		WithFix("raise Timeout, or let checkpoints come more often; the job restarts from the last one")
}
