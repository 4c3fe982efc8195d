package store

import (
	"io"
	"os"

	"github.com/weirline/weirline/internal/fault"
)

// Adopt implements Blobs. Small files too get a file of their own: what epochs may share isn't stored with each of them.
func (d *Dir) Adopt(epoch uint64, name, path string) (Blob, error) {
	created, err := d.Create(epoch, name)
	if err != nil {
		return Blob{}, err
	}
	w := created.(*blobWriter)
	if err := w.link(path); err != nil {
		d.remove(w.rel) // only the name: it may be the caller's file
		w.Abort()
		return Blob{}, d.full(err, w.rel, "take file %s", path)
	}
	return w.Finish()
}

// link makes a file the blob's and leaves it open for Finish to sync.
func (w *blobWriter) link(path string) error {
	err := w.makeDir()
	if err == nil {
		err = w.d.fs.Link(path, w.d.path(w.rel))
	}
	if err == nil {
		w.f, err = w.d.fs.Append(w.d.path(w.rel))
	}
	if err == nil {
		w.size, err = w.f.Size()
	}
	if err == nil {
		_, err = io.Copy(&w.sum, io.NewSectionReader(w.f, 0, w.size))
	}
	return err
}

// Fetch implements Blobs.
func (d *Dir) Fetch(b Blob, path string) error {
	if err := d.checkSize(b); err != nil {
		return err
	}
	var err error
	if b.File == "" {
		err = os.WriteFile(path, b.Inline, 0o600)
	} else {
		err = d.fs.Link(d.path(b.File), path)
	}
	if err != nil {
		return fault.Wrap(fault.StoreFull, err, "bring a blob to %s", path)
	}
	return nil
}
