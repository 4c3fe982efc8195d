package savepoint

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
)

// Import makes rec, an epoch of from, the newest epoch of to, under a number it sets in rec: one larger than rec's was, and than
// all of to. Blobs are copied and their checksums verified, unless from is to itself. After an error to is as before,
// unless that is store.ErrUnknown.
func Import(to, from store.Store, rec *store.Record) error {
	n, err := to.NextEpoch()
	for err == nil && n <= rec.Epoch { // only if to is younger than from; a thousand cost one write
		n, err = to.NextEpoch()
	}
	if err != nil {
		return err
	}
	copied := *rec
	if to != from {
		err = copyBlobs(to, from, n, &copied)
	}
	if err == nil {
		copied.Epoch = n
		err = to.Publish(&copied)
	}
	if err != nil && !errors.Is(err, store.ErrUnknown) {
		to.Discard(n)
	}
	if err == nil {
		*rec = copied
	}
	return err
}

// copyBlobs makes rec name copies of its blobs; the slices and maps of the original stay as they are.
func copyBlobs(to, from store.Store, epoch uint64, rec *store.Record) (err error) {
	made := map[string]store.Blob{} // files that several tasks share
	copied := func(b store.Blob) (store.Blob, error) {
		if old, ok := made[b.File]; ok && b.File != "" {
			return old, nil
		}
		b2, err := copyBlob(to, from, epoch, strconv.Itoa(len(made)), b)
		made[cmp.Or(b.File, fmt.Sprint("inline ", len(made)))] = b2
		return b2, err
	}
	ops := make(map[string]store.Operator, len(rec.Operators))
	for name, op := range rec.Operators {
		op.Tasks = append([]store.Task(nil), op.Tasks...)
		for i := range op.Tasks {
			t := &op.Tasks[i]
			if t.Keyed != nil {
				b, err := copied(*t.Keyed)
				if err != nil {
					return err
				}
				t.Keyed = &b
			}
			t.Files = append([]store.File(nil), t.Files...)
			for k := range t.Files {
				if t.Files[k].Blob, err = copied(t.Files[k].Blob); err != nil {
					return err
				}
			}
		}
		ops[name] = op
	}
	rec.Operators = ops
	rec.InFlight = append([]store.Flight(nil), rec.InFlight...)
	for i := range rec.InFlight {
		if rec.InFlight[i].Blob, err = copied(rec.InFlight[i].Blob); err != nil {
			return err
		}
	}
	return nil
}

func copyBlob(to, from store.Store, epoch uint64, name string, b store.Blob) (store.Blob, error) {
	r, err := from.ReadBlob(b)
	if err != nil {
		return store.Blob{}, err
	}
	defer r.Close()
	w, err := to.Create(epoch, name)
	if err != nil {
		return store.Blob{}, err
	}
	defer w.Abort()
	if _, err := io.Copy(w, io.NewSectionReader(r, 0, r.Size())); err != nil {
		return store.Blob{}, err
	}
	made, err := w.Finish()
	if err == nil && made.Sum != b.Sum {
		err = cmp.Or(from.Verify(b), error(fault.New(fault.DamagedEpoch, "blob %s of epoch %d changed while it was read", b.File, epoch)))
	}
	return made, err
}
