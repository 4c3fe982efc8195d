package store

import (
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/weirline/weirline/internal/durable"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// Dir is a Store in a local directory.
type Dir struct {
	root  string
	o     Options
	fs    FS
	log   *slog.Logger
	claim Claim
	self  claimInfo

	closed  atomic.Bool
	grants  grants
	commits commits

	// Lock order: pub or num, then the journals' mu, then mu. Pub serialises what changes or reads the pointer and num
	// the file of numbers; both are held over I/O, because the order of I/O is what they guard. Mu never is.
	pub sync.Mutex
	num sync.Mutex

	next, below uint64 // under num: the next number, and the first one that isn't reserved on disk

	mu      sync.Mutex
	cur     pointer          // what CURRENT says, as far as known
	known   []known          // complete epochs that are retained, rising
	unsure  map[uint64]known // published with an unknown outcome
	bad     error            // why the newest epoch can't be used; nil after Fallback
	skip    bool             // Fallback was used: epochs that aren't whole go with the next Publish
	pinned  map[uint64]bool
	blobs   map[string]int64 // files finished by this process and not yet named by a complete epoch -> size
	writing map[string]bool  // files being written
	dirty   map[uint64]bool  // epochs whose directory of blobs isn't synced
}

// known is what the store remembers of a record.
type known struct {
	Info
	files  []string
	tokens []string // of its handles
}

// Open takes the claim on the directory, making it (mode 0700) if it is absent, and reads what it has. What crashed
// processes left half-written is removed. Errors: fault.ClaimHeld, OtherJob, NewerFormat, StateDir, and DamagedEpoch for
// damage that Latest and Fallback can't speak about.
func Open(dir string, o Options) (*Dir, error) {
	if o.Job == "" && !o.ReadOnly {
		return nil, fault.New(fault.StateDir, "open state directory %s: no job name given", dir)
	}
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, fault.Wrap(fault.StateDir, err, "open state directory %s", dir)
	}
	o = o.WithDefaults()
	d := &Dir{
		root: root, o: o, fs: o.FS, log: o.Log,
		unsure: map[uint64]known{}, pinned: map[uint64]bool{},
		blobs: map[string]int64{}, writing: map[string]bool{}, dirty: map[uint64]bool{},
	}
	if err := d.enter(); err != nil {
		return nil, err
	}
	if err := d.load(); err != nil {
		return nil, errors.Join(err, d.grants.Close(), d.commits.Close(), d.claim.Close())
	}
	return d, nil
}

// enter makes the directory and takes the claim.
func (d *Dir) enter() (err error) {
	if d.o.ReadOnly {
		d.claim = noClaim{}
		return nil
	}
	if d.o.New {
		if has, _ := d.fs.List(d.root); len(has) > 0 { // else it is absent, or enter fails below
			return fault.New(fault.SavepointTaken, "%s isn't empty: it has %s", d.root, has[0].Name())
		}
	}
	if err := makeDir(d.fs, d.root); err != nil {
		return fault.Wrap(fault.StateDir, err, "make state directory %s", d.root)
	}
	d.claim, d.self, err = takeClaim(d.fs, d.root, d.o)
	return err
}

// makeDir makes a directory with its parents and syncs their entries, also if an earlier process made them.
func makeDir(fsys FS, dir string) error {
	err := fsys.Mkdir(dir)
	parent := filepath.Dir(dir)
	if errors.Is(err, fs.ErrNotExist) && parent != dir {
		if err := makeDir(fsys, parent); err != nil {
			return err
		}
		err = fsys.Mkdir(dir)
	}
	if err != nil {
		return err
	}
	if err := fsys.SyncDir(parent); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err // a parent that may be entered but not read can't be synced by us
	}
	return nil
}

// Close gives the claim back and notes how far numbers were used.
func (d *Dir) Close() error {
	if d.closed.Load() {
		return nil
	}
	d.num.Lock()
	if d.next < d.below && d.held() == nil {
		// Only so that the next run needn't leave a gap.
		if err := d.reserve(d.next); err != nil {
			d.log.Warn("can't note the next epoch number", "error", err)
		}
	}
	d.num.Unlock()
	if d.closed.Swap(true) {
		return nil
	}
	d.grants.mu.Lock()
	defer d.grants.mu.Unlock()
	d.commits.mu.Lock()
	defer d.commits.mu.Unlock()
	err := errors.Join(d.grants.Close(), d.commits.Close())
	if d.o.New && d.cur.Epoch == 0 && len(d.unsure) == 0 {
		d.remove("")
	}
	return errors.Join(err, d.claim.Close())
}

// numberBlock is how many numbers are reserved by one write. A crash leaves a gap of up to as many.
const numberBlock = 1000

// NextEpoch implements Epochs.
func (d *Dir) NextEpoch() (uint64, error) {
	d.num.Lock()
	defer d.num.Unlock()
	if d.next >= d.below {
		if err := d.held(); err != nil {
			return 0, err
		}
		if err := d.reserve(d.next + numberBlock); err != nil {
			return 0, d.full(err, numbersName, "reserve epoch numbers")
		}
	}
	n := d.next
	d.next++
	return n, nil
}

func (d *Dir) reserve(below uint64) error {
	b, err := durable.Encode(magicNumbers, numbersFormat, numbers{Job: d.o.Job, Below: below})
	if err != nil {
		return err
	}
	if err := durable.Replace(d.fs, d.path(numbersName), b); err != nil {
		return err
	}
	if err := d.fs.SyncDir(d.root); err != nil {
		return err
	}
	d.below = below
	return nil
}

// Grant implements Ledger.
func (d *Dir) Grant(op string, upTo int) error {
	if err := d.held(); err != nil {
		return err
	}
	if err := d.grants.grant(op, upTo); err != nil {
		return d.full(err, grantsName, "grant %d slots to %s", upTo, op)
	}
	return nil
}

// Granted implements Ledger.
func (d *Dir) Granted() map[string]int {
	d.grants.state.Lock()
	defer d.grants.state.Unlock()
	return maps.Clone(d.grants.slots)
}

// Committed implements Ledger.
func (d *Dir) Committed(hs []sink.Handle) error {
	if err := d.held(); err != nil {
		return err
	}
	if err := d.commits.commit(hs); err != nil {
		return d.full(err, commitsName, "record %d commits", len(hs))
	}
	return nil
}

// IsCommitted implements Ledger.
func (d *Dir) IsCommitted(token string) bool {
	d.commits.state.Lock()
	defer d.commits.state.Unlock()
	_, ok := d.commits.tokens[token]
	return ok
}

// Records implements Epochs.
func (d *Dir) Records() []Info {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]Info, 0, len(d.known))
	for _, k := range d.known {
		out = append(out, k.Info)
	}
	return out
}

// Pin implements Epochs.
func (d *Dir) Pin(epochs ...uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.pinned)
	for _, e := range epochs {
		d.pinned[e] = true
	}
}

// find returns the index of a retained epoch, -1 if it isn't one. The caller holds mu.
func (d *Dir) find(epoch uint64) int {
	return slices.IndexFunc(d.known, func(k known) bool { return k.Epoch == epoch })
}
