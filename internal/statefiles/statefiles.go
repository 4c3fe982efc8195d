// Package statefiles keeps the disks behind the keyed state of a job's tasks: it makes their working directories, brings the
// files of a checkpoint there, and gives the store the files that a new checkpoint has more than the one before.
//
//	w, err := statefiles.Open(backend, store, dir, job, exclusive) // once a run
//	d, err := w.Disk(scope, operator, keyGroups)                   // for each task of each operator, before it declares state
//	n, err := d.Link(epoch, name, snapshot, &task)                 // by whoever writes a checkpoint
//	d.Complete(epoch)                                              // by the task, when the checkpoint is complete
//	d.Leave()                                                      // when the task has ended: what is being written may fail
//	d.Close()                                                      // when nothing uses the disk any more
//	err = w.Close()
//
// A file that a complete epoch names is named again, not stored again: the store keeps it as long as some retained epoch
// names it.
package statefiles

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/state"
)

// Work is the directory of one run of a job.
type Work struct {
	backend state.Backend // nil: all state is in memory
	store   store.Blobs
	dir     string
	n       atomic.Int64
	closing sync.WaitGroup // disks
}

// Open makes the directory, below the backend's or dir. With exclusive nobody else runs the job there, and what a process
// that died has left goes. Without a backend it does nothing.
func Open(b state.Backend, st store.Blobs, dir, job string, exclusive bool) (w *Work, err error) {
	w = &Work{backend: b, store: st}
	if b == nil {
		return w, nil
	}
	if dir = cmp.Or(b.Dir(), dir); exclusive && dir != "" {
		w.dir = filepath.Join(dir, job+".work")
		err = errors.Join(os.RemoveAll(w.dir), os.MkdirAll(w.dir, 0o700))
	} else {
		w.dir, err = os.MkdirTemp(dir, "weirline-"+job+"-")
	}
	if err != nil {
		return nil, fault.Wrap(fault.StateDir, err, "make a working directory for the state")
	}
	return w, nil
}

// Close removes the directory when all disks are closed.
func (w *Work) Close() error {
	w.closing.Wait()
	if w.dir == "" {
		return nil
	}
	return os.RemoveAll(w.dir)
}

func (w *Work) next() string { return filepath.Join(w.dir, strconv.FormatInt(w.n.Add(1), 10)) }

// Scope is a state.Scope without its type.
type Scope interface {
	Groups() (first, last int)
	UseDisk(d state.Disk) error
	Leave()
	Import(from state.Disk) error
	Stats() state.Stats
}

// Disk is the disk behind one operator's keyed state in one task.
type Disk struct {
	w     *Work
	scope Scope
	dir   string
	disk  state.Disk

	mu    sync.Mutex
	base  map[string]store.Blob            // files of the newest complete epoch, by name
	taken map[uint64]map[string]store.Blob // of epochs that aren't complete yet
}

