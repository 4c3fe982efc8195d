package postgres

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/weirline/weirline/internal/sqlsink"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// What a batch of Sink has by default: more rows gain hardly anything.
const (
	upsertBatch = 1000
	appendBatch = 5000
)

// Sink writes records into a table as they come, without waiting for a checkpoint. With Keys a row replaces the one with the same
// keys, so that writing it again changes nothing; without, rows are appended, at least once. Table, Columns and Row are needed. It
// implements [sink.Sink], [sink.Idempotent], [sink.Qualified] and [sink.Preflight].
type Sink[T any] struct {
	// URL says where the server is, as that of [TxSink] does. Unset: the environment.
	URL string

	// Table is where the rows go: its name, with the schema before it and a dot if it isn't in the search path. Upper and
	// lower case differ.
	Table string

	// Columns are the names of the columns that Row gives values for. The others get their defaults, in new rows.
	Columns []string

	// Row gives a value for each of Columns, as that of [TxSink] does. An error rejects the record. It is called by several
	// goroutines at once, and again when the record is sent again.
	Row func(v T) ([]any, error)

	// Keys are those of Columns that a unique index is on, none of them NULL. Unset: rows are appended.
	Keys []string

	// Delete says that a record removes the row with its keys; of its values only the keys' are used. It needs Keys. Unset: none does.
	Delete func(v T) bool

	// Batching holds limits, Key, Retry and the codec; see package async. Its Send belongs to this sink. Each batch on its way
	// has a connection. Unset with Keys: batches of 1000, all records of a task in one order, one batch on its way at a time; to have
	// several, 4 unless MaxInFlight is set, set Key to a function that gives records of one row the same name. Unset without Keys:
	// batches of 5000, 4 on their way. Timeout, unset: 30 s, also ends a statement in the server.
	Batching async.Sink[T]
}

var (
	_ sink.Sink[string] = Sink[string]{}
	_ sink.Idempotent   = Sink[string]{}
	_ sink.Qualified    = Sink[string]{}
	_ sink.Preflight    = Sink[string]{}
)

func (s Sink[T]) settings() settings {
	return settings{
		url: s.URL, table: strings.Split(s.Table, "."), columns: slices.Clone(s.Columns), keys: slices.Clone(s.Keys),
		mode: plain, deletes: s.Delete != nil, timeout: max(0, cmp.Or(s.Batching.Timeout, sqlsink.Timeout)),
	}
}

// rows is what the sink is to package sqlsink.
func (s Sink[T]) rows() sqlsink.Sink[T] {
	o := sqlsink.Sink[T]{Target: target(s.Table, s.Columns, s.Keys), Row: s.Row, Delete: s.Delete, Batching: s.Batching, Rows: appendBatch}
	if len(s.Keys) > 0 {
		o.Rows = upsertBatch
	}
	return o
}

// Idempotent says whether a row replaces the one with the same keys.
func (s Sink[T]) Idempotent() bool { return s.rows().Idempotent() }

// Promise says what becomes of a record that is written again.
func (s Sink[T]) Promise() (promise, why, fix string) { return s.rows().Promise() }

// Validate says everything that is wrong with the settings. Writer and Preflight call it too.
func (s Sink[T]) Validate() error {
	_, err := s.settings().config()
	return s.rows().Validate(err)
}

// Writer makes the writer of one task. It connects with the first batch.
func (s Sink[T]) Writer(ctx context.Context, t sink.Task) (sink.Writer[T], error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	o := s.settings()
	return s.rows().Writer(ctx, t, func(ctx context.Context, count sqlsink.Count) (sqlsink.Link, error) { return openLink(ctx, o, count) })
}

// Preflight connects and looks whether the server takes writes and the table the rows. It takes 15 s at most.
func (s Sink[T]) Preflight(ctx context.Context) error {
	if err := s.Validate(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, preflightLimit)
	defer cancel()
	return s.settings().preflight(ctx)
}
