package store

import (
	"fmt"
	"maps"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/weirline/weirline/internal/durable"
)

// Publish implements Epochs. It syncs four times (record and its directory, pointer and its directory), and once more
// if the epoch has blobs in files of their own.
func (d *Dir) Publish(rec *Record) error {
	d.pub.Lock()
	defer d.pub.Unlock()
	if err := d.held(); err != nil {
		return err
	}
	r := *rec
	r.Format, r.Job = Format, d.o.Job
	if err := d.admit(&r); err != nil {
		return err
	}
	data, err := EncodeRecord(&r)
	if err != nil {
		return fmt.Errorf("encode record of epoch %d: %w", r.Epoch, err)
	}
	if err := d.writeRecord(&r, data); err != nil {
		d.remove(recordPath(r.Epoch))
		return d.full(err, recordPath(r.Epoch), "write checkpoint %d", r.Epoch)
	}
	k := summary(&r, int64(len(data)))
	p := pointer{Job: r.Job, Epoch: r.Epoch, File: recordPath(r.Epoch), Sum: xxhash.Sum64(data), Kept: d.retain()}
	decided, err := d.writePointer(p)
	switch {
	case err == nil:
		d.adopt(p, k)
		d.sweep(false)
		d.compact()
		return nil
	case decided:
		d.remove(recordPath(r.Epoch))
		return d.full(err, pointerName, "complete checkpoint %d", r.Epoch)
	default:
		d.mu.Lock()
		d.unsure[r.Epoch] = k
		d.mu.Unlock()
		return d.full(fmt.Errorf("%w: %w", ErrUnknown, err), pointerName, "complete checkpoint %d", r.Epoch)
	}
}

// admit checks that a record may be published.
func (d *Dir) admit(r *Record) error {
	d.num.Lock()
	next := d.next
	d.num.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bad != nil {
		return d.bad
	}
	_, again := d.unsure[r.Epoch]
	if r.Epoch <= d.cur.Epoch || r.Epoch >= next && !d.o.New || again {
		return fmt.Errorf("publish epoch %d after %d: not a new number that NextEpoch gave", r.Epoch, d.cur.Epoch)
	}
	old := map[string]bool{}
	for _, k := range d.known {
		for _, f := range k.files {
			old[f] = true
		}
	}
	for b := range r.Blobs() {
		size, fresh := d.blobs[b.File]
		if b.File != "" && !old[b.File] && (!fresh || size != b.Size) {
			return fmt.Errorf("publish epoch %d: blob %s isn't finished", r.Epoch, b.File)
		}
	}
	return nil
}

// writeRecord makes the record and the names of its blobs durable.
func (d *Dir) writeRecord(r *Record, data []byte) error {
	d.mu.Lock()
	dirs := map[uint64]bool{}
	for b := range r.Blobs() {
		if n, ok := blobEpoch(b.File); ok && d.dirty[n] {
			dirs[n] = true
		}
	}
	d.mu.Unlock()
	for _, n := range slices.Sorted(maps.Keys(dirs)) {
		if err := d.fs.SyncDir(d.path(blobDir(n))); err != nil {
			return err
		}
	}
	if err := durable.Replace(d.fs, d.path(recordPath(r.Epoch)), data); err != nil {
		return err
	}
	return d.fs.SyncDir(d.path(epochsName))
}

// writePointer replaces CURRENT. If it returns an error, decided says that CURRENT is what it was.
func (d *Dir) writePointer(p pointer) (decided bool, err error) {
	data, err := durable.Encode(magicPointer, pointerFormat, p)
	if err != nil {
		return true, err
	}
	if err := durable.WriteTemp(d.fs, d.path(pointerName), data); err != nil {
		return true, err
	}
	if err := d.fs.Rename(d.path(pointerName)+durable.TempSuffix, d.path(pointerName)); err != nil {
		return false, err
	}
	return false, d.fs.SyncDir(d.root)
}

// retain lists the complete epochs that stay when another one is complete, rising.
func (d *Dir) retain() []uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	var kept []uint64
	whole := 1
	for _, k := range slices.Backward(d.known) {
		room := d.o.Retain < 0 || whole < d.o.Retain
		if !d.pinned[k.Epoch] && (!room || d.skip && !k.Whole) {
			continue
		}
		if k.Whole {
			whole++
		}
		kept = append(kept, k.Epoch)
	}
	slices.Reverse(kept)
	return kept
}

// adopt makes the epoch k, which the durable pointer p names, the newest one.
func (d *Dir) adopt(p pointer, k known) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cur, d.bad, d.skip = p, nil, false
	d.known = slices.DeleteFunc(d.known, func(o known) bool { return !slices.Contains(p.Kept, o.Epoch) })
	d.known = append(d.known, k)
	maps.DeleteFunc(d.unsure, func(e uint64, _ known) bool { return e <= p.Epoch })
	done := func(epoch uint64) bool { return epoch <= p.Epoch }
	maps.DeleteFunc(d.dirty, func(e uint64, _ bool) bool { return done(e) })
	maps.DeleteFunc(d.blobs, func(file string, _ int64) bool { n, _ := blobEpoch(file); return done(n) })
}

// compact lets go of tokens that nobody can ask for any more. Errors are only logged: the next append mends the file.
func (d *Dir) compact() {
	d.mu.Lock()
	live := map[string]bool{}
	for _, k := range d.known {
		for _, t := range k.tokens {
			live[t] = true
		}
	}
	oldest := d.known[0].Epoch
	d.mu.Unlock()
	if err := d.commits.compact(oldest, live); err != nil {
		d.log.Warn("can't shorten the list of commits", "path", d.path(commitsName), "error", err)
	}
}

// Drop implements Epochs.
func (d *Dir) Drop() error {
	d.pub.Lock()
	defer d.pub.Unlock()
	if err := d.held(); err != nil {
		return err
	}
	none := pointer{Job: d.o.Job}
	if _, err := d.writePointer(none); err != nil {
		return d.full(err, pointerName, "forget all checkpoints")
	}
	d.mu.Lock()
	d.cur, d.known, d.bad, d.skip = none, nil, nil, false
	clear(d.unsure)
	d.mu.Unlock()
	d.sweep(true)
	return nil
}

// Discard implements Epochs.
func (d *Dir) Discard(epoch uint64) {
	d.pub.Lock()
	defer d.pub.Unlock()
	d.mu.Lock()
	_, unsure := d.unsure[epoch]
	if unsure || epoch <= d.cur.Epoch {
		d.mu.Unlock()
		return
	}
	had := d.dirty[epoch]
	delete(d.dirty, epoch)
	of := func(file string) bool { n, _ := blobEpoch(file); return n == epoch }
	maps.DeleteFunc(d.blobs, func(file string, _ int64) bool { return of(file) })
	maps.DeleteFunc(d.writing, func(file string, _ bool) bool { return of(file) })
	d.mu.Unlock()
	if had {
		d.remove(blobDir(epoch))
	}
}
