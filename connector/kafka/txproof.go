package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// How the fate of a transaction is proved. The coordinator knows only the last transaction of an id, and answers the same to
// somebody whose commit it has done, before the id went on, and to somebody whose transaction it has rolled back. The topics
// know better: the handle says where a record of the transaction lies, and a reader of committed records either gets it, or is
// told that it was rolled back.

// proofLimit bounds the search for the mark that ends a transaction.
const proofLimit = 30 * time.Second

// Prove asks the coordinator, which may still know, and then the log.
func (r *resource) Prove(ctx context.Context, h sink.Handle) (txn.Outcome, error) {
	n, err := readNative(h)
	if err == nil && len(n.Places) == 0 {
		return txn.Done, nil
	}
	if err != nil {
		return txn.Stop, err
	}
	cl, err := r.client(0)
	if err != nil {
		return txn.Stop, err
	}
	ctx, cancel := context.WithTimeout(ctx, proofLimit)
	defer cancel()
	var d kadm.DescribedTransaction
	if found, err := kadm.NewClient(cl).DescribeTransactions(ctx, n.ID); err == nil {
		d = found[n.ID]
	}
	if o, err := judge(n, d); o != txn.Unknown {
		return o, err
	}
	return proveByLog(ctx, cl, n)
}

// judge says what the coordinator's knowledge of an id proves about a transaction that can't be committed. Unknown: nothing.
func judge(n native, d kadm.DescribedTransaction) (txn.Outcome, error) {
	if d.Err != nil || d.ProducerID != n.Producer {
		return txn.Unknown, nil
	}
	same := d.ProducerEpoch == n.Epoch
	next := d.ProducerEpoch == n.Epoch+1 // it goes up when a transaction is ended, since KIP-890, and when it times out
	switch d.State {
	case "Ongoing":
		if same {
			return txn.Again, fmt.Errorf("transaction %s is still open and yet can't be committed", n.ID)
		}
	case "PrepareAbort", "CompleteAbort", "PrepareEpochFence":
		if same || next {
			return txn.Lost, fmt.Errorf("the broker has rolled transaction %s back: it was older than its timeout of %v, or somebody has aborted it",
				n.ID, time.Duration(n.Timeout)*time.Millisecond)
		}
	case "PrepareCommit":
		if same || (next && n.EndTxn >= 5) {
			return txn.Again, fmt.Errorf("transaction %s is being committed", n.ID)
		}
	}
	return txn.Unknown, nil
}

func proveByLog(ctx context.Context, cl *kgo.Client, n native) (txn.Outcome, error) {
	at := n.Places[0]
	topics, err := kadm.NewClient(cl).ListTopics(ctx, at.Topic)
	if err == nil {
		err = topics[at.Topic].Err
	}
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.TopicAuthorizationFailed):
		return txn.Unknown, fmt.Errorf("ask topic %s what became of transaction %s: %w", at.Topic, n.ID, err)
	case err != nil:
		return txn.Again, err
	}
	p, ok := topics[at.Topic].Partitions[at.Partition]
	if !ok {
		return txn.Unknown, fmt.Errorf("topic %s has no partition %d any more, which would tell what became of transaction %s", at.Topic, at.Partition, n.ID)
	}
	f := fetch{
		leader: cl.Broker(int(p.Leader)), topic: at.Topic, id: topics[at.Topic].ID, partition: at.Partition,
		committed: true, level: kgo.ReadCommitted(),
	}
	rp, err := f.at(ctx, at.Offset)
	if err == nil {
		err = kerr.ErrorForCode(rp.ErrorCode)
	}
	switch {
	case errors.Is(err, kerr.OffsetOutOfRange), errors.Is(err, kerr.TopicAuthorizationFailed):
		return txn.Unknown, fmt.Errorf("read %v, which would tell what became of transaction %s: %w", at, n.ID, err)
	case err != nil:
		return txn.Again, err
	case rp.LastStableOffset > at.Offset:
		return n.fate(f, rp)
	}
	return f.mark(ctx, n) // an older transaction of somebody else holds readers up
}

// fate reads an answer that has passed the record's offset.
func (n native) fate(f fetch, rp *kmsg.FetchResponseTopicPartition) (txn.Outcome, error) {
	at := n.Places[0]
	for _, a := range rp.AbortedTransactions {
		if a.ProducerID == n.Producer && a.FirstOffset <= at.Offset {
			// The list has what overlaps the records of this answer; only a transaction that was open at the record's
			// offset is the one in question, and another of the same producer can't begin before it ends.
			return txn.Lost, fmt.Errorf("the log of %s/%d says that transaction %s was rolled back", at.Topic, at.Partition, n.ID)
		}
	}
	fp, _ := f.records(rp, at.Offset)
	if err := n.first(fp); err != nil {
		return txn.Unknown, err
	}
	return txn.Done, nil
}

// first says why the first record behind the offset isn't the transaction's.
func (n native) first(fp kgo.FetchPartition) error {
	at := n.Places[0]
	if len(fp.Records) == 0 || fp.Records[0].Offset != at.Offset {
		return fmt.Errorf("the record at %v is gone, which would tell what became of transaction %s", at, n.ID)
	}
	if r := fp.Records[0]; r.ProducerID != n.Producer || r.ProducerEpoch != n.Epoch {
		return fmt.Errorf("%v holds a record of another producer than transaction %s: the topic was made anew, or these are other brokers", at, n.ID)
	}
	return nil
}

// mark looks for the end of the transaction among the records behind its own.
func (f fetch) mark(ctx context.Context, n native) (txn.Outcome, error) {
	f.committed, f.level = false, kgo.ReadUncommitted()
	for at := n.Places[0].Offset; ; {
		rp, err := f.at(ctx, at)
		if err == nil {
			err = kerr.ErrorForCode(rp.ErrorCode)
		}
		if err != nil {
			return txn.Again, err
		}
		fp, next := f.records(rp, at)
		if at == n.Places[0].Offset {
			if err := n.first(fp); err != nil {
				return txn.Unknown, err
			}
		}
		for _, r := range fp.Records {
			switch {
			case !r.Attrs.IsControl() || r.ProducerID != n.Producer || len(r.Key) < 4:
			case binary.BigEndian.Uint16(r.Key[2:]) == 1:
				return txn.Done, nil
			default:
				return txn.Lost, fmt.Errorf("the log of %s/%d says at %d that transaction %s was rolled back", f.topic, f.partition, r.Offset, n.ID)
			}
		}
		if next <= at {
			return txn.Again, fmt.Errorf("the end of transaction %s can't be seen yet in %s/%d", n.ID, f.topic, f.partition)
		}
		at = next
	}
}
