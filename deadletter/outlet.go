package deadletter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/plain"
	"github.com/weirline/weirline/sink"
)

// Outlet is the way back into a sink, whatever the type of its records. [Plain] and [TwoPhase] make one; it may be used any number
// of times.
type Outlet interface {
	// check says whether records of the type can be read back, reads whether a letter's can.
	check() error
	reads(l Letter) error

	// inOne says that all of a replay is one transaction.
	inOne() bool

	// open makes what writes. A two-phase one has recovered by then: of what lies under its slot only keep is committed.
	open(ctx context.Context, t sink.Task, slot sink.Slot, keep []sink.Handle) (outflow, error)
}

// outflow writes records of letters. One goroutine calls it.
type outflow interface {
	// take reads the record of a letter, for the next send.
	take(l Letter) error

	// send writes what was taken. Letters whose records the destination refuses come back at once, or from a later call.
	send(ctx context.Context) (refused []Letter, err error)

	// settle returns when all is delivered or refused. A two-phase one has then prepared it for the epoch, if there was
	// anything, and returns its handle, which commit finishes.
	settle(ctx context.Context, epoch uint64) (refused []Letter, h *sink.Handle, err error)
	commit(ctx context.Context, h sink.Handle) error

	close() error
}

// Plain is the way back into a plain sink.
func Plain[T any](to sink.Sink[T]) Outlet { return plainOutlet[T]{to} }

// TwoPhase is the way back into a two-phase sink.
func TwoPhase[T any](to sink.TwoPhase[T]) Outlet { return txOutlet[T]{to} }

// taken are records to be written, beside their letters.
type taken[T any] struct {
	values  []T
	letters []Letter
}

func recordOf[T any](l Letter) (v T, _ error) {
	if len(l.Record) == 0 {
		return v, errors.New("it has no record")
	}
	return plain.Decode[T](l.Record)
}

func (b *taken[T]) take(l Letter) error {
	v, err := recordOf[T](l)
	if err == nil {
		b.values, b.letters = append(b.values, v), append(b.letters, l)
	}
	return err
}

// refusedOf takes the letters out whose records a Write has refused.
func (b *taken[T]) refusedOf(err error) ([]Letter, error) {
	r, ok := errors.AsType[*sink.Rejected](err)
	if !ok {
		return nil, err
	}
	var out []Letter
	for i, l := range b.letters {
		if why := r.Errs[i]; why != nil {
			out = append(out, again(l, 1, why))
		}
	}
	return out, nil
}

func (b *taken[T]) reset() {
	clear(b.values)
	b.values, b.letters = b.values[:0], b.letters[:0]
}

// again is the letter of a record that is refused once more.
func again(l Letter, attempts int, why error) Letter {
	l.Cause, l.Attempts, l.Found = why.Error(), attempts, time.Now().UTC()
	return l
}

type plainOutlet[T any] struct{ to sink.Sink[T] }

func (plainOutlet[T]) check() error { return plain.Check[T]("dead letters") }

func (plainOutlet[T]) reads(l Letter) error {
	_, err := recordOf[T](l)
	return err
}

func (plainOutlet[T]) inOne() bool { return false }

func (o plainOutlet[T]) open(ctx context.Context, t sink.Task, _ sink.Slot, _ []sink.Handle) (outflow, error) {
	w, err := o.to.Writer(ctx, t)
	if err != nil {
		return nil, err
	}
	f := &plainFlow[T]{t: t, w: w, sent: map[string][]Letter{}}
	f.rejecter, _ = sink.As[sink.Rejecter](w)
	f.failing, _ = sink.As[sink.Failing](w)
	if g, ok := sink.As[sink.Gated](w); ok {
		g.OnRoom(func() {}) // Write waits by itself
	}
	return f, nil
}

// plainFlow writes through a plain sink's writer.
type plainFlow[T any] struct {
	taken[T]
	t        sink.Task
	w        sink.Writer[T]
	rejecter sink.Rejecter
	failing  sink.Failing
	sent     map[string][]Letter // what may still be refused, by its value
}

