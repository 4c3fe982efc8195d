package postgres

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirline/weirline/internal/sqlsink"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

const (
	preflightLimit     = 15 * time.Second
	defaultLockTimeout = 30 * time.Second
)

// TxSink writes records into a table, each exactly once, by prepared transactions or by a ledger. Table, Columns and Row are needed. It
// implements [sink.TwoPhase] and [sink.Preflight].
type TxSink[T any] struct {
	// URL says where the server is, whose database and as which user, as postgres://user:password@host:port/database or
	// as "host=... dbname=...". What it leaves out comes from the environment (PGHOST, PGPASSWORD and the like), so
	// unset: all of it.
	URL string

	// Table is where the rows go: its name, with the schema before it and a dot if it isn't in the search path. Upper and
	// lower case differ.
	Table string

	// Columns are the names of the columns that Row gives values for. The others get their defaults.
	Columns []string

	// Row gives a value for each of Columns, of any type the client library knows how to encode for the column; nil is
	// NULL, and text is parsed as the server would. An error rejects the record.
	Row func(v T) ([]any, error)

	// Keys are those of Columns that a unique index is on. With them a row replaces the one with the same keys. Unset: rows
	// are appended.
	Keys []string

	// Mode says how rows wait for the end of their epoch. Unset: [XA], by prepared transactions.
	Mode Mode

	// Schema is where [Ledger] keeps its own tables, made if it isn't there. All jobs of a database may share it. Unset: weirline.
	Schema string

	// Rejects is a table, named as Table is, for rows of a [Ledger] that Table refuses only when they are moved, at the
	// commit, such as one with a unique key that is taken. It is made if it isn't there. Unset: such a row stops the job.
	Rejects string

	// Lost says what to do about a transaction that was prepared and can't be committed any more. Unset: [txn.FailOnLoss].
	Lost txn.Loss

	// LockTimeout bounds the wait for a lock that another transaction holds, after which the task fails and is
	// restarted. Unset: 30 s. Negative: no bound.
	LockTimeout time.Duration
}

var (
	_ sink.TwoPhase[string] = TxSink[string]{}
	_ sink.Preflight        = TxSink[string]{}
)

// settings are what of TxSink doesn't depend on the type.
type settings struct {
	url     string
	table   pgx.Identifier
	columns []string
	keys    []string
	locks   time.Duration
	mode    Mode
	schema  string         // of the ledger
	rejects pgx.Identifier // no parts: the job stops
	deletes bool           // of Sink: some records remove rows
	timeout time.Duration  // of Sink: of a statement; 0: none
}

// upserts says whether rows go in by a statement each.
func (o settings) upserts() bool { return len(o.keys) > 0 && o.mode == XA }

func (s TxSink[T]) settings() settings {
	o := settings{
		url: s.URL, table: strings.Split(s.Table, "."), columns: slices.Clone(s.Columns), keys: slices.Clone(s.Keys),
		locks: s.LockTimeout, mode: s.Mode, schema: cmp.Or(s.Schema, defaultSchema),
	}
	if s.Rejects != "" {
		o.rejects = strings.Split(s.Rejects, ".")
	}
	if o.locks == 0 {
		o.locks = defaultLockTimeout
	}
	return o
}

// Validate says everything that is wrong with the settings. The constructors call it too.
func (s TxSink[T]) Validate() error {
	errs := target(s.Table, s.Columns, s.Keys).Check(s.Row != nil)
	bad := func(fix, what string, args ...any) { errs = append(errs, wrong(fix, what, args...)) }
	if s.Rejects != "" && !sqlsink.TableName(s.Rejects) {
		bad("set Rejects to a table's name, or to schema.name", "Rejects is %q", s.Rejects)
	}
	if s.Mode != Ledger && (s.Schema != "" || s.Rejects != "") {
		bad("set Mode to postgres.Ledger, or leave them unset", "Schema or Rejects is set, which are for a ledger")
	}
	errs = append(errs, s.Mode.check(), s.Lost.Check())
	if _, err := s.settings().config(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// TxWriter connects and makes the writer of one task.
func (s TxSink[T]) TxWriter(ctx context.Context, t sink.Task) (sink.TxWriter[T], error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	tx, err := openTx(ctx, s.settings(), t)
	if err != nil {
		return nil, err
	}
	return &txWriter[T]{tx: tx, row: s.Row}, nil
}

// Committer makes the committer of the operator. It connects when there is something to do.
func (s TxSink[T]) Committer(_ context.Context, t sink.Task) (sink.Committer, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return txn.NewCommitter(&resource{o: s.settings(), t: t}, t, s.Lost), nil
}

// Preflight connects and looks whether the server takes prepared transactions and the table the rows. For a [Ledger]
// it makes the ledger's own tables. It takes 15 s at most.
func (s TxSink[T]) Preflight(ctx context.Context) error {
	if err := s.Validate(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, preflightLimit)
	defer cancel()
	return s.settings().preflight(ctx)
}
