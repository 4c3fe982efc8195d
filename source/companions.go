package source

import "context"

// The companions: optional powers of readers, enumerators and sources. All are open (others implement them), so none of
// them ever gains a method. Look for them with As, never with a bare type assertion.

// Pauser is a Reader that can hold single splits back, for watermark alignment. Both may be called from any goroutine, at
// any time, also for splits the reader doesn't have (they are ignored). A paused split returns no records; batches
// already handed over stay valid.
type Pauser interface {
	Pause(ids ...string)
	Resume(ids ...string)
}

// Acker is a Reader that wants to know what is durable, to commit offsets or acknowledge messages outside.
type Acker[S Split] interface {
	// Ack gets, after a checkpoint is durable, the very positions it holds of this reader's splits (finished ones
	// included). It is called from the fetch goroutine, between reads, so it should be quick; a read that goes on is
	// cancelled for it after a second. Checkpoints may be skipped but come in order. An error is counted and logged, and
	// never fails the task: positions live in the engine.
	Ack(ctx context.Context, at []S) error
}

// Stateful is an Enumerator with state beyond its splits. Restore is called once before anything else if there is state.
// Snapshot is called from Discover's goroutine after each Discover and Next: what it returns is stored together with the
// splits that very call reported, never without them. Neither does I/O.
type Stateful interface {
	Snapshot() ([]byte, error)
	Restore(state []byte) error
}

// Staged is an Enumerator whose input comes in stages that must not overlap, such as files and then a queue. When Discover
// is done and every split is finished, the engine calls Next, from Discover's goroutine. Next derives where the following
// stage starts (it may do I/O) and remembers it, so that Snapshot contains it; more=false means there is no further
// stage. The engine then requests a checkpoint and only when that is durable calls Discover again, now for the new stage.
// A restore is therefore either wholly before or wholly after the switch, and the start is derived once.
type Staged[S Split] interface {
	Stateful
	Next(ctx context.Context, finished []S) (more bool, err error)

	// Last says that the present stage is the last one. While it is false the source's watermark is held, because the next
	// stage may begin with earlier records, unless the source is Ordered. It must be safe to call at any time.
	Last() bool
}

// Backlog is an Enumerator that knows whether what is being read now is old: then checkpoints may be taken less often, or
// not at all (Config.BacklogEvery). It is called from any goroutine, often, and must not block.
type Backlog interface{ Backlog() bool }

// Ordered is an Enumerator that hands out splits in the order of their event times, and whose stages follow each other in
// time: known but unstarted splits then don't hold the watermark.
type Ordered interface{ Ordered() bool }

// Bounded is a Source that knows whether its input ends. A source without it is taken to be bounded.
type Bounded interface{ Bounded() bool }

// Replayable is a Source that knows whether what was read can be read again from an older position. Where it can't, such as from
// a socket, records since the last checkpoint are lost by a restart. A source without it is taken to be replayable.
type Replayable interface{ Replayable() bool }

// Preflight is a Source that can check its settings against the live system before the first record: existence,
// permission, limits. It is called once at start; an error stops the job and should name the setting and the fix.
type Preflight interface {
	Preflight(ctx context.Context) error
}

// Borrower is a Source whose values point into memory that is recycled with the batch (see Batch.Scratch). Such values may
// be used up to the first operator that keeps or exchanges them; the engine refuses a pipeline that goes further.
type Borrower interface{ Borrowed() bool }

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