// nameOf finds the letter of a value that comes back. Values that print the same are the same, as far as a letter tells.
func nameOf(v any) string { return fmt.Sprintf("%#v", v) }

func (f *plainFlow[T]) send(ctx context.Context) ([]Letter, error) {
	defer f.reset()
	if f.rejecter != nil {
		for i, v := range f.values {
			name := nameOf(v)
			f.sent[name] = append(f.sent[name], f.letters[i])
		}
	}
	refused, err := f.refusedOf(f.w.Write(ctx, f.values))
	return append(refused, f.collect()...), err
}

// collect asks for what a writer that works in the background has learned.
func (f *plainFlow[T]) collect() (refused []Letter) {
	if f.rejecter == nil {
		return nil
	}
	for _, r := range f.rejecter.Rejects() {
		name := nameOf(r.Value)
		l := Of(r.Value)
		l.Operator, l.Job = f.t.Operator, f.t.Job
		if ls := f.sent[name]; len(ls) > 0 {
			l, f.sent[name] = ls[0], ls[1:]
		}
		refused = append(refused, again(l, r.Attempts, r.Err))
	}
	return refused
}

func (f *plainFlow[T]) settle(ctx context.Context, _ uint64) ([]Letter, *sink.Handle, error) {
	err := f.w.Flush(ctx)
	refused := f.collect()
	if err == nil && f.failing != nil {
		err = f.failing.Err()
	}
	clear(f.sent)
	return refused, nil, err
}

func (f *plainFlow[T]) commit(context.Context, sink.Handle) error { return nil }
func (f *plainFlow[T]) close() error                              { return f.w.Close() }

type txOutlet[T any] struct{ to sink.TwoPhase[T] }

func (txOutlet[T]) check() error { return plain.Check[T]("dead letters") }

func (txOutlet[T]) reads(l Letter) error {
	_, err := recordOf[T](l)
	return err
}

func (txOutlet[T]) inOne() bool { return true }

func (o txOutlet[T]) open(ctx context.Context, t sink.Task, slot sink.Slot, keep []sink.Handle) (outflow, error) {
	c, err := o.to.Committer(ctx, t)
	if err != nil {
		return nil, err
	}
	if err := c.Recover(ctx, keep, []sink.Slot{slot}); err != nil {
		return nil, errors.Join(fault.Ensure(fault.CommitFailed, err, "finish what an earlier replay had begun"), c.Close())
	}
	w, err := o.to.TxWriter(ctx, t)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &txFlow[T]{t: t, w: w, c: c, slot: slot}, nil
}

// txFlow writes through a two-phase sink, all in one transaction.
type txFlow[T any] struct {
	taken[T]
	t    sink.Task
	w    sink.TxWriter[T]
	c    sink.Committer
	slot sink.Slot
	open bool
}

func (f *txFlow[T]) send(ctx context.Context) ([]Letter, error) {
	defer f.reset()
	if !f.open {
		if err := f.w.Begin(ctx, f.slot); err != nil {
			return nil, err
		}
		f.open = true
	}
	return f.refusedOf(f.w.Write(ctx, f.values))
}

func (f *txFlow[T]) settle(ctx context.Context, epoch uint64) ([]Letter, *sink.Handle, error) {
	if !f.open {
		return nil, nil, nil
	}
	h, err := f.w.Prepare(ctx, epoch)
	if err != nil {
		return nil, nil, err
	}
	f.open = false
	h.Operator, h.Slot, h.Epoch = f.t.Operator, f.slot, epoch
	return nil, &h, nil
}

func (f *txFlow[T]) commit(ctx context.Context, h sink.Handle) error {
	return f.c.Commit(ctx, []sink.Handle{h})
}

func (f *txFlow[T]) close() error { return errors.Join(f.w.Close(), f.c.Close()) }
