package source

import (
	"context"
	"log/slog"
)

// A Split is a part of the input and, at the same time, the place reading has got to in it. It is plain data: encoded,
// it is the checkpoint. ID is stable for the life of the job, unique in its source, and doesn't change with the position.
type Split interface{ ID() string }

// A Cursor reads one split.
type Cursor[T any, S Split] interface {
	// Read waits for the first record, appends what is ready to out, and returns the split moved past it.
	//
	// Whatever err is, io.EOF and a cancelled context included, next covers exactly what was appended to out (rejected
	// records count as appended); the engine takes both first and looks at err then. io.EOF itself, not wrapped in
	// another error (which may come from a lost connection), means that this split is finished. Cancelling ctx makes Read return soon and loses nothing; the engine then calls Read again. Any other
	// error fails the task. Read may return nothing and a nil error: it is called again.
	// With an error and nothing appended, next may be the zero value (a wrapper that was only waiting has no split).
	//
	// The batch belongs to the engine: it must not be kept, and what was read is appended, not written over.
	Read(ctx context.Context, out *Batch[T]) (next S, err error)

	// Close releases what the cursor holds. It is called once, also after an error.
	Close() error
}

// A Reader is a Cursor over the splits of one task: one call of Read fills one batch from one split and returns that
// split, moved. io.EOF finishes the returned split only; Read of a reader without splits blocks until ctx ends.
// One goroutine calls it; to give it splits, that goroutine's pending Read is cancelled first.
type Reader[T any, S Split] interface {
	Cursor[T, S]

	// Add gives the reader splits to read from where they are. It may do I/O; an error fails the task.
	Add(ctx context.Context, splits ...S) error
}

// An Enumerator finds splits and says who reads them. It keeps no record of what it assigned: the engine does.
type Enumerator[S Split] interface {
	// Discover finds splits by I/O. The engine calls it again until done is true; splits whose ID it has seen are
	// ignored, so an implementation may report everything each time. It paces itself: one that watches blocks until
	// there is news or ctx ends. A split must be concrete when it is reported: symbolic positions ("latest") are resolved
	// here, once, and stored. An error is retried with back-off at first and fails the job if it persists.
	Discover(ctx context.Context) (found []S, done bool, err error)

	// Assign looks at an event and gives splits to readers through to. It does no I/O, reads no clock and starts nothing.
	Assign(ev Event[S], to *Assignments[S])
}

// A Source makes the two halves. Both constructors may do I/O, bounded by ctx.
type Source[T any, S Split] interface {
	Enumerator(ctx context.Context, t Task) (Enumerator[S], error)
	Reader(ctx context.Context, t Task) (Reader[T, S], error)
}

// Task says for which part of which job an object is made, and gives it what the engine lends.
type Task struct {
	Job         string
	Operator    string
	Index       int // of this task; 0 for an enumerator
	Parallelism int // how many tasks the operator has in this attempt; never store it
	Log         *slog.Logger
	Metrics     Metrics
	Request     func()       // ask for an epoch soon; never nil, never blocks
	Replays     func() int64 // how many records a restart would read again now, for warnings; nil outside a job
}

// Metrics counts what only the connector can see. Names are snake_case without prefix; safe for concurrent use.
type Metrics interface {
	Count(name string, n int64)     // adds to a counter
	Gauge(name string, v float64)   // sets a current value
	Observe(name string, v float64) // adds to a distribution: of times in seconds, as a rule
}

// NewEnumerator makes an enumerator.
type NewEnumerator[S Split] func(ctx context.Context, t Task) (Enumerator[S], error)

// NewReader makes a reader.
type NewReader[T any, S Split] func(ctx context.Context, t Task) (Reader[T, S], error)

// Of puts the two halves of a source together.
func Of[T any, S Split](e NewEnumerator[S], r NewReader[T, S]) Source[T, S] {
	return halves[T, S]{e: e, r: r}
}

type halves[T any, S Split] struct {
	e NewEnumerator[S]
	r NewReader[T, S]
}

func (h halves[T, S]) Enumerator(ctx context.Context, t Task) (Enumerator[S], error) {
	return h.e(ctx, t)
}

func (h halves[T, S]) Reader(ctx context.Context, t Task) (Reader[T, S], error) { return h.r(ctx, t) }

// Unbounded declares that a source never ends.
func Unbounded[T any, S Split](s Source[T, S]) Source[T, S] { return unbounded[T, S]{s} }

type unbounded[T any, S Split] struct{ Source[T, S] }

func (u unbounded[T, S]) Bounded() bool { return false }
func (u unbounded[T, S]) Unwrap() any   { return u.Source }
