// Package storetest has a disk in memory that forgets, fails and tears, for tests of whatever keeps epochs.
//
//	disk := storetest.NewDisk()
//	d, err := store.Open("/state", store.Options{Job: "j", FS: disk})
//	disk.FailAt(7, syscall.ENOSPC, false, false) // the seventh operation from now fails once
//	...
//	after := disk.Crash(nil) // what a power failure leaves: synced bytes under synced names
//	d, err = store.Open("/state", store.Options{Job: "j", FS: after})
//
// A Disk may be used from any goroutine and never blocks. Crash and Kill return a new disk; the process that used the old
// one may go on with it without any effect on the new one. The parent of the state directory is always there.
package storetest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/weirline/weirline/engine/store"
)

// Disk is a store.FS. Make it with NewDisk.
type Disk struct {
	mu     sync.Mutex
	root   *node
	locked map[*node]bool
	ops    int

	failAt  int // 0 = never
	failure error
	applied bool
	dead    bool // everything after failAt fails as well
}

// node is a file or a directory. For each the state that everybody sees is apart from the state that is safe.
type node struct {
	data, safe []byte // of a file

	dir     bool
	entries map[string]*node
	durable map[string]*node
	pending []map[string]*node // changes of names not yet durable, in order; nil = removed
}

// NewDisk returns an empty disk.
func NewDisk() *Disk { return &Disk{root: newDir(), locked: map[*node]bool{}} }

func newDir() *node {
	return &node{dir: true, entries: map[string]*node{}, durable: map[string]*node{}}
}

// change names in a directory in one step.
func (n *node) change(names map[string]*node) {
	apply(n.entries, names)
	n.pending = append(n.pending, names)
}

func apply(to, names map[string]*node) {
	for name, f := range names {
		if f == nil {
			delete(to, name)
		} else {
			to[name] = f
		}
	}
}

// FailAt makes the n-th operation from now fail with err. Applied says whether it takes effect all the same; a write
// that isn't applied leaves half of its bytes. Dead says whether every later operation fails too. n = 0 ends all failing.
func (d *Disk) FailAt(n int, err error, applied, dead bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failAt, d.failure, d.applied, d.dead = 0, err, applied, dead
	if n > 0 {
		d.failAt = d.ops + n
	}
}

// Ops is how many operations there were: all but reads and closing.
func (d *Disk) Ops() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops
}

// begin counts an operation. With an error, act says whether it takes effect. The caller holds mu.
func (d *Disk) begin() (act bool, err error) {
	d.ops++
	switch {
	case d.failAt == 0 || d.ops < d.failAt:
		return true, nil
	case d.ops == d.failAt:
		return d.applied, d.failure
	case d.dead:
		return false, d.failure
	}
	return true, nil
}