// Disk puts a disk behind a scope, with what old has for its key groups, of groups in all. The files of the old task that
// had most of them are opened as they are, and nothing in them is read before it's used; from those of others the key groups
// are copied. Without a backend the Disk is nil.
func (w *Work) Disk(s Scope, old store.Operator, groups int) (*Disk, error) {
	olds, err := w.shares(s, old, groups)
	if err != nil || w.backend == nil {
		return nil, err
	}
	d := &Disk{w: w, scope: s, dir: w.next(), base: map[string]store.Blob{}, taken: map[uint64]map[string]store.Blob{}}
	var first []store.File
	if len(olds) > 0 {
		first, olds = olds[0].Files, olds[1:]
	}
	for _, f := range first {
		d.base[f.Name] = f.Blob
	}
	if d.disk, err = w.open(d.dir, first); err != nil {
		return nil, err
	}
	if err = s.UseDisk(d.disk); err == nil {
		err = w.copyAll(s, olds)
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (w *Work) copyAll(s Scope, olds []store.Task) error {
	for _, o := range olds {
		dir := w.next()
		from, err := w.open(dir, o.Files)
		if err == nil {
			err = errors.Join(s.Import(from), from.Close())
		}
		if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
			return err
		}
	}
	return nil
}

// shares are the old tasks that have some of the scope's key groups in files of the backend, the one with most of them first.
func (w *Work) shares(s Scope, old store.Operator, groups int) (olds []store.Task, err error) {
	first, last := s.Groups()
	most := 0
	for _, o := range old.Tasks {
		lo, hi := state.Range(o.Index, old.Parallelism, groups)
		shared := min(hi, last) - max(lo, first) + 1
		if o.Backend == "" || shared <= 0 {
			continue
		}
		now := "memory"
		if w.backend != nil {
			now = w.backend.Name()
		}
		if now != o.Backend {
			return nil, fault.New(fault.OtherBackend, "the checkpoint's state is in files of backend %q, the job keeps state in %q", o.Backend, now)
		}
		if olds = append(olds, o); shared > most {
			most = shared
			olds[0], olds[len(olds)-1] = olds[len(olds)-1], olds[0]
		}
	}
	return olds, nil
}

// open opens a disk in a new directory with some files.
func (w *Work) open(dir string, files []store.File) (state.Disk, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fault.Wrap(fault.StateDir, err, "make a working directory for the state")
	}
	for _, f := range files {
		if err := w.store.Fetch(f.Blob, filepath.Join(dir, filepath.Base(f.Name))); err != nil {
			return nil, err
		}
	}
	d, err := w.backend.Open(dir)
	switch {
	case err == nil || fault.CodeOf(err) != "":
		return d, err
	case len(files) > 0:
		return nil, fault.Wrap(fault.DamagedEpoch, err, "open the state's files, of which one is %s", files[0].Blob.File)
	}
	return nil, fault.Wrap(fault.StateDir, err, "open a disk for state")
}

// Link adds the files of a snapshot to what a task stores: new ones go into the store under name, others are named again.
// It returns the bytes of those that are new.
func (d *Disk) Link(epoch uint64, name string, snap *state.Snapshot, into *store.Task) (added int64, err error) {
	dir := d.w.next()
	defer os.RemoveAll(dir)
	if err := snap.Checkpoint(dir); err != nil {
		return 0, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, fault.Wrap(fault.StateDir, err, "list the state's files")
	}
	d.mu.Lock()
	base := d.base
	d.mu.Unlock()
	taken := map[string]store.Blob{}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return 0, fault.Wrap(fault.StateDir, err, "look at the state's files")
		}
		b, known := base[e.Name()]
		if !known || b.Size != info.Size() {
			if b, err = d.w.store.Adopt(epoch, fmt.Sprintf("%s-%s", name, e.Name()), filepath.Join(dir, e.Name())); err != nil {
				return 0, err
			}
			added += b.Size
		}
		taken[e.Name()] = b
		into.Files = append(into.Files, store.File{Name: e.Name(), Blob: b})
	}
	into.Backend = d.w.backend.Name()
	d.mu.Lock()
	d.taken[epoch] = taken
	d.mu.Unlock()
	return added, nil
}

// Complete lets later epochs name the files of one that is complete.
func (d *Disk) Complete(epoch uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if files := d.taken[epoch]; files != nil {
		d.base = files
	}
	for e := range d.taken {
		if e <= epoch {
			delete(d.taken, e)
		}
	}
}

// Stats are those of the scope. Any goroutine.
func (d *Disk) Stats() state.Stats { return d.scope.Stats() }

// Leave lets what is being written of the disk fail soon. Any goroutine.
func (d *Disk) Leave() { d.scope.Leave() }

// Close closes the disk and removes its directory, in the background: the task that follows has a directory of its own.
// What stays because of an error goes with the directory of the run.
func (d *Disk) Close() {
	d.w.closing.Go(func() {
		_ = d.disk.Close()
		_ = os.RemoveAll(d.dir)
	})
}
