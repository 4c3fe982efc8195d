package async

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/plain"
	"github.com/weirline/weirline/sink"
)

// The defaults of Sink.
const (
	defaultBatch     = 500
	defaultBytes     = 4 << 20
	defaultInFlight  = 16
	defaultHeldBytes = 64 << 20
	defaultLinger    = 20 * time.Millisecond
	defaultTimeout   = 30 * time.Second
	heldBatches      = 5 // MaxBuffered = this many times what can be in flight
)

// Sink sends batches in the background. Only Send is needed. It implements [sink.Sink] and
// [sink.Idempotent].
type Sink[T any] struct {
	// Send delivers a batch; the package comment says what its error means. It is called from several goroutines at
	// once. It must neither keep the slice nor change the values, and should return soon after ctx ends: until it
	// returns, its records count as on their way, so a slow one is never overtaken by its own repetition.
	Send func(ctx context.Context, batch []T) error

	MaxBatch         int           // records in a batch. Unset: 500, negative: no limit
	MaxBytes         int           // bytes in a batch by Size; a larger record goes alone. Unset: 4 MiB, negative: no limit
	MaxInFlight      int           // most batches on their way at once, to each shard. Unset: 16
	MaxBuffered      int           // records held, those on their way included. Unset: 5 x MaxBatch x MaxInFlight, negative: no limit
	MaxBufferedBytes int           // bytes held, by Size. Unset: 64 MiB, negative: no limit
	Linger           time.Duration // how old the first record of a batch gets before the batch goes as it is. Unset: 20 ms, negative: none
	Timeout          time.Duration // of one call of Send. Unset: 30 s, negative: none

	Size func(T) int    // bytes of a record. Unset: byte limits are off
	Key  func(T) string // records of one key are never in two batches on their way and keep their order. Unset: no order

	// Shard says where in the destination a record goes: a partition, an index, a host. A batch holds records of one
	// shard, and each shard has its own window, pace, breaker and delays, so that one that is slow or down costs the
	// others nothing but room. With Key too, all records of a key must be of one shard: while records of the key are
	// held, later ones go where the first of them goes. Unset: one shard.
	Shard func(T) string

	Fixed   bool    // MaxInFlight batches whatever the destination does, and no pace when it throttles
	Breaker Breaker // when a shard counts as down
	Retry   Retry   // when and how often to send again

	// Repeatable says that sending a record again has no further effect (an upsert, a key by which the destination knows it).
	Repeatable bool

	// Encode appends a record to dst and Decode reads it back, for the state stored with an epoch. Unset: CBOR of the
	// plain value; a type that would lose something that way is refused by Validate. Either both are set or none.
	Encode func(dst []byte, v T) ([]byte, error)
	Decode func(data []byte) (T, error)
}

// Validate says everything that is wrong with the settings. Writer calls it too.
func (s Sink[T]) Validate() error {
	var errs []error
	bad := func(what, fix string) {
		errs = append(errs, fault.New(fault.BadPipeline, "async sink: %s", what).WithFix("%s", fix))
	}
	if s.Send == nil {
		bad("Send is missing", "set Send to the function that delivers a batch")
	}
	if s.MaxInFlight < 0 {
		bad("MaxInFlight is negative", "set MaxInFlight to 1 or more, or leave it out")
	}
	if (s.Encode == nil) != (s.Decode == nil) {
		bad("only one of Encode and Decode is set", "set both, or none")
	}
	if s.Encode == nil && s.Decode == nil {
		if err := plain.Check[T]("async sink"); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Idempotent implements sink.Idempotent.
func (s Sink[T]) Idempotent() bool { return s.Repeatable }

// Writer makes the writer of one task. It does no I/O and starts nothing before the first record.
func (s Sink[T]) Writer(ctx context.Context, t sink.Task) (sink.Writer[T], error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return newWriter(context.WithoutCancel(ctx), s.withDefaults(), t), nil
}

func (s Sink[T]) withDefaults() Sink[T] {
	s.MaxBatch = limit(s.MaxBatch, defaultBatch)
	s.MaxBytes = limit(s.MaxBytes, defaultBytes)
	if s.MaxInFlight == 0 {
		s.MaxInFlight = defaultInFlight
	}
	s.MaxBuffered = limit(s.MaxBuffered, multiple(heldBatches, multiple(s.MaxBatch, s.MaxInFlight)))
	s.MaxBufferedBytes = limit(s.MaxBufferedBytes, defaultHeldBytes)
	if s.Linger == 0 {
		s.Linger = defaultLinger
	}
	s.Linger = min(s.Linger, longest)
	if s.Timeout == 0 {
		s.Timeout = defaultTimeout
	}
	if s.Encode == nil {
		s.Encode, s.Decode = plain.Append[T], plain.Decode[T]
	}
	s.Retry, s.Breaker = s.Retry.withDefaults(), s.Breaker.withDefaults()
	return s
}

// limit is n, or the default when n is unset, or no limit when n is negative.
func limit(n, byDefault int) int {
	switch {
	case n < 0:
		return math.MaxInt
	case n == 0:
		return byDefault
	}
	return n
}

// multiple is a x b, or no limit.
func multiple(a, b int) int {
	if a > math.MaxInt/b {
		return math.MaxInt
	}
	return a * b
}
