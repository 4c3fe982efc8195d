package kafka

import (
	"context"
	"io"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/source"
)

// reader is what knows the type of the values; all that doesn't depend on it is done by the poller.
type reader[T any] struct {
	*poller
	decode func(*Record) (T, error)
	into   func(*Record, *source.Batch[T]) error
	rec    Record // lent to decode
}

var (
	_ source.Reader[string, Split] = (*reader[string])(nil)
	_ source.Acker[Split]          = (*reader[string])(nil)
	_ source.Pauser                = (*reader[string])(nil)
)

// Read implements source.Cursor: records of one partition, until the batch is full or what was fetched of it is used up.
func (r *reader[T]) Read(ctx context.Context, out *source.Batch[T]) (Split, error) {
	for {
		if p := r.ready(); p != nil {
			return r.serve(p, out)
		}
		if err := r.poll(ctx); err != nil {
			return r.anySplit(), err
		}
	}
}

// serve moves a partition on. It has records, an error, or its end.
func (r *reader[T]) serve(p *part, out *source.Batch[T]) (Split, error) {
	n := 0
	for n < len(p.fetched) && !out.Full() {
		k := p.fetched[n]
		if p.split.Stop >= 0 && k.Offset >= p.split.Stop {
			p.split.Next = p.split.Stop // nothing is left below it
			break
		}
		n++
		if k.Offset < p.split.Next {
			continue // read before
		}
		p.split.Next = k.Offset + 1
		if !k.Attrs.IsControl() {
			r.add(k, p.split, out)
		}
	}
	p.fetched = p.fetched[n:]
	if len(p.fetched) == 0 {
		p.fetched = nil // release the blocks
	}
	switch {
	case p.split.done() || (p.dropped && len(p.fetched) == 0):
		r.finish(p)
		return p.split, io.EOF
	case p.err != nil && len(p.fetched) == 0:
		return p.split, p.err
	}
	return p.split, nil
}

// add decodes one record into the batch.
func (r *reader[T]) add(k *kgo.Record, s Split, out *source.Batch[T]) {
	r.rec = Record{
		Topic: k.Topic, Partition: k.Partition, Offset: k.Offset,
		Key: k.Key, Value: k.Value, Headers: k.Headers, Time: k.Timestamp,
	}
	var err error
	if r.into != nil {
		err = r.into(&r.rec, out)
	} else {
		var v T
		v, err = r.decode(&r.rec)
		switch {
		case err != nil:
		case k.Attrs.TimestampType() < 0: // written before records had timestamps
			out.Add(v)
		default:
			out.AddMicros(v, k.Timestamp.UnixMicro())
		}
	}
	if err != nil {
		out.Reject(k.Value, s.at(k.Offset), err)
	}
}
