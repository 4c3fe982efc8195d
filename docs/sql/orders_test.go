package sql

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/ahead"
	"github.com/weirline/weirline/sink/async"
)

// Order is what is written.
type Order struct {
	ID   int
	Item string
}

// Orders writes into the table orders, and into marks how far it has come: both in one transaction of the database.
type Orders struct{ DB *sql.DB }

// Writer is for a sink used alone, which is at least once.
func (o Orders) Writer(ctx context.Context, t sink.Task) (sink.Writer[Order], error) {
	send := func(ctx context.Context, batch []Order) error { return insert(ctx, o.DB, batch) }
	return async.Sink[Order]{Send: send}.Writer(ctx, t)
}

// MarkWriter is for a sink behind an ahead.Sink, which is exactly once.
func (o Orders) MarkWriter(context.Context, sink.Task) (ahead.MarkWriter[Order], error) {
	return o, nil
}

// Mark implements ahead.MarkWriter.
func (o Orders) Mark(ctx context.Context, slot string) (m ahead.Mark, err error) {
	err = o.DB.QueryRowContext(ctx, "select token, n from marks where slot = ?", slot).Scan(&m.Token, &m.Rows)
	if errors.Is(err, sql.ErrNoRows) {
		return m, nil
	}
	return m, err
}

// Write implements ahead.MarkWriter.
func (o Orders) Write(ctx context.Context, slot string, was, at ahead.Mark, rows []Order) (int, error) {
	tx, err := o.DB.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback() // which does nothing after the commit
	_, err = tx.ExecContext(ctx, "insert ignore into marks values (?, '', 0)", slot)
	moved, merr := tx.ExecContext(ctx, "update marks set token = ?, n = ? where slot = ? and token = ? and n = ?",
		at.Token, at.Rows+int64(len(rows)), slot, was.Token, was.Rows)
	if err := errors.Join(err, merr); err != nil {
		return 0, err
	}
	if n, err := moved.RowsAffected(); n == 0 || err != nil {
		return 0, errors.Join(ahead.ErrMoved, err)
	}
	if err := insert(ctx, tx, rows); err != nil {
		return 0, err
	}
	return len(rows), tx.Commit()
}

// Close implements ahead.MarkWriter; the database is its owner's.
func (o Orders) Close() error { return nil }

func insert(ctx context.Context, to interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}, rows []Order,
) error {
	if len(rows) == 0 {
		return nil
	}
	var args []any
	for _, o := range rows {
		args = append(args, o.ID, o.Item)
	}
	_, err := to.ExecContext(ctx, "insert into orders values (?, ?)"+strings.Repeat(", (?, ?)", len(rows)-1), args...)
	return err
}
