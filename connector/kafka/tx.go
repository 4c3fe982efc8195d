package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// maxID bounds transactional ids, far below what the protocol takes.
const maxID = 1000

// closeLimit bounds the farewell to the brokers.
const closeLimit = 3 * time.Second

// tx is the writer's transactions: the open one, and the clients of those prepared.
type tx struct {
	o txSettings
	t sink.Task

	p       *txProducer            // of the open transaction, nil between Prepare and Begin
	slot    sink.Slot              // of the same
	resting map[string]*txProducer // by slot: its transaction is prepared, or was rolled back at its end

	room *room
	age  *age
	end  int16 // version of EndTxn to use; 0 = not asked yet
	done bool  // closed
}

func newTx(o txSettings, t sink.Task) *tx {
	x := &tx{o: o, t: t, resting: map[string]*txProducer{}, room: &room{limit: int64(o.buffer)}}
	x.age = newAge(o.timeout, t, x.room.signal)
	return x
}

func (x *tx) open() (*txProducer, error) {
	if x.p == nil {
		return nil, errNotBegun
	}
	return x.p, x.p.failed()
}

var errNotBegun = errors.New("write or prepare records: no transaction is open")

// Begin opens a transaction. Each has a producer epoch of its own, so that no handle fits two of them.
func (x *tx) Begin(ctx context.Context, s sink.Slot) error {
	if x.done {
		return errors.New("begin transaction: the writer is closed")
	}
	if x.p != nil {
		return fault.New(fault.SinkFailed, "begin transaction in slot %s: the one in slot %s is still open", s.Name, x.slot.Name)
	}
	if err := txn.CheckSlot(s, maxID); err != nil {
		return err
	}
	p, err := x.producer(ctx, s)
	if err != nil {
		return err
	}
	x.p, x.slot = p, s
	x.age.begin()
	return nil
}

// producer makes the client of a slot, or takes the one that used it last: its transaction is finished, and recorded so, or the
// slot wouldn't be free.
func (x *tx) producer(ctx context.Context, s sink.Slot) (*txProducer, error) {
	if p := x.resting[s.Name]; p != nil {
		delete(x.resting, s.Name)
		p.unwatch()
		if x.end >= 5 && p.again(ctx) == nil {
			return p, nil
		}
		p.cl.Close()
	}
	p, err := x.o.newProducer(ctx, s.Name, x.t, x.room)
	if err != nil {
		return nil, err
	}
	if x.end == 0 {
		v, err := versions(ctx, p.cl)
		if err != nil {
			p.cl.Close()
			return nil, x.o.produceFault(err, "ask the brokers for their versions")
		}
		x.end = endVersion(v)
	}
	return p, nil
}

// Prepare waits until the brokers have everything, and takes down who may finish the transaction. From here on its client
// leaves it alone.
func (x *tx) Prepare(ctx context.Context, epoch uint64) (sink.Handle, error) {
	p, err := x.open()
	if err != nil {
		return sink.Handle{}, err
	}
	if err := x.Err(); err != nil {
		return sink.Handle{}, err
	}
	ctx, cancel := context.WithDeadlineCause(ctx, x.age.deadline(), errTimedOut(x.slot.Name, x.o.timeout))
	defer cancel()
	n, err := p.prepare(ctx)
	if err != nil {
		return sink.Handle{}, err
	}
	n.EndTxn, n.Begun, n.Timeout = x.end, x.age.begun.UnixMilli(), x.o.timeout.Milliseconds()
	data, err := txn.Encode(handleVersion, n)
	if err != nil {
		return sink.Handle{}, err
	}
	h := sink.Handle{Operator: x.t.Operator, Slot: x.slot, Token: txn.NewToken(), Epoch: epoch, Native: data}
	if len(n.Places) > 0 {
		p.watch(x.age.deadline(), x.room.signal)
	}
	x.age.end()
	x.resting[x.slot.Name] = p
	x.p, x.slot = nil, sink.Slot{}
	return h, nil
}

// Room says whether the brokers keep up, and whether the open transaction is young enough to take more.
func (x *tx) Room() bool { return x.room.ask() && !x.age.held() }

// OnRoom implements sink.Gated.
func (x *tx) OnRoom(wake func()) { x.room.onRoom(wake) }

// Err is what has gone wrong in the background.
func (x *tx) Err() error {
	if err := x.overdue(); err != nil {
		return err
	}
	if x.p == nil {
		return nil
	}
	x.age.look()
	if x.age.over() {
		return errTimedOut(x.slot.Name, x.o.timeout)
	}
	return x.p.failed()
}

// Close rolls an open transaction back, and leaves prepared ones alone: closing their clients sends nothing.
func (x *tx) Close() error {
	x.done = true
	x.age.end()
	if x.p != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
		defer cancel()
		x.p.abort(ctx)
		x.p.cl.Close()
		x.p = nil
	}
	for _, p := range x.resting {
		p.unwatch()
		p.cl.Close()
	}
	clear(x.resting)
	return nil
}
