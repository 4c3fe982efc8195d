package ahead

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"time"

	"github.com/weirline/weirline/internal/durable"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// writer collects the rows of one task.
type writer[T any] struct {
	t      sink.Task
	p      Place
	encode func(dst []byte, v T) ([]byte, error)

	slot  sink.Slot // of the open transaction; no name between Prepare and Begin
	token string
	name  string
	size  size   // of the parts that are stored
	rows  []byte // of the part in hand
	row   []byte // scratch
}

// Begin leaves a file that recovery removes: Prepare then knows that this writer was taken for dead.
func (w *writer[T]) Begin(ctx context.Context, s sink.Slot) error {
	if w.slot.Name != "" {
		return fault.New(fault.SinkFailed, "begin transaction in slot %s: the one in slot %s is still open", s.Name, w.slot.Name)
	}
	if err := txn.CheckSlot(s, maxSlot); err != nil {
		return err
	}
	token := txn.NewToken()
	name := txn.NameOf(s.Name, token)
	if err := w.create(ctx, name+openEnd, []byte(name)); err != nil {
		return err
	}
	w.slot, w.token, w.name = s, token, name
	w.size, w.rows = size{}, w.rows[:0]
	return nil
}

func (w *writer[T]) create(ctx context.Context, name string, data []byte) error {
	if err := w.p.Create(ctx, name, data); err != nil {
		return fault.Wrap(fault.SinkFailed, err, "store rows as %s in %s", name, w.p).WithFix("%s", fixPlace+"; the records come again from the last checkpoint")
	}
	return nil
}

// Write encodes a batch. Records that can't be encoded are rejected; the others are in the transaction.
func (w *writer[T]) Write(ctx context.Context, batch []T) error {
	if w.slot.Name == "" {
		return errNotBegun
	}
	var bad map[int]error
	for i, v := range batch {
		row, err := w.encode(w.row[:0], v)
		if err != nil {
			if bad == nil {
				bad = map[int]error{}
			}
			bad[i] = err
			continue
		}
		w.row = row
		w.rows = append(binary.AppendUvarint(w.rows, uint64(len(row))), row...)
		w.size.Rows++
		if len(w.rows) >= partBytes {
			if err := w.store(ctx, nil); err != nil {
				return err
			}
		}
	}
	if bad != nil {
		return &sink.Rejected{Errs: bad}
	}
	return nil
}

var errNotBegun = errors.New("write or prepare rows: no transaction is open")

// store makes a file of the rows in hand.
func (w *writer[T]) store(ctx context.Context, end *last) error {
	next := w.size
	next.CRC32C = crc32.Update(next.CRC32C, crcTable, w.rows)
	next.Bytes += int64(len(w.rows))
	next.Parts++
	if end != nil {
		end.Size = next
	}
	data, err := durable.Encode(partMagic, partVersion, part{Name: w.name, Part: w.size.Parts, Rows: w.rows, Last: end})
	if err == nil {
		err = w.create(ctx, partName(w.name, w.size.Parts, end != nil), data)
	}
	if err == nil {
		w.size, w.rows = next, w.rows[:0]
	}
	return err
}

// Prepare stores the last rows, and then looks whether the transaction is still this writer's: recovery removes what Begin left
// before it lists what else is there.
func (w *writer[T]) Prepare(ctx context.Context, epoch uint64) (sink.Handle, error) {
	if w.slot.Name == "" {
		return sink.Handle{}, errNotBegun
	}
	if err := w.newLife(ctx, epoch); err != nil {
		return sink.Handle{}, err
	}
	if err := w.store(ctx, &last{Epoch: epoch, At: time.Now().UnixNano()}); err != nil {
		return sink.Handle{}, err
	}
	if _, err := w.p.Read(ctx, w.name+openEnd); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			gone := fault.New(fault.SinkFailed, "slot %s was recovered since this transaction began, which therefore writes no more", w.slot.Name).
				WithFix("stop the other copy of the job, or give one of the two another name or prefix")
			return sink.Handle{}, errors.Join(gone, w.Close())
		}
		return sink.Handle{}, fault.Wrap(fault.SinkFailed, err, "read %s in %s", w.name+openEnd, w.p)
	}
	data, err := txn.Encode(nativeVersion, native{w.p.String(), w.size})
	if err != nil {
		return sink.Handle{}, err
	}
	h := sink.Handle{Operator: w.t.Operator, Slot: w.slot, Token: w.token, Epoch: epoch, Native: data}
	w.slot = sink.Slot{}
	return h, nil
}

// newLife forgets what became of the slot's transactions if they are of a job whose state was given up, whose epochs were other ones.
func (w *writer[T]) newLife(ctx context.Context, epoch uint64) error {
	st := store{w.p}
	h, err := st.history(ctx, w.slot.Name)
	if err == nil && h.Epoch >= epoch {
		err = st.keep(ctx, w.slot.Name, history{})
	}
	return err
}

// Close removes what is stored of an open transaction.
func (w *writer[T]) Close() error {
	if w.slot.Name == "" {
		return nil
	}
	ctx := context.Background() // the task's has ended
	st := store{w.p}
	slot := w.slot.Name
	w.slot = sink.Slot{}
	left, err := st.files(ctx, w.name, func(s string) bool { return s == slot })
	if err != nil {
		return err
	}
	return st.remove(ctx, left)
}
