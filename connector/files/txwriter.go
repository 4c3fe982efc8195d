package files

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"syscall"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// writeSize is how many bytes are gathered before they go to the file.
const writeSize = 128 << 10

// txWriter writes one hidden file at a time.
type txWriter[T any] struct {
	sink     TxSink[T]
	operator string
	slot     sink.Slot
	token    string
	f        *os.File // the open transaction; nil between Prepare and Begin
	buf      []byte
	size     int64
	crc      uint32
}

// Begin makes the hidden file of a new transaction.
func (w *txWriter[T]) Begin(_ context.Context, s sink.Slot) error {
	if w.f != nil {
		return fault.New(fault.SinkFailed, "begin transaction in slot %s: the one in slot %s is still open", s.Name, w.slot.Name)
	}
	if err := txn.CheckSlot(s, maxSlot); err != nil {
		return err
	}
	token := txn.NewToken()
	f, err := os.OpenFile(filepath.Join(w.sink.Dir, hiddenName(s.Name, token, openSuffix)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return writeFault(err, "make hidden file")
	}
	w.slot, w.token, w.f = s, token, f
	w.buf, w.size, w.crc = w.buf[:0], 0, 0
	return nil
}

// Write appends records to the file.
func (w *txWriter[T]) Write(ctx context.Context, batch []T) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if w.f == nil {
		return errNotBegun
	}
	for i := range batch {
		w.buf = w.sink.Encode(w.buf, batch[i])
		if len(w.buf) >= writeSize {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

var errNotBegun = errors.New("write or prepare file: no transaction is open")

func (w *txWriter[T]) flush() error {
	n, err := w.f.Write(w.buf)
	w.crc = crc32.Update(w.crc, crcTable, w.buf[:n])
	w.size += int64(n)
	w.buf = w.buf[:copy(w.buf, w.buf[n:])]
	if err != nil {
		return writeFault(err, "write file "+w.f.Name())
	}
	return nil
}

// Prepare puts the file on the disk under the name that says it is whole.
func (w *txWriter[T]) Prepare(_ context.Context, epoch uint64) (sink.Handle, error) {
	if w.f == nil {
		return sink.Handle{}, errNotBegun
	}
	n := native{
		Dir: w.sink.Dir, Prepared: hiddenName(w.slot.Name, w.token, preparedSuffix),
		Final: w.sink.finalName(w.operator)(w.slot, w.token, epoch),
	}
	if err := w.flush(); err != nil {
		return sink.Handle{}, err
	}
	if err := w.f.Sync(); err != nil {
		return sink.Handle{}, writeFault(err, "sync file "+w.f.Name())
	}
	if err := w.f.Close(); err != nil {
		return sink.Handle{}, writeFault(err, "close file "+w.f.Name())
	}
	if err := os.Rename(w.f.Name(), filepath.Join(w.sink.Dir, n.Prepared)); err != nil {
		return sink.Handle{}, writeFault(err, "rename file "+w.f.Name())
	}
	w.f = nil
	if err := syncDir(w.sink.Dir); err != nil {
		return sink.Handle{}, writeFault(err, "prepare file "+n.Prepared)
	}
	n.Size, n.CRC32C = w.size, w.crc
	data, err := txn.Encode(nativeVersion, n)
	if err != nil {
		return sink.Handle{}, err
	}
	return sink.Handle{Operator: w.operator, Slot: w.slot, Token: w.token, Epoch: epoch, Native: data}, nil
}

// Close removes the file of an open transaction.
func (w *txWriter[T]) Close() error {
	if w.f == nil {
		return nil
	}
	name := w.f.Name()
	err := w.f.Close()
	w.f = nil
	if errors.Is(err, os.ErrClosed) {
		err = nil // Prepare got so far
	}
	if rerr := os.Remove(name); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	if err != nil {
		return fmt.Errorf("give up file: %w", err)
	}
	return nil
}

// writeFault says what to do about an error of the file system.
func writeFault(err error, what string) error {
	f := fault.Wrap(fault.SinkFailed, err, "file sink: %s", what)
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return f.WithFix("free disk space; the job restarts from the last checkpoint")
	case errors.Is(err, os.ErrNotExist):
		return f.WithFix("make the directory again; the job restarts from the last checkpoint")
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EROFS):
		return f.WithFix("give this user the right to write the directory")
	}
	return f
}
