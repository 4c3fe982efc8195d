package sink

import (
	"context"
	"time"
)

// The companions: optional powers of writers and sinks. All are open, so none of them ever gains a method. Look for them
// with As, never with a bare type assertion.

// Stateful is a Writer whose unsent records are stored with the epoch instead of being flushed before it. Both calls come
// from the task's goroutine and must not wait for the destination. Flush is called at the end of input only, and with a context that
// ends soon: it loses nothing then, and is called again after a barrier that came meanwhile.
type Stateful interface {
	// Snapshot returns everything taken and not yet known to be delivered, in a versioned form; nothing if that is nothing: another
	// kind of sink may take the place of this one then.
	Snapshot() ([]byte, error)

	// Restore takes back the states of any number of earlier writers, before the first Write. It accepts more than
	// today's limits allow.
	Restore(states [][]byte) error
}

// Grouped is a Stateful Writer that can store what is unsent in parts, by the key group of the records. On a keyed stream the engine calls
// SnapshotBy in place of Snapshot, and gives each part, after a restore, to the Restore of the task that has the group then.
type Grouped interface {
	// SnapshotBy is Snapshot in parts: each is a state as Restore takes it, with the records of one group in the order they were
	// written. group is called with a record as it was written, by the caller's goroutine only. Groups without records are left out.
	SnapshotBy(group func(record any) int) (map[int][]byte, error)
}

// Gated is a Writer or TxWriter that says when it has no room, so that its task can wait without being stuck.
type Gated interface {
	// Room says whether Write would take a batch without waiting.
	Room() bool

	// OnRoom registers the function to call, from any goroutine, when there may be room again or an error to collect by
	// the next Write. It is called once, before the first Write.
	OnRoom(wake func())
}

// Failing is a Writer or TxWriter that works in the background: Err returns the error that will fail the task, nil while all is well.
// It is asked at each barrier and when the task is woken, so that an error shows while no record comes.
type Failing interface{ Err() error }

// Rejecter is a Writer that works in the background and learns only after Write that the destination refused a record for
// good. Rejects hands them over, each once, as they became known; it doesn't wait. It is asked at each wake-up, after Flush, and at
// a barrier before Snapshot, so that dead letters belong to the epoch the records came in. A record not handed over yet
// is part of Snapshot.
type Rejecter interface{ Rejects() []RejectedRecord }

// RejectedRecord is a record the destination refused for good.
type RejectedRecord struct {
	Value    any   // the record, as it was written
	Err      error // why
	Attempts int   // how often it was sent
}

// Idempotent is a Sink where writing the same record twice has the effect of writing it once.
type Idempotent interface{ Idempotent() bool }

// Qualified is a Sink or a TwoPhase whose promise rests on its settings or on a destination behind it. Without it a TwoPhase is exactly
// once, and a Sink at least once unless it is Idempotent.
type Qualified interface {
	// Promise is one of the constants below. It says in half a sentence why, and for AtLeastOnce what to do about it.
	Promise() (promise, why, fix string)
}

// What becomes in the destination of a record of a complete epoch.
const (
	ExactlyOnce = "exactly once"
	Repeatable  = "idempotent"    // it may be written again, which changes nothing
	AtLeastOnce = "at least once" // it may be there several times
)

// Timed is a TwoPhase whose transactions the destination ends when they are too old.
type Timed interface {
	// Fits refuses a job in which a transaction may become so old before it is committed. The error names the setting and the
	// fix. It is asked once at start, before [Preflight].
	Fits(Times) error
}

// Times is how long things may take in a job.
type Times struct {
	Interval time.Duration // between the starts of two checkpoints; 0 if there are no periodic ones
	Timeout  time.Duration // of a checkpoint
	Restarts time.Duration // the pauses of all restarts that may follow each other
}

// Preflight is a Sink that can check its settings against the live system before the first record. It is called once at
// start; an error stops the job and should name the setting and the fix.
type Preflight interface {
	Preflight(ctx context.Context) error
}

// Unwrapper is a wrapper that shows what it wraps, so that As finds powers behind it.
type Unwrapper interface{ Unwrap() any }

// As finds a power P on v or on anything v wraps, outermost first.
func As[P any](v any) (P, bool) {
	for v != nil {
		if p, ok := v.(P); ok {
			return p, true
		}
		u, ok := v.(Unwrapper)
		if !ok {
			break
		}
		v = u.Unwrap()
	}
	var none P
	return none, false
}
