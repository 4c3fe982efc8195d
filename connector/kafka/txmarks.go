package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/txn"
)

// Why marks are looked after. A broker answers OK to a commit when the decision is in its log, and then writes a mark into each
// partition, without which readers of committed records don't get past the transaction. One that dies in between goes on with the
// marks when it is back, but if it has to before it knows its partitions again, it takes those for deleted and passes over them
// (seen with Kafka 4.3.1, one broker). Nobody writes them then. So a commit is done when a repetition of it is answered by OK,
// which says that marks are no longer being written; and unless it was decided and confirmed over one connection, the partitions are
// asked whether the transaction is still open in them, and missing marks are written.

const fixMarks = "start the job once as a user with the right CLUSTER_ACTION, so that it can write the marks; " +
	"don't abort the transaction with Kafka's tools, which would lose its records"

// cuts counts the connections that have ended.
type cuts struct{ n atomic.Int64 }

// OnBrokerDisconnect is called by the client library.
func (c *cuts) OnBrokerDisconnect(kgo.BrokerMetadata, net.Conn) { c.n.Add(1) }

// marks makes sure that the marks of a committed transaction are where its records are.
func (r *resource) marks(ctx context.Context, n native) (txn.Outcome, error) {
	cl, err := r.client(0)
	if err != nil {
		return txn.Stop, err
	}
	adm := kadm.NewClient(cl)
	for limit := time.Now().Add(patience); ; {
		hang, err := hanging(ctx, adm, n)
		if err != nil {
			return txn.Again, err
		}
		if len(hang) == 0 {
			return txn.Done, nil
		}
		if time.Now().After(limit) {
			return txn.Stop, fault.New(fault.CommitFailed, "transaction %s is committed, and %s/%d has no mark that says so: readers wait there",
				n.ID, hang[0].Topic, hang[0].Partition).WithFix(fixMarks)
		}
		if err := writeMarks(ctx, adm, n, hang); err != nil {
			return txn.Stop, fault.Wrap(fault.CommitFailed, err, "transaction %s is committed, and its broker has left out the mark in %s/%d: readers wait there",
				n.ID, hang[0].Topic, hang[0].Partition).WithFix(fixMarks)
		}
		r.t.Metrics.Count("repaired_transactions", 1)
		r.t.Log.Warn("a kafka broker has left out marks of a committed transaction, as happens when it dies at once; they were written for it",
			"transaction", n.ID, "partitions", len(hang))
	}
}

// hanging are the partitions in which the transaction is still open. Those nobody may be asked about, or that are gone, aren't.
func hanging(ctx context.Context, adm *kadm.Client, n native) ([]kadm.DescribedProducer, error) {
	set := kadm.TopicsSet{}
	for _, p := range n.Places {
		set.Add(p.Topic, p.Partition)
	}
	found, err := adm.DescribeProducers(ctx, set)
	if refused(err) {
		return nil, nil
	}
	var out []kadm.DescribedProducer
	for _, p := range n.Places {
		d, ok := found[p.Topic].Partitions[p.Partition]
		switch {
		case !ok && err != nil:
			return nil, fmt.Errorf("ask for the producers of %s/%d: %w", p.Topic, p.Partition, err)
		case !ok || (d.Err != nil && !again(d.Err)):
			continue
		case d.Err != nil:
			return nil, fmt.Errorf("ask for the producers of %s/%d: %w", p.Topic, p.Partition, d.Err)
		}
		if at := d.ActiveProducers[n.Producer]; at.ProducerEpoch == n.Epoch && at.CurrentTxnStartOffset >= 0 && at.CurrentTxnStartOffset <= p.Offset {
			at.Topic, at.Partition = p.Topic, p.Partition
			out = append(out, at)
		}
	}
	return out, nil
}

// again says that a broker may answer otherwise soon.
func again(err error) bool {
	k, ok := errors.AsType[*kerr.Error](err)
	return !ok || (k.Retriable && !errors.Is(err, kerr.UnknownTopicOrPartition))
}

// writeMarks does what the coordinator has decided.
func writeMarks(ctx context.Context, adm *kadm.Client, n native, hang []kadm.DescribedProducer) error {
	epoch := n.Epoch
	if n.EndTxn >= 5 {
		epoch++
	}
	for _, h := range hang {
		set := kadm.TopicsSet{}
		set.Add(h.Topic, h.Partition)
		answers, err := adm.WriteTxnMarkers(ctx, kadm.TxnMarkers{
			ProducerID: n.Producer, ProducerEpoch: epoch, Commit: true, CoordinatorEpoch: max(0, h.CoordinatorEpoch), Topics: set,
		})
		if err != nil {
			return err
		}
		if err := answers[n.Producer].Topics[h.Topic].Partitions[h.Partition].Err; err != nil && !again(err) {
			return err
		}
	}
	return nil
}
