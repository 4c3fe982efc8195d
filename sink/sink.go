package sink

import (
	"context"
	"log/slog"
)

// A Writer takes the records of one task. One goroutine calls it.
type Writer[T any] interface {
	// Write takes a batch and may buffer it. It must not keep the slice, which is recycled; the values may be kept.
	// It may block, which is back pressure, but see Gated. A *Rejected error says which records the destination refused
	// for good, all others being taken; any other error fails the task, and the batch is written again after the restart.
	Write(ctx context.Context, batch []T) error

	// Flush returns when everything written before is delivered. Called at each barrier (unless Stateful) and at the end.
	Flush(ctx context.Context) error

	// Close releases what the writer holds, also after an error, and doesn't deliver what is still buffered.
	Close() error
}

// A Sink makes the writers of a plain destination. The constructor may do I/O, bounded by ctx.
type Sink[T any] interface {
	Writer(ctx context.Context, t Task) (Writer[T], error)
}

// A TxWriter takes the records of one task into transactions. One goroutine calls it.
type TxWriter[T any] interface {
	// Begin opens a transaction under slot. Called before the first Write after a barrier, so an epoch without records
	// has no transaction. The slot is free again only when the transaction it was last used for is known to be finished.
	Begin(ctx context.Context, slot Slot) error

	// Write puts a batch into the open transaction. The slice is recycled afterwards. Errors as for Writer.
	Write(ctx context.Context, batch []T) error

	// Prepare ends the open transaction so that a crash no longer undoes it and it stays invisible, and returns what is
	// needed to finish it. Called at the barrier of epoch. Token is chosen by the writer, unique for ever.
	Prepare(ctx context.Context, epoch uint64) (Handle, error)

	// Close gives up an open transaction, never a prepared one, and releases what the writer holds.
	Close() error
}

// A Committer finishes prepared transactions. There is one per operator; one goroutine calls it.
type Committer interface {
	// Commit makes the transactions visible, in order. It is idempotent: after a crash the same handles come again. An
	// error is retried with back-off, unless it is Permanent, which stops the job; results that can't be known are errors.
	Commit(ctx context.Context, hs []Handle) error

	// Recover is called before the writers of an attempt are made: it commits keep, then clears whatever else was left
	// under slots, and touches nothing outside them.
	Recover(ctx context.Context, keep []Handle, slots []Slot) error

	// Close releases what the committer holds.
	Close() error
}

// TwoPhase makes the two halves of a destination that takes part in the engine's epochs.
type TwoPhase[T any] interface {
	TxWriter(ctx context.Context, t Task) (TxWriter[T], error)
	Committer(ctx context.Context, t Task) (Committer, error)
}

// Slot is a place for one transaction, granted by the engine and recorded durably before its first use. Name is unique in
// the destination: [prefix-]job-operator-number, of letters, digits, dots and dashes only.
type Slot struct {
	ID   int
	Name string
}

// Handle is everything needed to finish a prepared transaction from another process.
type Handle struct {
	Operator string
	Slot     Slot
	Token    string // random, unique for ever; the destination may store it as evidence
	Epoch    uint64
	Native   []byte // the destination's own ids, in a versioned form of the connector's choice
}

// Task says for which part of which job an object is made, and gives it what the engine lends.
type Task struct {
	Job         string
	Operator    string
	Index       int // of this task; 0 for a committer
	Parallelism int // how many tasks the operator has in this attempt; never store it
	Log         *slog.Logger
	Metrics     Metrics
	Request     func() // ask for an epoch soon; never nil, never blocks
}

// Metrics counts what only the connector can see. Names are snake_case without prefix; safe for concurrent use.
type Metrics interface {
	Count(name string, n int64)     // adds to a counter
	Gauge(name string, v float64)   // sets a current value
	Observe(name string, v float64) // adds to a distribution: of times in seconds, as a rule
}
