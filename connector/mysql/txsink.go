package mysql

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/weirline/weirline/internal/sqlsink"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

const (
	preflightLimit     = 15 * time.Second
	defaultLockTimeout = 30 * time.Second
	defaultTokens      = "weirline_tokens"
	noPacketLimit      = 1 << 30 // of the client library; the server's is looked at
)

// TxSink writes records into a table of MariaDB or MySQL, each exactly once, by XA transactions. DSN, Table, Columns and Row are
// needed. It implements [sink.TwoPhase] and [sink.Preflight].
type TxSink[T any] struct {
	// DSN says where the server is, whose database and as which user, as user:password@tcp(host:port)/database, with the
	// client library's parameters behind a question mark (tls=true, timeout=5s). The database must be named.
	DSN string

	// Table is where the rows go: its name, with the database before it and a dot if it isn't DSN's.
	Table string

	// Columns are the names of the columns that Row gives values for. The others get their defaults.
	Columns []string

	// Row gives a value for each of Columns: nil for NULL, numbers, bool, string, []byte (for binary columns), time.Time (stored as
	// UTC), or a driver.Valuer. The server converts it to the column's type, or refuses it. An error rejects the record.
	Row func(v T) ([]any, error)

	// Keys are those of Columns that a unique index is on. With them a row replaces the one with the same keys. Unset: rows
	// are appended.
	Keys []string

	// Tokens is the table that proves commits, named as Table is, made by the first who may create it. It has one row for each
	// transaction of the last 7 days. Unset: weirline_tokens.
	Tokens string

	// Lost says what to do about a transaction that was prepared and can't be committed any more. Unset: [txn.FailOnLoss].
	Lost txn.Loss

	// LockTimeout bounds the wait for a lock that another transaction holds, in whole seconds, after which the task fails and is
	// restarted. Unset: 30 s. Negative: no bound.
	LockTimeout time.Duration
}

var (
	_ sink.TwoPhase[string] = TxSink[string]{}
	_ sink.Preflight        = TxSink[string]{}
)

// settings are what of TxSink doesn't depend on the type.
type settings struct {
	config   *mysql.Config
	database string
	table    table
	tokens   table
	columns  []string
	keys     []string
	locks    time.Duration // negative: no bound
	plain    bool          // of Sink: no transactions that others finish
	deletes  bool          // of Sink: some records remove rows
}

func (s TxSink[T]) settings() (settings, error) {
	c, err := configOf(s.DSN)
	if err != nil {
		return settings{}, err
	}
	return settings{
		config: c, database: c.DBName, table: tableOf(s.Table, c.DBName), tokens: tableOf(cmp.Or(s.Tokens, defaultTokens), c.DBName),
		columns: slices.Clone(s.Columns), keys: slices.Clone(s.Keys), locks: cmp.Or(s.LockTimeout, defaultLockTimeout),
	}, nil
}

// Validate says everything that is wrong with the settings. The constructors call it too.
func (s TxSink[T]) Validate() error {
	errs := target(s.Table, s.Columns, s.Keys).Check(s.Row != nil)
	if s.Tokens != "" && !sqlsink.TableName(s.Tokens) {
		errs = append(errs, wrong("set Tokens to a table's name, or to database.name", "Tokens is %q", s.Tokens))
	}
	_, err := s.settings()
	return errors.Join(append(errs, s.Lost.Check(), err)...)
}

// checked is the settings, if all is right with them.
func (s TxSink[T]) checked() (settings, error) {
	if err := s.Validate(); err != nil {
		return settings{}, err
	}
	return s.settings()
}

// TxWriter connects and makes the writer of one task.
func (s TxSink[T]) TxWriter(ctx context.Context, t sink.Task) (sink.TxWriter[T], error) {
	o, err := s.checked()
	if err != nil {
		return nil, err
	}
	x, err := openTx(ctx, o, t)
	if err != nil {
		return nil, err
	}
	return &txWriter[T]{tx: x, row: s.Row}, nil
}

// Committer makes the committer of the operator. It connects when there is something to do.
func (s TxSink[T]) Committer(_ context.Context, t sink.Task) (sink.Committer, error) {
	o, err := s.checked()
	if err != nil {
		return nil, err
	}
	return txn.NewCommitter(&resource{o: o, owner: ownerOf(o, t), seen: map[string]time.Time{}}, t, s.Lost), nil
}

// Preflight connects and looks whether the server takes XA transactions and the table the rows. It makes the token table if there
// is none. It takes 15 s at most.
func (s TxSink[T]) Preflight(ctx context.Context) error {
	o, err := s.checked()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, preflightLimit)
	defer cancel()
	return o.preflight(ctx)
}

// ownerOf names an operator among all of a process.
func ownerOf(o settings, t sink.Task) string {
	return t.Job + "\x00" + t.Operator + "\x00" + o.config.Addr + "\x00" + o.database
}
