package ahead

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/plain"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

const (
	defaultBatch    = 500
	defaultPatience = time.Hour
)

// Sink writes rows to To when their epoch is complete. To and one of Dir and Place are needed. It implements
// [sink.TwoPhase], [sink.Preflight] and [sink.Qualified].
type Sink[T any] struct {
	// To is the destination. Its writer is asked for by the committer, with index 0.
	To sink.Sink[T]

	// Dir is a directory where rows wait. It is made if it is absent, in one that is there. Unset: Place is.
	Dir string

	// Place is where rows wait, if not in a directory.
	Place Place

	// Batch is how many rows To is given at once. Unset: 500.
	Batch int

	// Rejects takes rows that To refuses for good, at least once each. Unset: such a row stops the job.
	Rejects sink.Sink[Reject[T]]

	// Patience is how long To may fail, or keep a call waiting, until the job stops. Unset: 1 h. Negative: for ever.
	Patience time.Duration

	// Lost says what to do about a segment that is gone or damaged. Unset: [txn.FailOnLoss].
	Lost txn.Loss

	// Encode appends a row to dst and Decode reads it back. All tasks call Encode at once. Unset: CBOR of the plain value; a
	// type that would lose something that way is refused by Validate. Either both are set or none.
	Encode func(dst []byte, v T) ([]byte, error)
	Decode func(data []byte) (T, error)
}

var (
	_ sink.TwoPhase[string] = Sink[string]{}
	_ sink.Preflight        = Sink[string]{}
	_ sink.Qualified        = Sink[string]{}
)

// Reject is a row that the destination refused, and the transaction it was in.
type Reject[T any] struct {
	Row    T
	Reason string
	Slot   string
	Token  string
	Epoch  uint64
}

// Validate says everything that is wrong with the settings, those of To and Rejects included. The constructors call it too.
func (s Sink[T]) Validate() error {
	var errs []error
	bad := func(what, fix string) {
		errs = append(errs, fault.New(fault.BadPipeline, "write-ahead sink: %s", what).WithFix("%s", fix))
	}
	if s.To == nil {
		bad("To is missing", "set To to the sink that rows are written to")
	}
	if (s.Dir == "") == (s.Place == nil) {
		bad("one of Dir and Place is needed", `set Dir to a directory for rows that wait, such as "ahead" in that of the state`)
	}
	if s.Batch < 0 {
		bad("Batch is negative", "set Batch to 1 or more, or leave it out")
	}
	if (s.Encode == nil) != (s.Decode == nil) {
		bad("only one of Encode and Decode is set", "set both, or none")
	}
	if s.Encode == nil && s.Decode == nil {
		errs = append(errs, plain.Check[T]("write-ahead sink"))
	}
	errs = append(errs, s.Lost.Check())
	for _, to := range []any{s.To, s.Rejects} {
		if v, ok := sink.As[interface{ Validate() error }](to); ok {
			errs = append(errs, v.Validate())
		}
	}
	return errors.Join(errs...)
}

// Promise implements sink.Qualified.
func (s Sink[T]) Promise() (promise, why, fix string) {
	if _, ok := sink.As[Marked[T]](s.To); ok {
		return sink.ExactlyOnce, "rows wait until their checkpoint is complete, and the destination keeps with them how far they have come", ""
	}
	if i, ok := sink.As[sink.Idempotent](s.To); ok && i.Idempotent() {
		return sink.Repeatable, "rows wait until their checkpoint is complete; a commit that a crash interrupts writes them again as they were, which changes nothing", ""
	}
	return sink.AtLeastOnce, "rows wait until their checkpoint is complete; a commit that a crash interrupts writes them again",
		"use a destination where a row replaces the one with its key, or one that keeps a mark with the rows (ahead.Marked)"
}

// Preflight looks whether rows can wait in the place, and lets To and Rejects check their own settings.
func (s Sink[T]) Preflight(ctx context.Context) error {
	if err := s.Validate(); err != nil {
		return err
	}
	p := s.place()
	name := "preflight-" + txn.NewToken()
	if err := errors.Join(p.Create(ctx, name, []byte(name)), p.Remove(ctx, []string{name})); err != nil {
		return fault.Wrap(fault.Preflight, err, "write-ahead sink: make files in %s", p).
			WithFix("check that the place is there, with room, and that this user may write to it")
	}
	for _, to := range []any{s.To, s.Rejects} {
		if c, ok := sink.As[sink.Preflight](to); ok {
			if err := c.Preflight(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// TxWriter makes the writer of one task.
func (s Sink[T]) TxWriter(_ context.Context, t sink.Task) (sink.TxWriter[T], error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	s = s.withDefaults()
	return &writer[T]{t: t, p: s.place(), encode: s.Encode}, nil
}

// Committer makes the committer of the operator. It calls To when there is something to write.
func (s Sink[T]) Committer(_ context.Context, t sink.Task) (sink.Committer, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	s = s.withDefaults()
	return txn.NewCommitter(&resource[T]{s: s, t: t, store: store{s.place()}}, t, s.Lost), nil
}

func (s Sink[T]) place() Place {
	if s.Place != nil {
		return s.Place
	}
	return Directory(s.Dir)
}

func (s Sink[T]) withDefaults() Sink[T] {
	s.Batch = cmp.Or(s.Batch, defaultBatch)
	s.Patience = cmp.Or(s.Patience, defaultPatience)
	if s.Encode == nil {
		s.Encode, s.Decode = plain.Append[T], plain.Decode[T]
	}
	return s
}
