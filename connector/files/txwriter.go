package files

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path"
	"syscall"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/parts"
	"github.com/weirline/weirline/txn"
)

// txWriter writes into one hidden directory at a time.
type txWriter[T any] struct {
	sink  TxSink[T]
	task  sink.Task
	disk  disk
	set   *parts.Set[T, *txFile]
	slot  sink.Slot
	token string
	open  string              // name of the transaction's directory; "" between Prepare and Begin
	files map[*txFile]bool    // that are open
	made  int                 // files, which numbers the next
	done  []nativeFile        // whole and synced
	dirs  map[string]bool     // buckets of those
	count func(string, int64) // of the task's metrics
	seen  int64               // evictions that are counted
}

// txFile is a file that is being written.
type txFile struct {
	disk disk
	f    *os.File
	path string // within the transaction
	name string // below the sink's directory
	size int64
	crc  uint32
}

// Write appends bytes.
func (f *txFile) Write(p []byte) (n int, err error) {
	err = f.disk.do("write", f.name, func() error {
		n, err = f.f.Write(p)
		return err
	})
	f.crc = crc32.Update(f.crc, crcTable, p[:n])
	f.size += int64(n)
	if err != nil {
		return n, writeFault(err, "write file "+f.name+" in "+f.disk.dir)
	}
	return n, nil
}

func newTxWriter[T any](s TxSink[T], t sink.Task) (*txWriter[T], error) {
	w := &txWriter[T]{sink: s, task: t, disk: disk{dir: s.Dir}, files: map[*txFile]bool{}, count: counter(t)}
	var err error
	w.set, err = parts.NewSet(parts.Options[T]{Format: s.format(), Bucket: s.Bucket, Rolling: s.Rolling, MaxOpen: s.MaxOpen}, w)
	return w, err
}

func counter(t sink.Task) func(string, int64) {
	if t.Metrics == nil {
		return func(string, int64) {}
	}
	return t.Metrics.Count
}

// Begin makes the hidden directory of a new transaction.
func (w *txWriter[T]) Begin(_ context.Context, s sink.Slot) error {
	if w.open != "" {
		return fault.New(fault.SinkFailed, "begin transaction in slot %s: the one in slot %s is still open", s.Name, w.slot.Name)
	}
	if err := txn.CheckSlot(s, maxSlot); err != nil {
		return err
	}
	token := txn.NewToken()
	name := hiddenName(s.Name, token, openSuffix)
	if err := w.disk.mkdir(name); err != nil {
		return writeFault(err, "make hidden directory")
	}
	w.slot, w.token, w.open = s, token, name
	w.made, w.done, w.dirs = 0, nil, map[string]bool{}
	return nil
}

// Create makes a file of the transaction.
func (w *txWriter[T]) Create(bucket string) (*txFile, error) {
	f := &txFile{disk: w.disk, path: path.Join(bucket, numbered(w.made))}
	f.name = path.Join(w.open, f.path)
	err := w.disk.mkdirs(w.open, bucket)
	if err == nil {
		f.f, err = w.disk.create(f.name)
	}
	if err != nil {
		return nil, writeFault(err, "make file "+f.name+" in "+w.sink.Dir)
	}
	w.made++
	w.files[f] = true
	return f, nil
}

// Finish puts a file on the disk.
func (w *txWriter[T]) Finish(f *txFile, records int64) error {
	delete(w.files, f)
	if records == 0 {
		if err := errors.Join(f.f.Close(), w.disk.remove(f.name)); err != nil {
			return writeFault(err, "remove file "+f.name)
		}
		return nil
	}
	if err := w.disk.sync(f.f, f.name); err != nil {
		return writeFault(err, "sync file "+f.name+" in "+w.sink.Dir)
	}
	w.done = append(w.done, nativeFile{f.path, f.size, f.crc})
	w.dirs[path.Dir(f.path)] = true
	w.count("files", 1)
	return nil
}

// Write puts records into the files of their buckets.
func (w *txWriter[T]) Write(ctx context.Context, batch []T) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if w.open == "" {
		return errNotBegun
	}
	err := w.set.Write(batch)
	if n := w.set.Evicted(); n > w.seen {
		w.count("evicted_files", n-w.seen)
		w.seen = n
	}
	return err
}

var errNotBegun = errors.New("write or prepare files: no transaction is open")

// Prepare puts all files on the disk, and their directory under the name that says they are whole.
func (w *txWriter[T]) Prepare(_ context.Context, epoch uint64) (sink.Handle, error) {
	if w.open == "" {
		return sink.Handle{}, errNotBegun
	}
	if err := w.set.End(); err != nil {
		return sink.Handle{}, err
	}
	n := native{Dir: w.sink.Dir, Prepared: hiddenName(w.slot.Name, w.token, preparedSuffix), Files: w.done}
	n.Begin, n.End = w.sink.names(w.task.Operator).around(w.slot, w.token, epoch)
	data, err := txn.Encode(nativeVersion, n)
	if err == nil {
		err = w.settle(n.Prepared)
	}
	if err != nil {
		return sink.Handle{}, err
	}
	return sink.Handle{Operator: w.task.Operator, Slot: w.slot, Token: w.token, Epoch: epoch, Native: data}, nil
}

// settle syncs directories around the rename. It also makes those the files will be in, so that what is in the way of them fails
// the epoch, and not its commit.
func (w *txWriter[T]) settle(prepared string) error {
	err := w.disk.syncDirs(w.open, w.dirs)
	for bucket := range w.dirs {
		if err == nil && bucket != "." {
			err = w.disk.mkdirs("", bucket)
		}
	}
	if err == nil {
		err = w.disk.rename(w.open, prepared)
	}
	if err != nil {
		return writeFault(err, "prepare "+w.open+" in "+w.sink.Dir)
	}
	w.open = ""
	if err := w.disk.syncDirs("", nil); err != nil {
		return writeFault(err, "prepare "+prepared+" in "+w.sink.Dir)
	}
	return nil
}

// Close removes the files of an open transaction.
func (w *txWriter[T]) Close() error {
	w.set.Drop()
	var errs []error
	for f := range w.files {
		if err := f.f.Close(); !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}
	clear(w.files)
	if w.open != "" {
		errs = append(errs, w.disk.remove(w.open))
		w.open = ""
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("give up files: %w", err)
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
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return f.WithFix("lower MaxOpen, or raise the limit of open files (ulimit -n)")
	case errors.Is(err, fs.ErrExist), errors.Is(err, syscall.ENOTDIR):
		return f.WithFix("a file is where a bucket's directory should be: move it away, or choose other buckets")
	}
	return f
}
