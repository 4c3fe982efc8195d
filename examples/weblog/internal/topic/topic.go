// Package topic puts a fixed sequence of lines into a Kafka topic: line i is record i/P of partition i mod P.
//
//	t, err := topic.Open(ctx, brokers, "weblog")
//	defer t.Close()
//	ends, err := t.Publish(ctx, topic.Dir("live"))
//
// What is in the topic already must be the beginning of the sequence, partition by partition; publishing goes on where
// each of them ends. So a publisher that was killed is simply started again. A Topic is used by one goroutine; everything
// blocks on the broker until ctx ends.
package topic

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/internal/fault"
)

// askWithin bounds the questions asked at the start.
const askWithin = 15 * time.Second

// Lines calls f with each line, in order. The bytes are lent for the call.
type Lines func(f func(line []byte) error) error

// Topic is a topic that exists.
type Topic struct {
	Name       string
	Partitions int
	brokers    []string
	client     *kgo.Client
}

// Open connects and looks for the topic.
func Open(ctx context.Context, brokers []string, name string) (*Topic, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ClientID("weblog"), kgo.DefaultProduceTopic(name),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(2*time.Millisecond))
	if err != nil {
		return nil, fmt.Errorf("connect to Kafka at %v: %w", brokers, err)
	}
	t := &Topic{Name: name, brokers: brokers, client: client}
	if err := t.look(ctx); err != nil {
		client.Close()
		return nil, err
	}
	return t, nil
}

func (t *Topic) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	list, err := kadm.NewClient(t.client).ListTopics(ctx, t.Name)
	if err != nil {
		return t.unanswered(ctx, err)
	}
	d := list[t.Name]
	if errors.Is(d.Err, kerr.UnknownTopicOrPartition) || d.Err == nil && len(d.Partitions) == 0 {
		return fault.New(fault.NoTopic, "topic %q isn't in Kafka at %v", t.Name, t.brokers)
	}
	if d.Err != nil {
		return fmt.Errorf("look at topic %q: %w", t.Name, d.Err)
	}
	t.Partitions = len(d.Partitions)
	return nil
}

// unanswered is the error of a question that the broker didn't answer. An end of the caller's context stays one.
func (t *Topic) unanswered(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return fault.Wrap(fault.Unreachable, err, "ask Kafka at %v for topic %q, for up to %v", t.brokers, t.Name, askWithin)
}

// other says that the topic can't be the beginning of the lines.
func (t *Topic) other(what string, args ...any) error {
	return fault.New(fault.OtherJob, "topic %q doesn't hold the beginning of these lines: "+what, append([]any{t.Name}, args...)...).
		WithFix("use an empty topic, or the lines it was filled with")
}

// Close cuts the connections.
func (t *Topic) Close() { t.client.Close() }

// Ends is the end offset of each partition. A topic whose beginning is gone is refused.
func (t *Topic) Ends(ctx context.Context) (map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	adm := kadm.NewClient(t.client)
	starts, err := adm.ListStartOffsets(ctx, t.Name)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, t.unanswered(ctx, err)
	}
	ends, err := adm.ListEndOffsets(ctx, t.Name)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, t.unanswered(ctx, err)
	}
	out := map[int32]int64{}
	for p := range int32(t.Partitions) {
		if s, _ := starts.Lookup(t.Name, p); s.Offset != 0 {
			return nil, t.other("partition %d begins at offset %d", p, s.Offset)
		}
		e, ok := ends.Lookup(t.Name, p)
		if !ok {
			return nil, fmt.Errorf("ask for the end of topic %q: no answer for partition %d", t.Name, p)
		}
		out[p] = e.Offset
	}
	return out, nil
}

// Publish brings all lines into the topic and returns where each partition ends then.
func (t *Topic) Publish(ctx context.Context, lines Lines) (map[int32]int64, error) {
	has, err := t.Ends(ctx)
	if err != nil {
		return nil, err
	}
	sums, err := sumsOf(lines)
	if err != nil {
		return nil, err
	}
	n, ends := int64(t.Partitions), map[int32]int64{}
	for p := range int32(t.Partitions) {
		ends[p] = (int64(len(sums.of)) - int64(p) + n - 1) / n
		if has[p] > ends[p] {
			return nil, t.other("partition %d has %d records, %d are to go there", p, has[p], ends[p])
		}
	}
	if err := t.compare(ctx, has, sums); err != nil {
		return nil, err
	}
	i := int64(0)
	s := t.sender(ctx)
	err = lines(func(line []byte) error {
		p, offset := int32(i%n), i/n
		i++
		if offset < has[p] {
			return nil
		}
		return s.send(p, line)
	})
	if err := errors.Join(err, s.flush()); err != nil {
		return nil, err
	}
	after, err := t.Ends(ctx)
	if err != nil {
		return nil, err
	}
	for p, want := range ends {
		if after[p] != want {
			return nil, t.other("partition %d ends at %d, not at %d; somebody else writes to it", p, after[p], want)
		}
	}
	return ends, nil
}

// sums are hashes of all lines: the topic is compared with them without the lines in memory.
type sums struct {
	seed maphash.Seed
	of   []uint64
}

func sumsOf(lines Lines) (sums, error) {
	s := sums{seed: maphash.MakeSeed()}
	err := lines(func(line []byte) error {
		s.of = append(s.of, maphash.Bytes(s.seed, line))
		return nil
	})
	return s, err
}

// compare reads the topic up to has and looks whether it is the beginning of the lines.
func (t *Topic) compare(ctx context.Context, has map[int32]int64, want sums) error {
	from := map[int32]kgo.Offset{}
	left := int64(0)
	for p, end := range has {
		if end > 0 {
			from[p] = kgo.NewOffset().At(0)
			left += end
		}
	}
	if left == 0 {
		return nil
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(t.brokers...), kgo.ClientID("weblog"),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{t.Name: from}))
	if err != nil {
		return fmt.Errorf("read topic %q: %w", t.Name, err)
	}
	defer client.Close()
	for left > 0 {
		got := client.PollFetches(ctx)
		if err := errors.Join(got.Err0(), ctx.Err()); err != nil {
			return fmt.Errorf("read topic %q: %w", t.Name, err)
		}
		for r := range got.RecordsAll() {
			if r.Offset >= has[r.Partition] {
				continue
			}
			i := r.Offset*int64(t.Partitions) + int64(r.Partition)
			if maphash.Bytes(want.seed, r.Value) != want.of[i] {
				return t.other("offset %d of partition %d isn't line %d", r.Offset, r.Partition, i+1)
			}
			left--
		}
	}
	return nil
}
