package mysql

import (
	"cmp"
	"context"
	"slices"

	"github.com/weirline/weirline/internal/sqlsink"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// batchRows is what a batch of Sink has by default: more rows gain hardly anything.
const batchRows = 1000

// Sink writes records into a table of MariaDB or MySQL as they come, without waiting for a checkpoint. With Keys a row replaces the
// one with the same keys, so that writing it again changes nothing; without, rows are appended, at least once. DSN, Table, Columns
// and Row are needed. It implements [sink.Sink], [sink.Idempotent], [sink.Qualified] and [sink.Preflight].
type Sink[T any] struct {
	// DSN says where the server is, as that of [TxSink] does.
	DSN string

	// Table is where the rows go: its name, with the database before it and a dot if it isn't DSN's.
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
	// batches of 1000, 4 on their way. Timeout, unset: 30 s, also ends a statement in the server, or in MySQL its wait for a lock.
	Batching async.Sink[T]
}

var (
	_ sink.Sink[string] = Sink[string]{}
	_ sink.Idempotent   = Sink[string]{}
	_ sink.Qualified    = Sink[string]{}
	_ sink.Preflight    = Sink[string]{}
)

func (s Sink[T]) settings() (settings, error) {
	c, err := configOf(s.DSN)
	if err != nil {
		return settings{}, err
	}
	return settings{
		config: c, database: c.DBName, table: tableOf(s.Table, c.DBName), columns: slices.Clone(s.Columns), keys: slices.Clone(s.Keys),
		locks: cmp.Or(s.Batching.Timeout, sqlsink.Timeout), plain: true, deletes: s.Delete != nil,
	}, nil
}

// rows is what the sink is to package sqlsink.
func (s Sink[T]) rows() sqlsink.Sink[T] {
	return sqlsink.Sink[T]{Target: target(s.Table, s.Columns, s.Keys), Row: s.Row, Delete: s.Delete, Batching: s.Batching, Rows: batchRows}
}

// Idempotent says whether a row replaces the one with the same keys.
func (s Sink[T]) Idempotent() bool { return s.rows().Idempotent() }

// Promise says what becomes of a record that is written again.
func (s Sink[T]) Promise() (promise, why, fix string) { return s.rows().Promise() }

// Validate says everything that is wrong with the settings. Writer and Preflight call it too.
func (s Sink[T]) Validate() error {
	_, err := s.settings()
	return s.rows().Validate(err)
}

// checked is the settings, if all is right with them.
func (s Sink[T]) checked() (settings, error) {
	if err := s.Validate(); err != nil {
		return settings{}, err
	}
	return s.settings()
}

// Writer makes the writer of one task. It connects with the first batch.
func (s Sink[T]) Writer(ctx context.Context, t sink.Task) (sink.Writer[T], error) {
	o, err := s.checked()
	if err != nil {
		return nil, err
	}
	return s.rows().Writer(ctx, t, func(ctx context.Context, count sqlsink.Count) (sqlsink.Link, error) { return openLink(ctx, o, count) })
}

// Preflight connects and looks whether the server takes writes and the table the rows. It takes 15 s at most.
func (s Sink[T]) Preflight(ctx context.Context) error {
	o, err := s.checked()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, preflightLimit)
	defer cancel()
	return o.preflight(ctx)
}
