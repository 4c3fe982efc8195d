package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// producer sends batches for one writer.
type producer[T any] struct {
	cl     *kgo.Client
	encode func(T) (Record, error)
}

// send is the Send of the asynchronous writer: it returns when each record has its answer.
func (p *producer[T]) send(ctx context.Context, batch []T) error {
	errs := make(map[int]error)
	records := make([]*kgo.Record, 0, len(batch))
	index := make([]int, 0, len(batch)) // of records in batch
	slab := make([]kgo.Record, len(batch))
	for i, v := range batch {
		r, err := p.encode(v)
		switch {
		case errors.Is(err, ErrSkip):
			continue
		case err != nil:
			errs[i] = async.Refuse(fmt.Errorf("encode record: %w", err))
			continue
		}
		k := &slab[i]
		*k = kgo.Record{Topic: r.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Time}
		records, index = append(records, k), append(index, i)
	}
	if results := p.cl.ProduceSync(ctx, records...); results.FirstErr() != nil {
		at := make(map[*kgo.Record]int, len(records))
		for n, r := range records {
			at[r] = index[n]
		}
		alone := p.apart(ctx, results)
		for n, res := range results {
			if err, again := alone[n]; again {
				res.Err = err
			}
			if res.Err != nil {
				errs[at[res.Record]] = verdict(res.Err)
			}
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return &async.Partial{Errs: errs}
}

// apart sends refused records again one by one, because a broker refuses whole batches for the sake of one record. It
// returns their new results.
func (p *producer[T]) apart(ctx context.Context, results kgo.ProduceResults) map[int]error {
	var refused []int
	for i, res := range results {
		if invalid(res.Err) {
			refused = append(refused, i)
		}
	}
	if len(refused) < 2 {
		return nil
	}
	alone := make(map[int]error, len(refused))
	for _, i := range refused {
		r := results[i].Record
		again := &kgo.Record{Topic: r.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp}
		alone[i] = p.cl.ProduceSync(ctx, again).FirstErr()
	}
	return alone
}

// invalid says that the broker will never take this record.
func invalid(err error) bool {
	for _, e := range []error{kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.InvalidTopicException} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// verdict says what becomes of a record that wasn't written.
func verdict(err error) error {
	err = fmt.Errorf("produce record: %w", err)
	switch {
	case invalid(err):
		return async.Refuse(err)
	case refused(err):
		return sink.Permanent(err)
	}
	return err
}
