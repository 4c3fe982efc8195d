package ahead

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// target is the destination as the committer sees it. What it holds is closed after an error, so that nothing of it is written later.
type target interface {
	apply(ctx context.Context, g *segment) error
	proves(ctx context.Context, h sink.Handle, rows int64) (bool, error)
	close() error
}

// plainTarget writes to any sink.
type plainTarget[T any] struct {
	*resource[T]
	out outlet[T]
}

func (p *plainTarget[T]) apply(ctx context.Context, g *segment) error {
	refused := func(err error, rows []T) error {
		r, is := errors.AsType[*sink.Rejected](err)
		if is && rows != nil {
			err = nil
			for i := 0; i < len(rows) && err == nil; i++ {
				if why := r.Errs[i]; why != nil {
					err = p.refused(ctx, g.h, rows[i], why)
				}
			}
		}
		for _, rec := range p.out.rejects() {
			if err == nil {
				err = p.refused(ctx, g.h, rec.Value, rec.Err)
			}
		}
		return err
	}
	err := p.batches(ctx, g, 0, func(ctx context.Context, rows []T) error {
		return refused(p.wait(ctx, func(ctx context.Context) error { return p.out.write(ctx, p.t, rows) }), rows)
	})
	if err == nil {
		err = refused(p.wait(ctx, p.out.flush), nil)
	}
	if err == nil {
		err = p.wait(ctx, p.rejects.flush)
	}
	return err
}

// proves knows nothing: such a destination keeps no evidence.
func (p *plainTarget[T]) proves(context.Context, sink.Handle, int64) (bool, error) { return false, nil }

func (p *plainTarget[T]) close() error { return p.out.close() }

// outlet is the writer of a plain sink, made when there is something to write.
type outlet[T any] struct {
	to sink.Sink[T]
	w  sink.Writer[T]
}

func (o *outlet[T]) write(ctx context.Context, t sink.Task, rows []T) error {
	if o.w == nil {
		w, err := o.to.Writer(ctx, t)
		if err != nil {
			return fmt.Errorf("open the destination: %w", err)
		}
		o.w = w
		if g, ok := sink.As[sink.Gated](w); ok {
			g.OnRoom(func() {}) // Write may wait here
		}
	}
	if err := o.w.Write(ctx, rows); err != nil {
		return err
	}
	return o.failed()
}

func (o *outlet[T]) flush(ctx context.Context) error {
	if o.w == nil {
		return nil
	}
	if err := o.w.Flush(ctx); err != nil {
		return err
	}
	return o.failed()
}

// failed asks a writer that works in the background.
func (o *outlet[T]) failed() error {
	if f, ok := sink.As[sink.Failing](o.w); ok {
		return f.Err()
	}
	return nil
}

func (o *outlet[T]) rejects() []sink.RejectedRecord {
	if r, ok := sink.As[sink.Rejecter](o.w); ok {
		return r.Rejects()
	}
	return nil
}

func (o *outlet[T]) close() error {
	if o.w == nil {
		return nil
	}
	w := o.w
	o.w = nil
	return w.Close()
}

// batches decodes rows from number from on and calls write with some at a time.
func (r *resource[T]) batches(ctx context.Context, g *segment, from int64, write func(ctx context.Context, rows []T) error) error {
	batch := make([]T, 0, min(int64(r.s.Batch), g.size.Rows-min(from, g.size.Rows)))
	err := g.rows(ctx, from, func(row []byte) error {
		v, err := r.s.Decode(row)
		if err != nil {
			return sink.Permanent(fault.Wrap(fault.CommitFailed, err, "decode a row of epoch %d that waits in %s", g.h.Epoch, r.store).
				WithFix("start the job with a binary that has the type the row was written with"))
		}
		if batch = append(batch, v); len(batch) < r.s.Batch {
			return nil
		}
		err = write(ctx, batch)
		batch = batch[:0]
		return err
	})
	if err == nil && len(batch) > 0 {
		err = write(ctx, batch)
	}
	return err
}

// refused takes a row that the destination refuses for good.
func (r *resource[T]) refused(ctx context.Context, h sink.Handle, row any, why error) error {
	v, ok := row.(T)
	if r.s.Rejects == nil || !ok {
		return sink.Permanent(fault.Wrap(fault.SinkRejected, why, "the destination refuses row %.300s of epoch %d, which was checkpointed", fmt.Sprintf("%+v", row), h.Epoch).
			WithFix("mend the destination, or what the message names, or set Rejects to a sink for such rows; then start the job again"))
	}
	r.count("rejected_rows", 1)
	reject := Reject[T]{Row: v, Reason: why.Error(), Slot: h.Slot.Name, Token: h.Token, Epoch: h.Epoch}
	return r.wait(ctx, func(ctx context.Context) error {
		if err := r.rejects.write(ctx, r.t, []Reject[T]{reject}); err != nil {
			return sinkOfRejects(err)
		}
		return nil
	})
}

// sinkOfRejects keeps an error of Rejects from being taken for one of the destination.
func sinkOfRejects(err error) error {
	if _, is := errors.AsType[*sink.Rejected](err); is {
		return sink.Permanent(fault.New(fault.SinkRejected, "the sink for rejected rows refuses one itself: %v", err))
	}
	return fmt.Errorf("write a rejected row: %w", err)
}

// errImpatient ends a call of the destination that lasts too long.
var errImpatient = errors.New("the destination didn't answer for as long as Patience allows")

// wait calls the destination, which has Patience at most.
func (r *resource[T]) wait(ctx context.Context, call func(ctx context.Context) error) error {
	if r.s.Patience < 0 {
		return call(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.s.Patience, errImpatient)
	defer cancel()
	err := call(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errImpatient) {
		return r.impatient(err)
	}
	return err
}

func (r *resource[T]) impatient(err error) error {
	return sink.Permanent(fault.Wrap(fault.CommitFailed, err, "the destination fails for %v, as long as Patience allows", r.s.Patience.Round(time.Millisecond)).
		WithFix("mend the destination and start the job again: the rows wait in %s", r.store))
}
