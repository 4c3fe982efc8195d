package store

import (
	"cmp"
	"errors"
	"io"
	"strconv"
)

// Import makes rec, an epoch of from, the newest epoch of to: under the number it sets in rec, with all blobs copied and
// their checksums verified, unless from is to itself. After an error to is as before, unless that is ErrUnknown. It waits
// for the disk.
func Import(to, from Store, rec *Record) error {
	n, err := to.NextEpoch()
	if err != nil {
		return err
	}
	i := 0
	for b := range rec.blobs() {
		if to == from {
			break
		}
		if err := copyBlob(to, from, n, strconv.Itoa(i), b); err != nil {
			to.Discard(n)
			return err
		}
		i++
	}
	rec.Epoch = n
	if err = to.Publish(rec); err != nil && !errors.Is(err, ErrUnknown) {
		to.Discard(n)
	}
	return err
}

// copyBlob makes b name its copy.
func copyBlob(to, from Store, epoch uint64, name string, b *Blob) error {
	r, err := from.ReadBlob(*b)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := to.Create(epoch, name)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := io.Copy(w, io.NewSectionReader(r, 0, r.Size())); err != nil {
		return err
	}
	made, err := w.Finish()
	if err == nil && made.Sum != b.Sum {
		return cmp.Or(from.Verify(*b), errDamaged)
	}
	*b = made
	return err
}
