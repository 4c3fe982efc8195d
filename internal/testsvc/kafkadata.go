package testsvc

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Client connects a franz-go client to the broker. The caller closes it.
func (k *KafkaServer) Client(opts ...kgo.Opt) (*kgo.Client, error) {
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(k.Addr)}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to kafka at %s: %w", k.Addr, err)
	}
	return cl, nil
}

// CreateTopic creates a topic and returns when the broker lists it with all its partitions. An existing topic is an
// error.
func (k *KafkaServer) CreateTopic(ctx context.Context, topic string, partitions int) error {
	cl, err := k.Client()
	if err != nil {
		return err
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, int32(partitions), 1, nil, topic); err != nil {
		return fmt.Errorf("create topic %s: %w", topic, err)
	}
	return k.awaitTopic(ctx, kadm.NewClient(cl), topic, partitions)
}

// awaitTopic asks until every partition has a leader: the answer to a creation comes before that.
func (k *KafkaServer) awaitTopic(ctx context.Context, adm *kadm.Client, topic string, partitions int) error {
	return k.proc.ready(ctx, func(ctx context.Context) error {
		ts, err := adm.ListTopics(ctx, topic)
		if err != nil {
			return err
		}
		if err := ts[topic].Err; err != nil {
			return err
		}
		led := 0
		for _, p := range ts[topic].Partitions {
			if p.Err == nil && p.Leader >= 0 {
				led++
			}
		}
		if led < partitions {
			return fmt.Errorf("topic %s: %d of %d partitions have a leader: %w", topic, led, partitions, kerr.LeaderNotAvailable)
		}
		return nil
	})
}

// Produce writes one record without a key per value to one partition, in order, and returns when the broker has
// acknowledged all of them.
func (k *KafkaServer) Produce(ctx context.Context, topic string, partition int, values ...string) error {
	cl, err := k.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer cl.Close()
	rs := make([]*kgo.Record, len(values))
	for i, v := range values {
		rs[i] = &kgo.Record{Topic: topic, Partition: int32(partition), Value: []byte(v)}
	}
	if err := cl.ProduceSync(ctx, rs...).FirstErr(); err != nil {
		return fmt.Errorf("produce to %s partition %d: %w", topic, partition, err)
	}
	return nil
}

// ReadAll returns the committed records that are in the topic now, by partition and offset. Records of an open
// transaction, and those behind them in the same partition, aren't there yet.
//
// It reads everything and goes by the marks at the transactions' ends: a client that leaves out what was rolled back doesn't
// say that it has come to the end of a partition, if nothing else is there.
func (k *KafkaServer) ReadAll(ctx context.Context, topic string) ([]*kgo.Record, error) {
	cl, err := k.Client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords())
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	stable, left, err := unread(ctx, kadm.NewClient(cl), topic)
	if err != nil {
		return nil, fmt.Errorf("read topic %s: %w", topic, err)
	}
	var all []*kgo.Record
	open := map[writer][]*kgo.Record{}
	for len(left) > 0 {
		fs := cl.PollFetches(ctx)
		if err := fs.Err0(); err != nil {
			return nil, fmt.Errorf("read topic %s: %w", topic, err)
		}
		if errs := fs.Errors(); len(errs) > 0 {
			return nil, fmt.Errorf("read topic %s partition %d: %w", topic, errs[0].Partition, errs[0].Err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			w := writer{r.Partition, r.ProducerID}
			switch {
			case r.Attrs.IsControl():
				if isCommit(r) {
					all = append(all, open[w]...)
				}
				delete(open, w)
			case r.Offset >= stable[r.Partition]:
			case r.Attrs.IsTransactional():
				open[w] = append(open[w], r)
			default:
				all = append(all, r)
			}
			if r.Offset >= left[r.Partition]-1 {
				delete(left, r.Partition)
			}
		})
	}
	slices.SortFunc(all, func(a, b *kgo.Record) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	return all, nil
}

// writer is who has at most one transaction in a partition.
type writer struct {
	partition int32
	producer  int64
}

// isCommit says whether a control record is the mark of a commit: its key is a version and a kind.
func isCommit(r *kgo.Record) bool {
	return len(r.Key) >= 4 && binary.BigEndian.Uint16(r.Key[2:]) == 1
}

// unread returns, for the partitions that hold anything, the offsets before which the fate of everything is known, and their
// ends, where the marks are.
func unread(ctx context.Context, adm *kadm.Client, topic string) (stable, ends map[int32]int64, err error) {
	stable, ends = map[int32]int64{}, map[int32]int64{}
	starts, err := adm.ListStartOffsets(ctx, topic)
	if err != nil {
		return nil, nil, err
	}
	known, err := adm.ListCommittedOffsets(ctx, topic)
	if err != nil {
		return nil, nil, err
	}
	written, err := adm.ListEndOffsets(ctx, topic) // last: the marks of all that was known before
	if err != nil {
		return nil, nil, err
	}
	for p, end := range known[topic] {
		if err := cmp.Or(end.Err, starts[topic][p].Err, written[topic][p].Err); err != nil {
			return nil, nil, fmt.Errorf("partition %d: %w", p, err)
		}
		if end.Offset > starts[topic][p].Offset {
			stable[p], ends[p] = end.Offset, written[topic][p].Offset
		}
	}
	return stable, ends, nil
}
