package testsvc

import (
	"cmp"
	"context"
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
func (k *KafkaServer) ReadAll(ctx context.Context, topic string) ([]*kgo.Record, error) {
	cl, err := k.Client(kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords())
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	left, err := unread(ctx, kadm.NewClient(cl), topic)
	if err != nil {
		return nil, fmt.Errorf("read topic %s: %w", topic, err)
	}
	var all []*kgo.Record
	for len(left) > 0 {
		fs := cl.PollFetches(ctx)
		if err := fs.Err0(); err != nil {
			return nil, fmt.Errorf("read topic %s: %w", topic, err)
		}
		if errs := fs.Errors(); len(errs) > 0 {
			return nil, fmt.Errorf("read topic %s partition %d: %w", topic, errs[0].Partition, errs[0].Err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			end, ok := left[r.Partition]
			if ok && r.Offset < end && !r.Attrs.IsControl() {
				all = append(all, r)
			}
			if ok && r.Offset >= end-1 {
				delete(left, r.Partition)
			}
		})
	}
	slices.SortFunc(all, func(a, b *kgo.Record) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	return all, nil
}

// unread returns the offsets before which everything is committed, for the partitions that hold anything.
func unread(ctx context.Context, adm *kadm.Client, topic string) (map[int32]int64, error) {
	starts, err := adm.ListStartOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	ends, err := adm.ListCommittedOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	left := make(map[int32]int64)
	for p, end := range ends[topic] {
		if err := cmp.Or(end.Err, starts[topic][p].Err); err != nil {
			return nil, fmt.Errorf("partition %d: %w", p, err)
		}
		if end.Offset > starts[topic][p].Offset {
			left[p] = end.Offset
		}
	}
	return left, nil
}
