package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/sink"
)

// txWriter turns values into records for its tx.
type txWriter[T any] struct {
	*tx
	encode func(T) (Record, error)
	topic  string // of the last record taken
}

// Write encodes a batch and hands it to the client. Values that can't be encoded, or that no broker would take, are rejected.
// What the brokers say of the others is known later: by the next Write, by Err, and by Prepare at the latest.
func (w *txWriter[T]) Write(ctx context.Context, batch []T) error {
	p, err := w.open()
	if err != nil {
		return err
	}
	var bad map[int]error
	var slab []kgo.Record
	for i, v := range batch {
		r, err := w.encode(v)
		if errors.Is(err, ErrSkip) {
			continue
		}
		if err != nil {
			err = fmt.Errorf("encode record: %w", err)
		} else {
			err = w.takes(&r)
		}
		if err != nil {
			if bad == nil {
				bad = map[int]error{}
			}
			bad[i] = err
			continue
		}
		if len(slab) == 0 {
			slab = make([]kgo.Record, min(len(batch)-i, slabRecords))
		}
		k := &slab[0]
		slab = slab[1:]
		k.Topic, k.Partition, k.Key, k.Value, k.Headers, k.Timestamp = r.Topic, r.Partition, r.Key, r.Value, r.Headers, r.Time
		p.send(ctx, k)
	}
	w.age.look()
	if len(bad) > 0 {
		return &sink.Rejected{Errs: bad}
	}
	return nil
}

// slabRecords are allocated together, and so kept until the last of them is written.
const slabRecords = 128

// takes says why no broker would take a record.
func (w *txWriter[T]) takes(r *Record) error {
	topic := r.Topic
	if topic == "" {
		topic = w.o.topic
	}
	if topic != w.topic && !topicName(topic) {
		return fmt.Errorf("%q can't be the name of a topic: %w", topic, kerr.InvalidTopicException)
	}
	w.topic = topic
	if n := batchBytes(r); n > w.o.limit() {
		return fmt.Errorf("the record takes %d bytes, and MaxBytes is %d: %w", n, w.o.limit(), kerr.MessageTooLarge)
	}
	return nil
}

func (o output) limit() int {
	if o.maxBytes > 0 {
		return o.maxBytes
	}
	return defaultMaxBytes
}

// topicName says whether a topic can be called so.
func topicName(s string) bool {
	return s != "" && len(s) <= 249 && s != "." && s != ".." && strings.IndexFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_'
	}) < 0
}

// batchHead is the size of a batch without its records, as the client library counts it at most.
const batchHead = 66

// batchBytes is the size of a batch with this record alone, not compressed.
func batchBytes(r *Record) int {
	n := 1 + 1 + 1 + // attributes, and the differences to the batch's first time and offset
		kbin.VarintLen(int32(len(r.Key))) + len(r.Key) + kbin.VarintLen(int32(len(r.Value))) + len(r.Value) + kbin.VarintLen(int32(len(r.Headers)))
	for _, h := range r.Headers {
		n += kbin.VarintLen(int32(len(h.Key))) + len(h.Key) + kbin.VarintLen(int32(len(h.Value))) + len(h.Value)
	}
	return batchHead + kbin.VarintLen(int32(n)) + n
}
