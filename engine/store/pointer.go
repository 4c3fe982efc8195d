package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/weirline/weirline/internal/durable"
	"github.com/weirline/weirline/internal/fault"
)

const (
	pointerName = "CURRENT"
	numbersName = "numbers"
	grantsName  = "grants"
	commitsName = "commits"
	epochsName  = "epochs"
	recordExt   = ".epoch"
	blobExt     = ".blob"

	pointerFormat = 1
	numbersFormat = 1
)

// pointer is the content of CURRENT. Epoch 0 says that no epoch is complete yet; the file is there from the start, so a
// missing one is damage.
type pointer struct {
	Job   string   `cbor:"1,keyasint"`
	Epoch uint64   `cbor:"2,keyasint"`
	File  string   `cbor:"3,keyasint"` // of the record, relative to the root
	Sum   uint64   `cbor:"4,keyasint"` // xxhash64 of that whole file
	Kept  []uint64 `cbor:"5,keyasint"` // older complete epochs that are retained, rising
}

func decodePointer(data []byte) (pointer, error) {
	var p pointer
	if err := durable.Decode(magicPointer, pointerFormat, data, &p); err != nil {
		return pointer{}, err
	}
	if p.Epoch != 0 && p.File != recordPath(p.Epoch) {
		return pointer{}, fmt.Errorf("%w: epoch %d is said to be in %q", ErrDamaged, p.Epoch, p.File)
	}
	last := uint64(0)
	for _, k := range p.Kept {
		if k <= last || k >= p.Epoch {
			return pointer{}, fmt.Errorf("%w: retained epochs %d", ErrDamaged, p.Kept)
		}
		last = k
	}
	return p, nil
}

// numbers is the content of the file of that name.
type numbers struct {
	Job   string `cbor:"1,keyasint"`
	Below uint64 `cbor:"2,keyasint"` // every number handed out is below this
}

func decodeNumbers(data []byte) (numbers, error) {
	var n numbers
	if err := durable.Decode(magicNumbers, numbersFormat, data, &n); err != nil {
		return numbers{}, err
	}
	return n, nil
}

// recordPath and blobDir are relative to the root, with slashes.
func recordPath(epoch uint64) string { return blobDir(epoch) + recordExt }
func blobDir(epoch uint64) string    { return fmt.Sprintf("%s/%020d", epochsName, epoch) }

// epochOf is the number in the name of a record or of a directory of blobs.
func epochOf(name string) (uint64, bool) {
	digits := strings.TrimSuffix(name, recordExt)
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && len(digits) == 20 && n > 0
}

func (d *Dir) path(rel string) string { return filepath.Join(d.root, filepath.FromSlash(rel)) }

// full is the error of something that couldn't be written.
func (d *Dir) full(err error, rel, what string, args ...any) error {
	if fault.CodeOf(err) != "" {
		return err
	}
	return fault.Wrap(fault.StoreFull, err, "%s at %s", fmt.Sprintf(what, args...), d.path(rel))
}

// unreadable is the error of something that couldn't be read: damage, a newer version, or the file system's refusal.
func (d *Dir) unreadable(err error, rel, what string) error {
	switch newer, isNewer := errors.AsType[*NewerError](err); {
	case fault.CodeOf(err) != "":
		return err
	case isNewer:
		return fault.New(fault.NewerFormat, "%s %s has %s", what, d.path(rel), newer)
	case errors.Is(err, ErrDamaged) || errors.Is(err, fs.ErrNotExist):
		return fault.Wrap(fault.DamagedEpoch, err, "read %s %s", what, d.path(rel))
	default:
		return fault.Wrap(fault.StateDir, err, "read %s %s", what, d.path(rel))
	}
}

func (d *Dir) readPointer() (pointer, error) {
	data, err := durable.ReadFile(d.fs, d.path(pointerName))
	if err != nil {
		return pointer{}, err
	}
	return decodePointer(data)
}

// readRecord reads the record of an epoch and what the store remembers of it. Sum is that of the file; 0 = not known.
func (d *Dir) readRecord(epoch, sum uint64) (*Record, known, error) {
	k := known{Info: Info{Epoch: epoch}}
	rel := recordPath(epoch)
	data, err := durable.ReadFile(d.fs, d.path(rel))
	if err == nil && sum != 0 && xxhash.Sum64(data) != sum {
		// An intact frame of a newer version would differ as well, so damage it is.
		err = fmt.Errorf("%w: it isn't the file that %s names", ErrDamaged, pointerName)
	}
	var r *Record
	if err == nil {
		r, err = DecodeRecord(data)
	}
	if err == nil && (r.Epoch != epoch || r.Job != d.o.Job) {
		err = fmt.Errorf("%w: it has epoch %d of job %q", ErrDamaged, r.Epoch, r.Job)
	}
	if err != nil {
		return nil, k, d.unreadable(err, rel, "checkpoint")
	}
	return r, summary(r, int64(len(data))), nil
}

// summary is what the store remembers of a record whose file has size bytes.
func summary(r *Record, size int64) known {
	k := known{Info: Info{Epoch: r.Epoch, Taken: r.Taken, Size: size, End: r.End, Whole: true}}
	for b := range r.Blobs() {
		if b.File != "" {
			k.files = append(k.files, b.File)
			k.Size += b.Size
		}
	}
	for _, h := range r.Handles {
		k.tokens = append(k.tokens, h.Token)
	}
	return k
}
