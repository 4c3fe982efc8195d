package mysql

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/weirline/weirline/internal/links"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// What a batch of Sink has by default: more rows gain hardly anything.
const (
	batchRows      = 1000
	inFlight       = 4
	defaultTimeout = 30 * time.Second
)

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
		locks: cmp.Or(s.Batching.Timeout, defaultTimeout), plain: true, deletes: s.Delete != nil,
	}, nil
}

// Idempotent says whether a row replaces the one with the same keys.
func (s Sink[T]) Idempotent() bool { return len(s.Keys) > 0 }

// Promise says what becomes of a record that is written again.
func (s Sink[T]) Promise() (promise, why, fix string) {
	if s.Idempotent() {
		return sink.Repeatable, "a row replaces the one with the same keys", ""
	}
	return sink.AtLeastOnce, "rows are appended, and a batch of which the answer is lost is appended again",
		"set Keys to columns with a unique index, or use mysql.TxSink"
}

// Validate says everything that is wrong with the settings. Writer and Preflight call it too.
func (s Sink[T]) Validate() error {
	errs := checkTarget(s.Row != nil, s.Table, s.Columns, s.Keys)
	if s.Delete != nil && len(s.Keys) == 0 {
		errs = append(errs, wrong("set Keys to the columns that say which row a record is about", "Delete is set, and Keys isn't"))
	}
	if s.Batching.Send != nil {
		errs = append(errs, wrong("leave Batching.Send out; Row says what is sent", "Batching.Send is set"))
	}
	_, err := s.settings()
	return errors.Join(append(errs, err, s.batching(nil).Validate())...)
}

// checked is the settings, if all is right with them.
func (s Sink[T]) checked() (settings, error) {
	if err := s.Validate(); err != nil {
		return settings{}, err
	}
	return s.settings()
}

// batching is the async sink that sends over the pool's links.
func (s Sink[T]) batching(pool *links.Pool[*link]) async.Sink[T] {
	b := s.Batching
	b.Timeout, b.MaxBatch, b.MaxInFlight = cmp.Or(b.Timeout, defaultTimeout), cmp.Or(b.MaxBatch, batchRows), cmp.Or(b.MaxInFlight, inFlight)
	if s.Idempotent() && b.Key == nil {
		b.Key = func(T) string { return "" }
	}
	b.Send = func(ctx context.Context, batch []T) error { return s.send(ctx, pool, batch) }
	return b
}

// Writer makes the writer of one task. It connects with the first batch.
func (s Sink[T]) Writer(ctx context.Context, t sink.Task) (sink.Writer[T], error) {
	o, err := s.checked()
	if err != nil {
		return nil, err
	}
	count := func(name string, n int64) {
		if t.Metrics != nil && n > 0 {
			t.Metrics.Count(name, n)
		}
	}
	pool := &links.Pool[*link]{Open: func(ctx context.Context) (*link, error) { return openLink(ctx, o, count) }}
	w, err := s.batching(pool).Writer(ctx, t)
	if err != nil {
		return nil, err
	}
	return &writer[T]{Writer: w, links: pool}, nil
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

// writer is async's, with connections of its own.
type writer[T any] struct {
	sink.Writer[T]
	links *links.Pool[*link]
}

// Unwrap shows async's companions to sink.As.
func (w *writer[T]) Unwrap() any { return w.Writer }

// Close ends the sending first and then the connections. It may be called again.
func (w *writer[T]) Close() error {
	err := w.Writer.Close()
	w.links.Close()
	return err
}

// send writes one batch.
func (s Sink[T]) send(ctx context.Context, pool *links.Pool[*link], batch []T) error {
	l, err := pool.Take(ctx)
	if err != nil {
		return err
	}
	defer func() { pool.Give(l, l.keeps(err)) }()
	l.reset()
	for i, v := range batch {
		gone := s.Delete != nil && s.Delete(v)
		values, err := s.Row(v)
		if err == nil {
			err = l.add(i, values, gone)
		}
		if err != nil {
			l.refuse(i, err)
		}
	}
	if err = l.write(ctx); err != nil {
		return l.verdict(err, len(batch))
	}
	if len(l.bad) > 0 {
		return &async.Partial{Errs: l.bad}
	}
	return nil
}