// do runs an operation that takes effect as a whole or not at all.
func (d *Disk) do(op string, name string, f func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	act, failure := d.begin()
	var err error
	if act {
		err = f()
	}
	if failure != nil {
		err = failure
	}
	if err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

// find walks to a name; nil if there is none.
func (d *Disk) find(name string) *node {
	name = filepath.Clean(name)
	if filepath.Dir(name) == name {
		return d.root
	}
	up := d.find(filepath.Dir(name))
	if up == nil || !up.dir {
		return nil
	}
	return up.entries[filepath.Base(name)]
}

func (d *Disk) parent(name string) (*node, error) {
	up := d.find(filepath.Dir(filepath.Clean(name)))
	if up == nil || !up.dir {
		return nil, fs.ErrNotExist
	}
	return up, nil
}

// Mkdir implements store.FS.
func (d *Disk) Mkdir(name string) error {
	return d.do("mkdir", name, func() error {
		up, err := d.parent(name)
		if err != nil {
			return err
		}
		switch n := d.find(name); {
		case n == nil:
			up.change(map[string]*node{filepath.Base(name): newDir()})
		case !n.dir:
			return fs.ErrExist
		}
		return nil
	})
}

// Open implements store.FS.
func (d *Disk) Open(name string) (store.OpenFile, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.find(name)
	if n == nil || n.dir {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &file{d: d, n: n, name: name}, nil
}

// Create implements store.FS.
func (d *Disk) Create(name string) (store.OpenFile, error) {
	f := &file{d: d, name: name}
	err := d.do("create", name, func() (err error) {
		f.n, err = d.make(name)
		if err == nil {
			f.n.data = nil
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// make finds a file or makes it.
func (d *Disk) make(name string) (*node, error) {
	up, err := d.parent(name)
	if err != nil {
		return nil, err
	}
	n := d.find(name)
	if n == nil {
		n = &node{}
		up.change(map[string]*node{filepath.Base(name): n})
	}
	if n.dir {
		return nil, fs.ErrExist
	}
	return n, nil
}

// Append implements store.FS.
func (d *Disk) Append(name string) (store.OpenFile, error) { return d.Open(name) }

// Link implements store.FS. A name whose directory isn't on the disk is one of the operating system: from or to there it
// copies.
func (d *Disk) Link(from, to string) error {
	return d.do("link", to, func() error {
		n := d.find(from)
		if n == nil {
			data, err := os.ReadFile(from)
			if err != nil {
				return err
			}
			n = &node{data: data}
		}
		up, err := d.parent(to)
		switch {
		case err != nil:
			return writeNew(to, n.data)
		case d.find(to) != nil:
			return fs.ErrExist
		default:
			up.change(map[string]*node{filepath.Base(to): n})
			return nil
		}
	})
}

func writeNew(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// Rename implements store.FS.
func (d *Disk) Rename(from, to string) error {
	return d.do("rename", from, func() error {
		up, err := d.parent(from)
		if err != nil {
			return err
		}
		n := d.find(from)
		if n == nil {
			return fs.ErrNotExist
		}
		up.change(map[string]*node{filepath.Base(from): nil, filepath.Base(to): n})
		return nil
	})
}

// Remove implements store.FS.
func (d *Disk) Remove(name string) error {
	return d.do("remove", name, func() error {
		n := d.find(name)
		if n == nil {
			return nil
		}
		for _, e := range slices.Sorted(maps.Keys(n.entries)) {
			n.change(map[string]*node{e: nil})
		}
		up, err := d.parent(name)
		if err == nil {
			up.change(map[string]*node{filepath.Base(name): nil})
		}
		return err
	})
}

// List implements store.FS.
func (d *Disk) List(dir string) ([]fs.DirEntry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.find(dir)
	if n == nil || !n.dir {
		return nil, &fs.PathError{Op: "list", Path: dir, Err: fs.ErrNotExist}
	}
	var out []fs.DirEntry
	for _, name := range slices.Sorted(maps.Keys(n.entries)) {
		out = append(out, entry{name, n.entries[name].dir})
	}
	return out, nil
}

// SyncDir implements store.FS.
func (d *Disk) SyncDir(dir string) error {
	return d.do("sync", dir, func() error {
		n := d.find(dir)
		if n == nil || !n.dir {
			return fs.ErrNotExist
		}
		n.durable, n.pending = maps.Clone(n.entries), nil
		return nil
	})
}

// Lock implements store.FS.
func (d *Disk) Lock(name string) (store.Claim, error) {
	c := &claim{file{d: d, name: name}}
	err := d.do("lock", name, func() (err error) {
		if c.n, err = d.make(name); err != nil {
			return err
		}
		if d.locked[c.n] {
			return store.ErrLocked
		}
		d.locked[c.n] = true
		return nil
	})
	if err == nil {
		return c, nil
	}
	if !errors.Is(err, store.ErrLocked) {
		_ = c.Close() // a lock nobody can give back would be held for ever
	}
	return nil, err
}

type file struct {
	d    *Disk
	n    *node
	name string
}

func (f *file) ReadAt(p []byte, at int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return bytes.NewReader(f.n.data).ReadAt(p, at)
}

func (f *file) Write(p []byte) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	act, err := f.d.begin()
	n := len(p)
	if err != nil && !act {
		n = 0
		if f.d.ops == f.d.failAt {
			n = len(p) / 2
		}
	}
	// Never in place: what is safe may share the old bytes.
	f.n.data = slices.Concat(f.n.data, p[:n])
	if err != nil {
		return n, &fs.PathError{Op: "write", Path: f.name, Err: err}
	}
	return n, nil
}

func (f *file) Sync() error {
	return f.d.do("sync", f.name, func() error {
		f.n.safe = f.n.data
		return nil
	})
}

func (f *file) Size() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return int64(len(f.n.data)), nil
}

func (f *file) Close() error { return nil }

type claim struct{ file }

func (c *claim) Replace(content []byte) error {
	return c.d.do("write", c.name, func() error {
		c.n.data = bytes.Clone(content)
		return nil
	})
}

func (c *claim) Close() error {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	delete(c.d.locked, c.n)
	return nil
}

type entry struct {
	name string
	dir  bool
}

func (e entry) Name() string               { return e.name }
func (e entry) IsDir() bool                { return e.dir }
func (e entry) Info() (fs.FileInfo, error) { return info{e}, nil }
func (e entry) Type() fs.FileMode {
	if e.dir {
		return fs.ModeDir
	}
	return 0
}

type info struct{ entry }

func (i info) Size() int64        { return 0 }
func (i info) Mode() fs.FileMode  { return i.Type() }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) Sys() any           { return nil }

var (
	_ store.FS    = (*Disk)(nil)
	_ store.Claim = (*claim)(nil)
	_ io.ReaderAt = (*file)(nil)
)
