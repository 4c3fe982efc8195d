// Package pebble keeps keyed state that is larger than memory on the local disk, in Pebble, an embedded LSM tree. Give it to
// a job:
//
//	engine.Config{Dir: "state", State: pebble.New(pebble.Options{})}
//
// The tables of package state stay in front of it and hold what is used most; they ask this package for what they lack, and
// write back what they evict. A checkpoint names the files of the tree that earlier checkpoints named already, and adds the
// new ones: what it costs depends on what has changed, not on what there is.
//
// # Who calls what
//
// The engine calls Open for each task of each operator with keyed state, in a directory of its own, which holds links to the
// files of a checkpoint after a restore. The task reads and writes; the goroutine that writes a checkpoint commits batches
// and calls Checkpoint. Nothing is synced but the files of a checkpoint: what is newer is lost with the process, and comes
// again from the input. Get, Commit and Checkpoint wait for the disk. A Backend is one value for all tasks of all jobs in a
// process; they share its caches.
package pebble

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/state"
)

// Options of a Backend. The zero value is good for states of some tens of gigabytes.
type Options struct {
	// Room is how many bytes of state all tasks together keep in memory as entries of their tables. A key with its value
	// takes about twice its size. 0 = 256 MiB, negative = as little as possible.
	Room int64

	// BlockCache is how many bytes of the files all tasks together keep in memory. 0 = 64 MiB, negative = none.
	BlockCache int64

	// MemTable is how many bytes each task collects before it writes a file, of which up to four wait. 0 = 16 MiB.
	MemTable int64

	// Dir is where the tasks' working directories are made: on the file system of the state directory, or files are copied
	// instead of linked. "" = below the state directory.
	Dir string
}

// Backend is a state.Backend.
type Backend struct {
	o      Options
	blocks *pebble.Cache // lives as long as the process
	open   atomic.Int64  // disks

	mu     sync.Mutex
	closed []func() // each gives the cache what the tables in memory of a disk that isn't open would take of it
}

var _ state.Backend = (*Backend)(nil)

// New makes a Backend; give the same one to all jobs of a process.
func New(o Options) *Backend {
	o.Room = cmp.Or(o.Room, 256<<20)
	o.BlockCache = max(0, cmp.Or(o.BlockCache, 64<<20))
	o.MemTable = max(256<<10, cmp.Or(o.MemTable, 16<<20))
	b := &Backend{o: o, blocks: pebble.NewCache(o.BlockCache + maxDisks*int64(o.tables()))}
	for range maxDisks {
		b.closed = append(b.closed, b.blocks.Reserve(o.tables()))
	}
	return b
}

// The library takes the tables that a disk collects changes in out of the cache. A few disks would leave nothing for blocks,
// and each lookup would read and check a whole filter: so the cache grows with each disk that is opened.

// maxDisks is up to how many.
const maxDisks = 64

// tables is what a disk takes: one table is filled, one is written.
func (o Options) tables() int { return int(2 * o.MemTable) }

// grow makes room in the cache for the tables of a disk.
func (b *Backend) grow() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.closed); n > 0 {
		b.closed[n-1]()
		b.closed = b.closed[:n-1]
	}
}

// shrink undoes grow.
func (b *Backend) shrink() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.closed) < maxDisks {
		b.closed = append(b.closed, b.blocks.Reserve(b.o.tables()))
	}
}

// Name implements state.Backend.
func (b *Backend) Name() string { return "pebble" }

// Dir implements state.Backend.
func (b *Backend) Dir() string { return b.o.Dir }

const (
	// format is what files are written in. A newer one would keep older binaries from reading them.
	format = pebble.FormatColumnarBlocks

	// sublevels is how many files that overlap may lie side by side before they are merged with all below them, which a
	// checkpoint pays for. Each costs a lookup that misses the tables the look at a filter.
	sublevels = 24
)

// Open implements state.Backend.
func (b *Backend) Open(dir string) (state.Disk, error) {
	d := &disk{b: b, dir: dir, failed: make(chan struct{})}
	d.o = &pebble.Options{
		Cache: b.blocks, DisableWAL: true, FormatMajorVersion: format, MemTableSize: uint64(b.o.MemTable), MemTableStopWritesThreshold: 4,
		L0CompactionThreshold: 2 * sublevels, L0StopWritesThreshold: 10 * sublevels, L0CompactionFileThreshold: 100 * sublevels,
		Logger: quiet{d}, EventListener: &pebble.EventListener{BackgroundError: d.fail},
	}
	for i := range d.o.Levels {
		d.o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	d.o.EnsureDefaults()
	var err error
	if d.db, err = pebble.Open(dir, d.o); err != nil {
		return nil, named(fmt.Errorf("open %s: %w", dir, err))
	}
	b.open.Add(1)
	b.grow()
	return d, nil
}

// disk is a state.Disk.
type disk struct {
	b      *Backend
	dir    string
	o      *pebble.Options
	db     *pebble.DB
	runs   atomic.Int64 // files written beside dir by Replace
	mu     sync.RWMutex // Size may be asked for at any time
	closed bool

	once   sync.Once
	failed chan struct{} // closed when something in the background went wrong
	cause  error
}

// fail notes the first error of a background task.
func (d *disk) fail(err error) {
	d.once.Do(func() {
		d.cause = err
		close(d.failed)
	})
}

// broken is that error, if there is one.
func (d *disk) broken() error {
	select {
	case <-d.failed:
		return named(d.cause)
	default:
		return nil
	}
}

// named tells damaged files, which the library names, from other errors.
func named(err error) error {
	if err != nil && pebble.IsCorruptionError(err) {
		return fault.Wrap(fault.DamagedEpoch, err, "the state's files are damaged")
	}
	return err
}

// quiet keeps the library from logging and from ending the process.
type quiet struct{ d *disk }

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}

