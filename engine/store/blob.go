package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/weirline/weirline/internal/fault"
)

// spillBuffer is how many bytes a blob that has a file collects before it writes.
const spillBuffer = 64 << 10

// blobWriter is a Writer. It keeps up to InlineMax bytes before it makes a file.
type blobWriter struct {
	d     *Dir
	epoch uint64
	rel   string
	buf   []byte
	sum   xxhash.Digest
	size  int64
	f     OpenFile // nil until it spills
	ended bool
}

// Create implements Blobs.
func (d *Dir) Create(epoch uint64, name string) (Writer, error) {
	if d.o.ReadOnly || d.closed.Load() {
		return nil, d.held()
	}
	w := &blobWriter{d: d, epoch: epoch, rel: blobDir(epoch) + "/" + BlobName(name)}
	w.sum.Reset()
	d.mu.Lock()
	defer d.mu.Unlock()
	_, finished := d.blobs[w.rel]
	if finished || d.writing[w.rel] {
		return nil, fmt.Errorf("create blob %q of epoch %d: it exists", name, epoch)
	}
	if epoch <= d.cur.Epoch {
		return nil, fmt.Errorf("create blob %q of epoch %d: epoch %d is complete", name, epoch, d.cur.Epoch)
	}
	d.writing[w.rel] = true
	return w, nil
}

// BlobName makes a file name of any string. It differs for different strings also where upper and lower case are the
// same, and is never a device's name.
func BlobName(name string) string {
	var b strings.Builder
	b.WriteString("b-")
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	if s := b.String(); len(s) > 120 {
		return fmt.Sprintf("%s~%016x", s[:100], xxhash.Sum64String(name)) + blobExt
	}
	return b.String() + blobExt
}

// blobEpoch is the epoch in whose directory a blob lies.
func blobEpoch(file string) (uint64, bool) {
	rest, ok := strings.CutPrefix(file, epochsName+"/")
	dir, _, ok2 := strings.Cut(rest, "/")
	if !ok || !ok2 {
		return 0, false
	}
	return epochOf(dir)
}

// Write implements Writer.
func (w *blobWriter) Write(p []byte) (int, error) {
	if w.ended {
		return 0, fmt.Errorf("write blob %s: it has ended", w.rel)
	}
	w.sum.Write(p)
	w.size += int64(len(p))
	w.buf = append(w.buf, p...)
	if w.f == nil && len(w.buf) <= w.d.o.InlineMax {
		return len(p), nil
	}
	if len(w.buf) < spillBuffer {
		return len(p), nil
	}
	if err := w.flush(); err != nil {
		return 0, err
	}
	return len(p), nil
}

// flush writes the buffer to the file, which it makes if there is none.
func (w *blobWriter) flush() error {
	d := w.d
	if w.f == nil {
		err := w.makeDir()
		if err == nil {
			w.f, err = d.fs.Create(d.path(w.rel))
		}
		if err != nil {
			return d.full(err, w.rel, "make blob")
		}
	}
	if _, err := w.f.Write(w.buf); err != nil {
		return d.full(err, w.rel, "write blob")
	}
	w.buf = w.buf[:0]
	return nil
}

// makeDir makes the directory of the epoch's blobs; Publish syncs it.
func (w *blobWriter) makeDir() error {
	w.d.mu.Lock()
	w.d.dirty[w.epoch] = true
	w.d.mu.Unlock()
	return w.d.fs.Mkdir(w.d.path(blobDir(w.epoch)))
}

// Finish implements Writer.
func (w *blobWriter) Finish() (Blob, error) {
	if w.ended {
		return Blob{}, fmt.Errorf("finish blob %s: it has ended", w.rel)
	}
	b := Blob{Size: w.size, Sum: w.sum.Sum64()}
	if w.f == nil && len(w.buf) <= max(w.d.o.InlineMax, 0) {
		b.Inline = w.buf
		w.end(false)
		return b, nil
	}
	err := w.flush()
	if err == nil {
		err = w.f.Sync()
	}
	if err == nil {
		err = w.f.Close()
	}
	if err != nil {
		w.Abort()
		return Blob{}, w.d.full(err, w.rel, "finish blob")
	}
	w.end(true)
	b.File = w.rel
	return b, nil
}

// Abort implements Writer.
func (w *blobWriter) Abort() {
	if w.ended {
		return
	}
	if w.f != nil {
		_ = w.f.Close() // it is removed
		w.d.remove(w.rel)
	}
	w.end(false)
}

func (w *blobWriter) end(file bool) {
	w.ended, w.buf = true, nil
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	if file && w.d.writing[w.rel] && w.epoch > w.d.cur.Epoch { // else it's too late: no record may name it
		w.d.blobs[w.rel] = w.size
	}
	delete(w.d.writing, w.rel)
}

// ReadBlob implements Blobs.
func (d *Dir) ReadBlob(b Blob) (Reader, error) {
	if b.File == "" {
		if int64(len(b.Inline)) != b.Size {
			return nil, fault.New(fault.DamagedEpoch, "a blob inside the checkpoint has %d bytes instead of %d", len(b.Inline), b.Size)
		}
		return inlineReader{bytes.NewReader(b.Inline)}, nil
	}
	f, err := d.openBlob(b)
	if err != nil {
		return nil, d.unreadable(err, b.File, "blob")
	}
	return blobReader{f, b.Size}, nil
}

func (d *Dir) openBlob(b Blob) (OpenFile, error) {
	if _, ok := blobEpoch(b.File); !ok || !filepath.IsLocal(filepath.FromSlash(b.File)) {
		return nil, fmt.Errorf("%w: not the name of a blob", ErrDamaged)
	}
	f, err := d.fs.Open(d.path(b.File))
	if err != nil {
		return nil, err
	}
	n, err := f.Size()
	if err == nil && n != b.Size {
		err = fmt.Errorf("%w: %d bytes instead of %d", ErrDamaged, n, b.Size)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Verify implements Blobs.
func (d *Dir) Verify(b Blob) error {
	r, err := d.ReadBlob(b)
	if err != nil {
		return err
	}
	var x xxhash.Digest
	x.Reset()
	_, err = io.Copy(&x, io.NewSectionReader(r, 0, r.Size()))
	if err == nil && x.Sum64() != b.Sum {
		err = fmt.Errorf("%w: checksum differs", ErrDamaged)
	}
	if err = errors.Join(err, r.Close()); err == nil {
		return nil
	}
	if b.File == "" {
		return fault.Wrap(fault.DamagedEpoch, err, "verify a blob inside the checkpoint")
	}
	return d.unreadable(err, b.File, "blob")
}

func (d *Dir) checkSize(b Blob) error {
	f, err := d.ReadBlob(b)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return d.unreadable(err, b.File, "blob")
	}
	return nil
}

// all checks every blob of a record.
func (d *Dir) all(r *Record, check func(Blob) error) error {
	for b := range r.Blobs() {
		if err := check(b); err != nil {
			return err
		}
	}
	return nil
}

type inlineReader struct{ *bytes.Reader }

func (inlineReader) Close() error { return nil }

type blobReader struct {
	OpenFile
	size int64
}

func (r blobReader) Size() int64 { return r.size }
