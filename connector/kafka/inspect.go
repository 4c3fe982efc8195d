package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Why partitions are inspected. The client hands out records, not positions. What it skips, it skips in silence: records
// of aborted transactions, and offsets that compaction has emptied. Commit and abort marks are asked for and so move the
// position, but a Stop may lie behind something skipped that no mark follows. So when a bounded partition stays quiet
// before its Stop, the same fetch is made by hand, whose answer tells how far it reached.
//
// The client also stays silent about a partition number that a topic never had, or hasn't any more.

// wait is how long to poll before something is to be inspected.
func (p *poller) wait(now time.Time) time.Duration {
	d := time.Second
	for _, q := range p.order {
		if due, ok := p.due(q); ok {
			d = min(d, due.Sub(now))
		}
	}
	return max(d, time.Millisecond)
}

// due is when a partition that stays quiet is to be inspected, if at all.
func (p *poller) due(q *part) (time.Time, bool) {
	switch {
	case len(q.fetched) > 0 || q.err != nil || q.dropped || q.split.done():
		return time.Time{}, false
	case !q.unknown.IsZero():
		return q.unknown.Add(p.o.grace), true
	case q.split.Stop >= 0:
		return q.quiet.Add(q.patience), true
	case !q.seen:
		return q.quiet.Add(max(q.patience, p.o.grace)), true
	}
	return time.Time{}, false
}

// inspect looks at the partitions that are due.
func (p *poller) inspect(ctx context.Context, now time.Time) error {
	for _, q := range p.order {
		due, ok := p.due(q)
		if !ok || due.After(now) || p.isPaused(q) {
			continue
		}
		p.look(ctx, q, now)
		if q.split.Stop >= 0 && q.err == nil && !q.dropped {
			p.probe(ctx, q, now)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		q.quiet, q.patience = now, min(2*q.patience, max(time.Minute, p.o.grace))
		if q.split.Stop >= 0 {
			q.patience = min(q.patience, 2*time.Second)
		}
	}
	return nil
}

func (p *poller) isPaused(q *part) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.paused[q.id]
}

// probe moves a position over what holds no records. It stops at the first record, which the client will bring.
func (p *poller) probe(ctx context.Context, q *part, now time.Time) {
	t, ok := p.topic(ctx, q.split.Topic, now)
	if !ok {
		return
	}
	leader := p.cl.Broker(int(t.Partitions[q.split.Partition].Leader))
	for !q.split.done() {
		next, ok := p.fetchPast(ctx, leader, q.split, t.ID)
		if !ok || next <= q.split.Next {
			return
		}
		q.split.Next = min(next, q.split.Stop)
	}
}

// fetchPast makes one fetch and says where it ended; not ok if it brought records, or failed.
func (p *poller) fetchPast(ctx context.Context, leader *kgo.Broker, s Split, id [16]byte) (next int64, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, p.o.client.timeout())
	defer cancel()
	f := fetch{leader: leader, topic: s.Topic, id: id, partition: s.Partition, level: kgo.ReadUncommitted()}
	if p.o.readCommitted {
		f.committed, f.level = true, kgo.ReadCommitted()
	}
	rp, err := f.at(ctx, s.Next)
	if err != nil {
		return 0, false
	}
	fp, next := f.records(rp, s.Next)
	return next, fp.Err == nil && len(fp.Records) == 0
}

// fetch asks a partition's leader for records by hand.
type fetch struct {
	leader    *kgo.Broker
	topic     string
	id        [16]byte // of the topic
	partition int32
	committed bool
	level     kgo.IsolationLevel // the same
}

// at fetches from an offset what is there now, 1 MiB at most. The answer may hold an error code of its own.
func (f fetch) at(ctx context.Context, offset int64) (*kmsg.FetchResponseTopicPartition, error) {
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition, part.FetchOffset, part.PartitionMaxBytes = f.partition, offset, 1<<20
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID, topic.Partitions = f.topic, f.id, append(topic.Partitions, part)
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = 0, 0, 1<<20, -1
	if f.committed {
		req.IsolationLevel = 1
	}
	req.Topics = append(req.Topics, topic)
	kresp, err := f.leader.RetriableRequest(ctx, req)
	if err != nil {
		return nil, err
	}
	resp, ok := kresp.(*kmsg.FetchResponse)
	if !ok {
		return nil, fmt.Errorf("fetch: the answer is a %T", kresp)
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return nil, fmt.Errorf("fetch: the answer isn't about %s/%d", f.topic, f.partition)
	}
	return &resp.Topics[0].Partitions[0], nil
}

// records decodes an answer, and says where the next fetch begins.
func (f fetch) records(rp *kmsg.FetchResponseTopicPartition, offset int64) (kgo.FetchPartition, int64) {
	return kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		KeepControlRecords: true, Offset: offset, IsolationLevel: f.level, Topic: f.topic, Partition: f.partition,
	}, rp, kgo.DefaultDecompressor(), nil)
}
