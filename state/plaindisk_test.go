package state

import (
	"bytes"
	"encoding/gob"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// sorted is a Backend as simple as can be: a sorted slice.
type sorted struct {
	room int64
	fail *failure
}

// failure makes a disk fail after some calls.
type failure struct {
	left int
	on   bool
}

var errDisk = errors.New("planted")

func (f *failure) hit() error {
	if f == nil || !f.on {
		return nil
	}
	if f.left--; f.left > 0 {
		return nil
	}
	return errDisk
}

type pair struct{ K, V []byte }

type plainDisk struct {
	sorted
	mu  sync.Mutex
	all []pair
}

func (p sorted) Name() string { return "sorted" }
func (p sorted) Dir() string  { return "" }

func (p sorted) Open(dir string) (Disk, error) {
	d := &plainDisk{sorted: p}
	b, err := os.ReadFile(filepath.Join(dir, "all"))
	if errors.Is(err, os.ErrNotExist) {
		return d, nil
	}
	if err == nil {
		err = gob.NewDecoder(bytes.NewReader(b)).Decode(&d.all)
	}
	return d, err
}

func (d *plainDisk) find(k []byte) (int, bool) {
	return slices.BinarySearchFunc(d.all, k, func(p pair, k []byte) int { return bytes.Compare(p.K, k) })
}

func (d *plainDisk) Get(key, dst []byte) ([]byte, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fail.hit(); err != nil {
		return nil, false, err
	}
	if i, ok := d.find(key); ok {
		return append(dst, d.all[i].V...), true, nil
	}
	return dst, false, nil
}

func (d *plainDisk) Scan(from, to []byte, f func(key, value []byte) bool) error {
	d.mu.Lock()
	all := slices.Clone(d.all)
	i, _ := d.find(from)
	err := d.fail.hit()
	d.mu.Unlock()
	for ; err == nil && i < len(all) && bytes.Compare(all[i].K, to) < 0; i++ {
		if !f(bytes.Clone(all[i].K), bytes.Clone(all[i].V)) {
			break
		}
	}
	return err
}

func (d *plainDisk) Snapshot() (View, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &plainDisk{all: slices.Clone(d.all)}, d.fail.hit()
}

func (d *plainDisk) Checkpoint(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var b bytes.Buffer
	if err := errors.Join(d.fail.hit(), gob.NewEncoder(&b).Encode(d.all), os.Mkdir(dir, 0o755)); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "all"), b.Bytes(), 0o644)
}

func (d *plainDisk) Replace(from, to []byte, fill func(set func(key, value []byte) error) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var with []pair
	err := fill(func(k, v []byte) error {
		if n := len(with); bytes.Compare(k, from) < 0 || bytes.Compare(k, to) >= 0 || n > 0 && bytes.Compare(k, with[n-1].K) <= 0 {
			return errors.New("keys out of order")
		}
		with = append(with, pair{bytes.Clone(k), bytes.Clone(v)})
		return nil
	})
	if err = errors.Join(err, d.fail.hit()); err != nil {
		return err
	}
	i, _ := d.find(from)
	j, _ := d.find(to)
	d.all = slices.Replace(d.all, i, j, with...)
	return nil
}

func (d *plainDisk) Size() int64  { return 0 }
func (d *plainDisk) Room() int64  { return d.room }
func (d *plainDisk) Close() error { return nil }
func (d *plainDisk) Batch() Batch { return &plainBatch{d: d} }

type plainBatch struct {
	d     *plainDisk
	todo  []func()
	size  int
	ended bool
}

func (b *plainBatch) add(n int, f func()) error {
	if b.ended {
		return errors.New("the batch has ended")
	}
	b.size += n
	b.todo = append(b.todo, f)
	return nil
}

func (b *plainBatch) Set(k, v []byte) error {
	d, k, v := b.d, bytes.Clone(k), bytes.Clone(v)
	return b.add(len(k)+len(v), func() {
		i, ok := d.find(k)
		if !ok {
			d.all = slices.Insert(d.all, i, pair{})
		}
		d.all[i] = pair{k, v}
	})
}

func (b *plainBatch) Delete(k []byte) error {
	d, k := b.d, bytes.Clone(k)
	return b.add(len(k), func() {
		if i, ok := d.find(k); ok {
			d.all = slices.Delete(d.all, i, i+1)
		}
	})
}

func (b *plainBatch) DeleteRange(from, to []byte) error {
	d, from, to := b.d, bytes.Clone(from), bytes.Clone(to)
	return b.add(len(from), func() {
		i, _ := d.find(from)
		j, _ := d.find(to)
		if i < j {
			d.all = slices.Delete(d.all, i, j)
		}
	})
}

func (b *plainBatch) Size() int { return b.size }

func (b *plainBatch) Commit() error {
	b.d.mu.Lock()
	defer b.d.mu.Unlock()
	if err := b.d.fail.hit(); err != nil || b.ended {
		return errors.Join(err, b.add(0, nil))
	}
	b.ended = true
	for _, f := range b.todo {
		f()
	}
	return nil
}

func (b *plainBatch) Discard() { b.ended = true }
