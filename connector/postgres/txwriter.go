package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// txWriter turns records into rows for its tx.
type txWriter[T any] struct {
	*tx
	row func(T) ([]any, error)
}

// Write encodes a batch and sends it. Records that can't be encoded, or that the server refuses, are rejected; the others
// are in the transaction.
func (w *txWriter[T]) Write(ctx context.Context, batch []T) error {
	if w.slot.Name == "" {
		return errNotBegun
	}
	w.rows.reset()
	w.bad = map[int]error{}
	for i, v := range batch {
		values, err := w.row(v)
		if err == nil {
			err = w.rows.add(i, values)
		}
		if err != nil {
			w.refuse(i, err)
		}
	}
	if err := w.put(ctx, 0, w.rows.len()); err != nil {
		return err
	}
	if len(w.bad) > 0 {
		return &sink.Rejected{Errs: w.bad}
	}
	return nil
}

var errNotBegun = errors.New("write or prepare rows: no transaction is open")

// tx is one connection and its present transaction.
type tx struct {
	o     settings
	t     sink.Task
	s     *session        // nil after Close
	held  map[string]bool // slots whose locks the session has; with Ledger, whose staging tables it has seen
	slot  sink.Slot       // of the open transaction; no name between Prepare and Begin
	token string
	copy  string // the statement that takes rows
	rows  rows
	bad   map[int]error // of the batch in hand, by index

	written int64 // rows in the open transaction
	stager        // for Ledger
}

// openTx connects, learns the table's types and prepares the statement, so that Write need only send.
func openTx(ctx context.Context, o settings, t sink.Task) (*tx, error) {
	s, err := o.connect(ctx)
	if err != nil {
		return nil, err
	}
	x := &tx{o: o, t: t, s: s, held: map[string]bool{}}
	if err := x.open(ctx); err != nil {
		s.close()
		return nil, err
	}
	return x, nil
}

func (x *tx) open(ctx context.Context) error {
	if err := x.s.allows(x.o, x.t.Parallelism); err != nil {
		return err
	}
	cols, err := x.s.describe(ctx, x.o)
	if err != nil {
		return err
	}
	x.rows = rows{types: x.s.conn.TypeMap(), cols: cols}
	if x.o.mode == Ledger {
		return x.enlist(ctx)
	}
	x.copy = copySQL(x.o.table, x.o.columns)
	if !x.o.upserts() {
		return nil
	}
	if _, err := x.s.conn.PgConn().Prepare(ctx, upsert, x.o.insertSQL(x.o.parameters()), nil); err != nil {
		return x.s.unfit(err, "prepare the statement for table %s", x.o.table.Sanitize())
	}
	return nil
}

// allows says whether the server lets so many tasks have a prepared transaction at once.
func (s *session) allows(o settings, tasks int) error {
	if o.mode != XA || s.prepared >= max(1, tasks) {
		return nil
	}
	if s.prepared == 0 {
		return sink.Permanent(refused(fixPrepared, "the server's prepared transactions are off: max_prepared_transactions is 0"))
	}
	return sink.Permanent(refused(fixPrepared, "max_prepared_transactions is %d and there are %d tasks, which each prepare a transaction at a checkpoint",
		s.prepared, tasks))
}

// Begin opens a transaction. Constraints that could wait for its end are checked with each statement instead, so that
// nothing fails at Prepare only, when the row at fault can't be found any more.
func (x *tx) Begin(ctx context.Context, s sink.Slot) error {
	if x.s == nil {
		return errors.New("begin transaction: the writer is closed")
	}
	if x.slot.Name != "" {
		return fault.New(fault.SinkFailed, "begin transaction in slot %s: the one in slot %s is still open", s.Name, x.slot.Name)
	}
	if err := txn.CheckSlot(s, maxSlot); err != nil {
		return err
	}
	if x.o.mode == Ledger {
		return x.beginStaged(ctx, s)
	}
	sql := "begin isolation level read committed read write; set constraints all immediate"
	if !x.held[s.Name] {
		sql += fmt.Sprintf("; select pg_try_advisory_lock(%d)::text", lockKey(s.Name))
	}
	results, err := x.s.exec(ctx, sql)
	if err != nil {
		return failed(err, "begin transaction in slot %s", s.Name)
	}
	if last := results[len(results)-1].Rows; !x.held[s.Name] && (len(last) != 1 || string(last[0][0]) != "true") {
		_, err := x.s.exec(ctx, "rollback")
		return errors.Join(fault.New(fault.SinkFailed, "slot %s is in use by another session of the database", s.Name).
			WithFix("stop the other copy of the job, or give one of the two another name or prefix"), err)
	}
	x.held[s.Name] = true
	x.opened(s)
	return nil
}

func (x *tx) opened(s sink.Slot) { x.slot, x.token, x.written, x.rows.next = s, txn.NewToken(), 0, 0 }

// Prepare ends the transaction so that it survives, invisible, and anybody with its name can finish it.
func (x *tx) Prepare(ctx context.Context, epoch uint64) (sink.Handle, error) {
	if x.slot.Name == "" {
		return sink.Handle{}, errNotBegun
	}
	n := native{GID: txn.NameOf(x.slot.Name, x.token), identity: x.s.id}
	end := x.prepareXA
	if x.o.mode == Ledger {
		end = x.prepareStaged
	}
	if x.s.conn.PgConn().TxStatus() == 'I' { // PREPARE would make an empty transaction
		return sink.Handle{}, fault.New(fault.SinkFailed, "postgres: transaction %s ended before it was prepared", n.GID)
	}
	if err := end(ctx, &n, epoch); err != nil {
		return sink.Handle{}, err
	}
	data, err := txn.Encode(nativeVersion, n)
	if err != nil {
		return sink.Handle{}, err
	}
	h := sink.Handle{Operator: x.t.Operator, Slot: x.slot, Token: x.token, Epoch: epoch, Native: data}
	x.slot = sink.Slot{}
	return h, nil
}

func (x *tx) prepareXA(ctx context.Context, n *native, _ uint64) error {
	results, err := x.s.exec(ctx, fmt.Sprintf("select pg_current_xact_id()::text; prepare transaction '%s'", n.GID))
	if err != nil {
		return failed(err, "prepare transaction %s", n.GID)
	}
	// A transaction in which a statement has failed would be rolled back here without an error.
	if len(results) != 2 || len(results[0].Rows) != 1 || results[1].CommandTag.String() != "PREPARE TRANSACTION" {
		return fault.New(fault.SinkFailed, "postgres: transaction %s was rolled back instead of prepared", n.GID)
	}
	n.XID = string(results[0].Rows[0][0])
	return nil
}

// Close rolls an open transaction back and ends the session. What is prepared no longer belongs to it.
func (x *tx) Close() error {
	if x.s != nil {
		x.s.close()
		x.s, x.slot = nil, sink.Slot{}
	}
	return nil
}
