// Package flight is the byte form of records in flight: batches that the barriers of an epoch have overtaken, stored with it.
//
//	codec, err := flight.Of[Order]()
//	log, err = codec.Append(log, sender, batch)
//	...
//	err = codec.Read(log, func(sender int, batch any) error { ... })
//
// A log is the batches of one link to one task, in the order in which each sender had sent them. It begins with the signature of
// the records' codec, so that another type is refused. A Codec may be used by any number of goroutines.
package flight

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/weirline/weirline/source"
	"github.com/weirline/weirline/state"
)

// Codec writes and reads batches of one type.
type Codec interface {
	// Append appends a *source.Batch to a log, which is empty at first.
	Append(log []byte, sender int, batch any) ([]byte, error)

	// Read calls each with every batch of a log, until it returns an error. A batch shares no memory with the log.
	Read(log []byte, each func(sender int, batch any) error) error
}

// Of is the codec of batches of T; types that state can't hold are refused.
func Of[T any]() (Codec, error) {
	values, err := state.CodecOf[T]()
	return codec[T]{values}, err
}

type codec[T any] struct{ values state.Codec[T] }

func (c codec[T]) Append(log []byte, sender int, batch any) (_ []byte, err error) {
	if len(log) == 0 {
		sig := c.values.Signature()
		log = append(binary.AppendUvarint(log, uint64(len(sig))), sig...)
	}
	b := batch.(*source.Batch[T])
	for _, n := range []int{sender, len(b.Values), len(b.Times)} {
		log = binary.AppendUvarint(log, uint64(n)) //nolint:gosec // not negative
	}
	for _, at := range b.Times {
		log = binary.AppendVarint(log, at)
	}
	for i := range b.Values {
		if log, err = c.values.Append(log, &b.Values[i]); err != nil {
			return nil, err
		}
	}
	return log, nil
}

func (c codec[T]) Read(log []byte, each func(sender int, batch any) error) error {
	r := reader{b: log}
	n := min(r.count(), len(r.b))
	if was, is := string(r.b[:n]), c.values.Signature(); was != is {
		return fmt.Errorf("the records are %s, and the type is %s now", was, is)
	}
	r.b = r.b[n:]
	for len(r.b) > 0 && r.err == nil {
		sender, b := r.count(), &source.Batch[T]{}
		values, times := r.count(), r.count()
		for i := 0; i < times && r.err == nil; i++ {
			at, n := binary.Varint(r.b)
			r.skip(n)
			b.Times = append(b.Times, at)
		}
		for i := 0; i < values && r.err == nil; i++ {
			var v T
			r.b, r.err = c.values.Decode(r.b, &v)
			b.Values = append(b.Values, v)
		}
		if r.err == nil {
			r.err = each(sender, b)
		}
	}
	return r.err
}

// reader reads numbers and remembers the first error.
type reader struct {
	b   []byte
	err error
}

func (r *reader) count() int {
	v, n := binary.Uvarint(r.b)
	if r.skip(n); v > math.MaxInt32 {
		r.err = io.ErrUnexpectedEOF
	}
	if r.err != nil {
		return 0
	}
	return int(v) //nolint:gosec // see above
}

func (r *reader) skip(n int) {
	if n <= 0 {
		r.b, r.err = nil, io.ErrUnexpectedEOF
		return
	}
	r.b = r.b[n:]
}
