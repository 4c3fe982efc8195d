package source

import (
	"math"
	"time"
)

// NoTime in [Batch.Times] marks a record without an event time. It is different from time zero.
const NoTime int64 = math.MinInt64

// A Batch carries records from a reader into the engine. The engine owns and recycles it: an author appends to it inside
// Read and keeps no reference to it, to Values or to a buffer from Scratch afterwards. Memory that values point to is
// never recycled, except what Scratch lent.
type Batch[T any] struct {
	Values []T

	// Times is empty, or holds the event time of each value: microseconds since 1970 UTC, or NoTime.
	Times []int64

	// Rejects are the records that could not be decoded, in reading order.
	Rejects []Reject

	limit   int
	scratch []byte
}

// A Reject is a bad record among good ones.
type Reject struct {
	Raw   []byte // what was read, a copy
	At    string // where: readable position inside the split
	Err   error  // why
	Index int    // how many good records of this batch came before it
}

// Limit sets how many records make the batch full; a toolkit or test that makes its own batches calls it.
func (b *Batch[T]) Limit(n int) { b.limit = n }

// Add appends a record without event time.
func (b *Batch[T]) Add(v T) {
	b.Values = append(b.Values, v)
	if len(b.Times) != 0 {
		b.Times = append(b.Times, NoTime)
	}
}

// AddAt appends a record with its event time.
func (b *Batch[T]) AddAt(v T, at time.Time) { b.AddMicros(v, at.UnixMicro()) }

// AddMicros appends a record with its event time in microseconds since 1970 UTC.
func (b *Batch[T]) AddMicros(v T, at int64) {
	for len(b.Times) < len(b.Values) {
		b.Times = append(b.Times, NoTime)
	}
	b.Values = append(b.Values, v)
	b.Times = append(b.Times, at)
}

// Reject reports a record that can't be decoded. raw is copied; at says where in the split it stands. What then happens
// (fail, skip, dead letter) is the pipeline's choice; the position moves past it as past any record.
func (b *Batch[T]) Reject(raw []byte, at string, err error) {
	b.Rejects = append(b.Rejects, Reject{
		Raw: append([]byte(nil), raw...), At: at, Err: err, Index: len(b.Values),
	})
}

// Full says that no more records should be appended. A little more does no harm.
func (b *Batch[T]) Full() bool { return len(b.Values)+len(b.Rejects) >= b.limit }

// Room is how many records fit before the batch is full, never negative.
func (b *Batch[T]) Room() int { return max(0, b.limit-len(b.Values)-len(b.Rejects)) }

// Scratch lends a buffer of n bytes that lives exactly as long as the batch's records: a reader that declares [Borrower]
// may let values point into it. One buffer a batch: a second call in the same Read returns the same memory.
func (b *Batch[T]) Scratch(n int) []byte {
	if cap(b.scratch) < n {
		b.scratch = make([]byte, n)
	}
	return b.scratch[:n]
}

// Reset empties the batch for its next use and keeps its memory.
func (b *Batch[T]) Reset() {
	clear(b.Rejects)
	b.Values, b.Times, b.Rejects = b.Values[:0], b.Times[:0], b.Rejects[:0]
}
