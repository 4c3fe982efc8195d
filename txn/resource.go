package txn

import (
	"context"
	"time"

	"github.com/weirline/weirline/sink"
)

// Outcome is what is known of a transaction after a call.
type Outcome int

const (
	// Again: nothing definite is known yet. The error says why, and the same request will be repeated.
	Again Outcome = iota

	// Done: the transaction is committed, by this call or, provably, by an earlier one. The error is nil.
	Done

	// Absent: the destination has no such prepared transaction. Prove decides. Only Commit returns it.
	Absent

	// Lost: the transaction is neither prepared nor committed, and its records won't come.
	Lost

	// Unknown: there is no evidence either way, and there will be none.
	Unknown

	// Stop: the destination refused for a reason that people must mend. Nothing is given up; a restart tries again.
	Stop
)

// Resource is what a connector knows of its destination's transactions. One goroutine calls it. For each outcome but Done
// the error is the reason; it has no code for Lost and Unknown, or that outcome's own, and isn't permanent for Again.
type Resource interface {
	// Commit commits one prepared transaction. It comes again for transactions that are committed already.
	Commit(ctx context.Context, h sink.Handle) (Outcome, error)

	// Prove is asked about a transaction that Commit has found absent. It says Done only by evidence that can't be true
	// of anything but this transaction.
	Prove(ctx context.Context, h sink.Handle) (Outcome, error)

	// Clear makes sure that nobody prepares anything under the slots any more who began before, and rolls back what is
	// left under them. It is called only after everything that is kept was committed.
	Clear(ctx context.Context, slots []sink.Slot) error

	// Close releases what the resource holds. It may come twice, and without any other call.
	Close() error
}

// Pending is a transaction that waits in a destination for somebody to finish it.
type Pending struct {
	Name  string        // in the destination
	Slot  string        // the slot's name
	Token string        // "" if the destination doesn't have it
	Age   time.Duration // since it was prepared, or begun if the destination doesn't say when that was
}

// Lister is a [Resource] that shows what waits in the destination, for tools: look for it with [sink.As] on the committer. It
// knows no checkpoint; whoever finishes a transaction by hand must know what is right for it.
type Lister interface {
	// List returns the transactions whose slots are [Under] the prefix, the oldest first.
	List(ctx context.Context, prefix string) ([]Pending, error)

	// Finish commits one of them, or rolls it back. An error if it isn't there any more.
	Finish(ctx context.Context, p Pending, commit bool) error
}
