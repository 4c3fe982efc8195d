package store

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/weirline/weirline/internal/fault"
)

// Latest implements Epochs.
func (d *Dir) Latest() (*Record, error) {
	d.pub.Lock()
	defer d.pub.Unlock()
	if err := d.settle(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	cur, bad := d.cur, d.bad
	d.mu.Unlock()
	if bad == nil && cur.Epoch == 0 {
		return nil, nil
	}
	var r *Record
	err := bad
	if err == nil {
		r, _, err = d.readRecord(cur.Epoch, cur.Sum)
	}
	if err == nil {
		err = d.all(r, d.checkSize)
	}
	if err == nil {
		return r, nil
	}
	if lasting(err) {
		d.mu.Lock()
		d.bad = err
		if i := d.find(cur.Epoch); i >= 0 {
			d.known[i].Whole = false
		}
		d.mu.Unlock()
	}
	return nil, d.withOlder(err)
}

// settle finds out which of the unsure epochs is complete. What the pointer says may still be undone by a crash, so it
// is written once more before it is believed.
func (d *Dir) settle() error {
	d.mu.Lock()
	unsure := maps.Clone(d.unsure)
	d.mu.Unlock()
	if len(unsure) == 0 {
		return nil
	}
	if err := d.held(); err != nil {
		return err
	}
	p, err := d.readPointer()
	if err == nil {
		_, err = d.writePointer(p)
	}
	if err != nil {
		return d.full(fmt.Errorf("%w: %w", ErrUnknown, err), pointerName, "settle which checkpoint is the newest")
	}
	if k, ok := unsure[p.Epoch]; ok {
		d.adopt(p, k)
		delete(unsure, p.Epoch)
	}
	d.mu.Lock()
	clear(d.unsure)
	d.mu.Unlock()
	for e := range unsure {
		d.remove(recordPath(e))
	}
	d.sweep(false)
	return nil
}

// withOlder adds to an error about the newest epoch what there is instead.
func (d *Dir) withOlder(err error) error {
	if !lasting(err) {
		return err
	}
	older := "no older checkpoint is whole"
	d.mu.Lock()
	for _, k := range slices.Backward(d.known) {
		if k.Whole && k.Epoch != d.cur.Epoch {
			older = fmt.Sprintf("the newest older one that is whole is checkpoint %d in %s", k.Epoch, d.path(recordPath(k.Epoch)))
			break
		}
	}
	d.mu.Unlock()
	e, ok := errors.AsType[*fault.Error](err)
	if !ok {
		return err
	}
	more := *e
	more.What = e.What + " (" + older + ")"
	return &more
}

// Fallback implements Epochs.
func (d *Dir) Fallback() (*Record, error) {
	d.pub.Lock()
	defer d.pub.Unlock()
	if err := d.settle(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	candidates := slices.Clone(d.known)
	cur, bad := d.cur.Epoch, d.bad
	d.mu.Unlock()
	errs := []error{bad}
	for _, k := range slices.Backward(candidates) {
		if k.Epoch == cur {
			continue
		}
		r, _, err := d.readRecord(k.Epoch, 0)
		if err == nil {
			err = d.all(r, d.Verify)
		}
		d.mu.Lock()
		if i := d.find(k.Epoch); i >= 0 {
			d.known[i].Whole = err == nil
		}
		if err == nil {
			d.bad, d.skip = nil, true
		}
		d.mu.Unlock()
		if err == nil {
			return r, nil
		}
		errs = append(errs, err)
	}
	if cur == 0 && bad == nil {
		return nil, nil
	}
	return nil, fault.Wrap(fault.DamagedEpoch, errors.Join(errs...), "no older checkpoint in %s is whole", d.root).
		WithFix("restore the directory from a copy, or begin anew in an empty one")
}

// Load implements Epochs.
func (d *Dir) Load(epoch uint64) (*Record, error) {
	d.mu.Lock()
	has := d.find(epoch) >= 0
	d.mu.Unlock()
	if !has {
		return nil, fault.New(fault.NoCheckpoint, "%s has no checkpoint %d", d.root, epoch).
			WithFix("choose one of the checkpoints that are listed")
	}
	r, _, err := d.readRecord(epoch, 0)
	if err == nil {
		err = d.all(r, d.checkSize)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}
