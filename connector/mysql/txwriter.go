package mysql

import (
	"context"
	"errors"
	"fmt"
	"strconv"

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
			err = w.rows.add(i, values, w.room)
		}
		if err != nil {
			w.refuse(i, err)
		}
	}
	if err := w.put(ctx); err != nil {
		return err
	}
	if len(w.bad) > 0 {
		return &sink.Rejected{Errs: w.bad}
	}
	return nil
}

var errNotBegun = errors.New("write or prepare rows: no transaction is open")

// tx is the present transaction and its connection.
type tx struct {
	o          settings
	t          sink.Task
	server     server
	room       int // bytes of rows a statement has room for
	head, tail string
	s          *session // of the open transaction, or for the next one; nil after Prepare
	closed     bool
	slot       sink.Slot // of the open transaction; no name between Prepare and Begin
	token      string
	stale      []string // tokens of the slot that are removed with the transaction
	rows       rows
	bad        map[int]error // of the batch in hand, by index
}

// openTx connects, and looks whether rows can be written at all.
func openTx(ctx context.Context, o settings, t sink.Task) (*tx, error) {
	s, err := o.connect(ctx)
	if err != nil {
		return nil, err
	}
	x := &tx{o: o, t: t, s: s}
	if err := x.open(ctx); err != nil {
		s.close()
		return nil, err
	}
	return x, nil
}

// spare is what of a packet the statement and the protocol may take beside the rows and the statement's own text.
const spare = 1 << 10

func (x *tx) open(ctx context.Context) error {
	v, err := x.s.look(ctx)
	if err != nil {
		return unfit(err, "look at the server's settings")
	}
	x.server = v
	x.head, x.tail = x.o.insertSQL()
	x.room = v.packet - len(x.head) - len(x.tail) - spare
	x.rows = rows{columns: x.o.columns, check: x.s.conn}
	if err := x.s.needTokens(ctx, x.o); err != nil {
		return err
	}
	return x.s.tryInsert(ctx, x.o)
}

// Begin opens a transaction on a connection of its own.
func (x *tx) Begin(ctx context.Context, s sink.Slot) error {
	if x.closed {
		return errors.New("begin transaction: the writer is closed")
	}
	if x.slot.Name != "" {
		return fault.New(fault.SinkFailed, "begin transaction in slot %s: the one in slot %s is still open", s.Name, x.slot.Name)
	}
	if err := txn.CheckSlot(s, maxSlot); err != nil {
		return err
	}
	if x.s == nil {
		var err error
		if x.s, err = x.o.connect(ctx); err != nil {
			return err
		}
		x.rows.check = x.s.conn
	}
	token := txn.NewToken()
	rows, err := x.s.query(ctx, fmt.Sprintf("select get_lock('%s', 0); %s; xa start %s", lockOf(s.Name, x.o.database),
		x.o.staleTokens(s.Name), xidOf(txn.NameOf(s.Name, token), x.o.database)))
	if err == nil && len(rows) > 0 && rows[0][0] == "1" {
		x.slot, x.token, x.stale = s, token, nil
		for _, r := range rows[1:] {
			x.stale = append(x.stale, r[0])
		}
		return nil
	}
	x.s.close()
	x.s = nil
	if err != nil {
		return failed(err, "begin transaction in slot %s", s.Name)
	}
	return fault.New(fault.SinkFailed, "slot %s is in use by another session of the server", s.Name).
		WithFix("stop the other copy of the job, or give one of the two another name or prefix")
}

// Prepare ends the transaction so that it survives, invisible. Its connection goes to the committer.
func (x *tx) Prepare(ctx context.Context, epoch uint64) (sink.Handle, error) {
	if x.slot.Name == "" {
		return sink.Handle{}, errNotBegun
	}
	n := native{Name: txn.NameOf(x.slot.Name, x.token), Database: x.o.database, Tokens: x.o.tokens.String(), Server: x.server.id}
	sql := "select unix_timestamp(); " + x.o.putToken(x.slot.Name, x.token, epoch)
	for _, token := range x.stale {
		sql += "; " + x.o.dropToken(token)
	}
	rows, err := x.s.query(ctx, fmt.Sprintf("%s; xa end %s; xa prepare %s", sql, n.xid(), n.xid()))
	if err != nil {
		return sink.Handle{}, failed(err, "prepare transaction %s", n.Name)
	}
	if n.Prepared, err = strconv.ParseInt(rows[0][0], 10, 64); err != nil {
		return sink.Handle{}, fmt.Errorf("read the server's time: %w", err)
	}
	data, err := txn.Encode(nativeVersion, n)
	if err != nil {
		return sink.Handle{}, err
	}
	park(n.Name, parking{s: x.s, xid: n.xid(), server: x.server.id, lock: lockOf(x.slot.Name, x.o.database), owner: ownerOf(x.o, x.t)})
	h := sink.Handle{Operator: x.t.Operator, Slot: x.slot, Token: x.token, Epoch: epoch, Native: data}
	x.s, x.slot = nil, sink.Slot{}
	return h, nil
}

// Close rolls an open transaction back and ends its session. What is prepared no longer belongs to the writer.
func (x *tx) Close() error {
	x.closed = true
	if x.s == nil {
		return nil
	}
	if x.slot.Name != "" && !x.s.broken() {
		ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
		defer cancel()
		xid := xidOf(txn.NameOf(x.slot.Name, x.token), x.o.database)
		_ = x.s.exec(ctx, "xa end "+xid)      // one that has failed has ended
		_ = x.s.exec(ctx, "xa rollback "+xid) // if it fails, the end of the session does it
	}
	x.s.close()
	x.s, x.slot = nil, sink.Slot{}
	return nil
}