func (q quiet) Fatalf(format string, args ...any) { q.d.fail(fmt.Errorf(format, args...)) }

// Get implements state.Disk.
func (d *disk) Get(key, dst []byte) ([]byte, bool, error) {
	v, closer, err := d.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return dst, false, nil
	}
	if err != nil {
		return dst, false, named(err)
	}
	dst = append(dst, v...)
	return dst, true, closer.Close()
}

// Scan implements state.Scanner.
func (d *disk) Scan(from, to []byte, f func(key, value []byte) bool) error {
	return scan(d.db, from, to, f)
}

func scan(r pebble.Reader, from, to []byte, f func(key, value []byte) bool) error {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return named(errors.Join(err, it.Close()))
		}
		if !f(it.Key(), v) {
			break
		}
	}
	return named(errors.Join(it.Error(), it.Close()))
}

// Snapshot implements state.Disk. What it reads is in files before it returns: Replace takes only files out of sight.
func (d *disk) Snapshot() (state.View, error) {
	if err := d.flush(); err != nil {
		return nil, err
	}
	s := d.db.NewEventuallyFileOnlySnapshot([]pebble.KeyRange{{Start: []byte{}, End: lastKey}})
	if err := s.WaitForFileOnlySnapshot(context.Background(), time.Millisecond); err != nil {
		return nil, errors.Join(named(err), s.Close())
	}
	return view{s}, nil
}

// lastKey is after all keys: they begin with two bytes of a number, then a name or another such number.
var lastKey = bytes.Repeat([]byte{0xff}, 8)

type view struct {
	*pebble.EventuallyFileOnlySnapshot
}

func (v view) Scan(from, to []byte, f func(key, value []byte) bool) error {
	return scan(v.EventuallyFileOnlySnapshot, from, to, f)
}

// Replace implements state.Disk: it writes a file of the tree's and has it take the place of what the others have there.
func (d *disk) Replace(from, to []byte, fill func(set func(key, value []byte) error) error) error {
	if err := d.broken(); err != nil {
		return err
	}
	path := fmt.Sprintf("%s.run%d", d.dir, d.runs.Add(1))
	if err := d.writeRun(path, fill); err != nil {
		return errors.Join(err, vfs.Default.Remove(path))
	}
	_, err := d.db.IngestAndExcise(context.Background(), []string{path}, nil, nil, pebble.KeyRange{Start: from, End: to})
	return named(err)
}

func (d *disk) writeRun(path string, fill func(set func(key, value []byte) error) error) error {
	f, err := vfs.Default.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(f), d.o.MakeWriterOptions(len(d.o.Levels)-1, format.MaxTableFormat()))
	return errors.Join(fill(w.Set), w.Close())
}

// flush puts everything that is committed into files.
func (d *disk) flush() error {
	flushed, err := d.db.AsyncFlush()
	if err != nil {
		return err
	}
	select {
	case <-flushed:
		return nil
	case <-d.failed: // else it would try again for ever
		return named(d.cause)
	}
}

// Checkpoint implements state.Disk.
func (d *disk) Checkpoint(dir string) error {
	if err := d.flush(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	return errors.Join(d.db.Checkpoint(dir), d.broken())
}

// Size implements state.Disk.
func (d *disk) Size() int64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.closed {
		return 0
	}
	return int64(d.db.Metrics().DiskSpaceUsage())
}

// Room implements state.Disk: an equal part for each that is open.
func (d *disk) Room() int64 { return d.b.o.Room / max(1, d.b.open.Load()) }

// Close implements state.Disk.
func (d *disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	d.b.open.Add(-1)
	defer d.b.shrink()
	return d.db.Close()
}

// Batch implements state.Disk.
func (d *disk) Batch() state.Batch { return batch{d.db.NewBatch(), d} }

type batch struct {
	b *pebble.Batch
	d *disk
}

func (b batch) Set(key, value []byte) error       { return b.b.Set(key, value, nil) }
func (b batch) Delete(key []byte) error           { return b.b.Delete(key, nil) }
func (b batch) DeleteRange(from, to []byte) error { return b.b.DeleteRange(from, to, nil) }
func (b batch) Size() int                         { return b.b.Len() }
func (b batch) Discard()                          { _ = b.b.Close() } // it was never committed

func (b batch) Commit() error {
	if err := b.d.broken(); err != nil {
		return err
	}
	if b.b.Empty() {
		return b.b.Close()
	}
	return errors.Join(b.b.Commit(pebble.NoSync), b.b.Close())
}
