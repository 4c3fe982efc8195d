package state

import (
	"cmp"
	"encoding/binary"
	"math"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/weirline/weirline/internal/fault"
)

// backing is what the states of one Scope share when there is a disk behind their tables, which then are its cache. The
// task's goroutine owns it; a handover goes to the goroutine that writes a capture.
//
// What the disk has and what the tables have is put together like this: a key in a table is as the table says, also when it
// is marked as deleted there. Any other key of a group that is complete doesn't exist; of one that isn't, the disk says.
type backing struct {
	disk     Disk
	owner    groupRange
	states   []cached
	known    map[string]*known
	batch    Batch     // of the running capture
	packs    []*pack   // of the running capture
	least    int       // bytes of packs side by side that replace what the disk has
	fewest   int       // entries that are worth a pack
	full     []Batch   // before batch: of the same capture, or of one that was given up
	last     *handover // the newest capture that was handed out; nil once it's in the disk
	running  bool      // a capture
	targets  []evictable
	at       int // in targets, by key group
	scratch  []byte
	value    []byte
	counters counters
	spooled  uint32
	left     atomic.Bool // nobody wants captures in the disk any more
}

// groupRange is the key groups of a task, both inclusive, of groups in all.
type groupRange struct{ groups, first, last int }

// cached is a state that has a disk behind it.
type cached interface {
	footprint() int64
	evictables() []evictable
	inMemory() int64
	owed(b Batch) error // puts deletions of whole panes into a batch
}

// evictable is a table of such a state.
type evictable interface {
	groupCount() int
	evict(g int, b Batch) (left bool, err error)
}

// batchBytes is the size of batches: larger ones are committed. Committing one of 1 MiB takes some 10 ms, during which a task
// can be without a processor.
const batchBytes = 128 << 10

// failed ends the task: neither the user's code nor the engine could go on without what the disk has. The engine takes
// the error out of the panic.
func (b *backing) failed(err error, doing string) {
	if fault.CodeOf(err) == "" {
		err = fault.Wrap(fault.StateDir, err, "state on disk: %s", doing)
	}
	panic(err)
}

func (b *backing) must(err error, doing string) {
	if err != nil {
		b.failed(err, doing)
	}
}

// writer is the batch that the running capture goes to.
func (b *backing) writer() Batch {
	if b.batch != nil && b.batch.Size() >= batchBytes {
		b.full, b.batch = append(b.full, b.batch), nil
	}
	if b.batch == nil {
		b.batch = b.disk.Batch()
	}
	return b.batch
}

func (b *backing) capture() {
	b.running = true
	b.must(b.forget(), "drop what nobody declares")
	for _, s := range b.states {
		b.must(s.owed(b.writer()), "note what was dropped")
	}
}

// abortCapture gives the capture up. What it has collected must reach the disk all the same, since the tables no longer count
// it as new: it goes there with the next capture, or before anything is evicted.
func (b *backing) abortCapture() {
	b.unpacked()
	b.endCapture()
}

// endCapture closes the batch.
func (b *backing) endCapture() {
	b.running = false
	if b.batch != nil {
		b.full, b.batch = append(b.full, b.batch), nil
	}
}

// hand gives what was captured to whoever writes it.
func (b *backing) hand() *handover {
	b.endCapture()
	b.last = &handover{disk: b.disk, left: &b.left, prev: b.last, batches: b.full, packs: b.packs, least: b.least, done: make(chan struct{})}
	b.full, b.packs = nil, nil
	return b.last
}

// idle tells whether the task has the disk for itself.
func (b *backing) idle() bool {
	if b.last == nil {
		return true
	}
	select {
	case <-b.last.done:
		b.must(b.last.err, "write a checkpoint")
		b.last = nil
		return true
	default:
		return false
	}
}

func (b *backing) used() int64 {
	n := int64(0)
	for _, s := range b.states {
		n += s.footprint()
	}
	return n
}

// relieve evicts until the tables fit their room, one key group after the other. What a running capture needs isn't in the
// disk yet, so nothing is evicted meanwhile; at twice the room the task waits until it's written.
func (b *backing) relieve() {
	b.counters.publish()
	room := b.disk.Room()
	used := b.used()
	b.counters.bytes.Store(used)
	if used <= room || b.running {
		return
	}
	if !b.idle() {
		if used <= 2*room {
			return
		}
		<-b.last.done
		b.idle()
	}
	b.evict(room)
}

func (b *backing) evict(room int64) {
	b.flush()
	batch := b.disk.Batch()
	for _, s := range b.states {
		b.must(s.owed(batch), "note what was dropped")
	}
	for visits := 0; b.used() > room; visits++ {
		t, g, ok := b.next()
		if !ok || visits > 3*b.visits() {
			break // all that is left was used just now
		}
		if _, err := t.evict(g, batch); err != nil {
			b.failed(err, "write back")
		}
		if batch.Size() >= batchBytes {
			b.must(batch.Commit(), "write back")
			batch = b.disk.Batch()
		}
	}
	b.must(batch.Commit(), "write back")
}

// flush commits what captures that were given up have left.
func (b *backing) flush() {
	for _, f := range b.full {
		b.must(f.Commit(), "write back")
	}
	b.full = nil
}

// next is the table and group whose turn it is.
func (b *backing) next() (t evictable, g int, ok bool) {
	for range 2 {
		at := b.at
		for _, t := range b.targets {
			if at < t.groupCount() {
				b.at++
				return t, at, true
			}
			at -= t.groupCount()
		}
		b.at, b.targets = 0, b.targets[:0]
		for _, s := range b.states {
			b.targets = append(b.targets, s.evictables()...)
		}
	}
	return nil, 0, false
}

// visits is the number of groups of all tables.
func (b *backing) visits() int {
	n := 0
	for _, t := range b.targets {
		n += t.groupCount()
	}
	return n
}

// get looks a key up; the value is good until the next call.
func (b *backing) get(key []byte) (value []byte, ok bool) {
	value, ok, err := b.disk.Get(key, b.value[:0])
	b.must(err, "read")
	b.value = value
	return value, ok
}

// lookUp is get for a miss, of which some are timed.
func (b *backing) lookUp(key []byte) (value []byte, ok bool) {
	if b.counters.misses%sampleMisses != 0 {
		return b.get(key)
	}
	began := time.Now()
	value, ok = b.get(key)
	b.counters.miss.took(time.Since(began))
	return value, ok
}

// handover is a capture on its way to the disk. One goroutine at a time.
type handover struct {
	disk    Disk
	left    *atomic.Bool
	prev    *handover
	batches []Batch
	packs   []*pack // after the batches
	least   int     // see backing
	done    chan struct{}
	ended   bool
	err     error // the disk lacks what was captured
}

// apply commits what was captured, once, and then calls then while nothing else changes the disk.
func (h *handover) apply(then func() error) error {
	if h.ended {
		return cmp.Or(h.err, errApplied)
	}
	if h.prev != nil {
		<-h.prev.done
		h.err, h.prev = h.prev.err, nil
	}
	for _, b := range h.batches {
		if h.err == nil && h.left.Load() {
			h.err = errLeft
		}
		if h.err != nil {
			b.Discard()
			continue
		}
		h.err = b.Commit()
		runtime.Gosched()
	}
	if h.err == nil {
		h.err = h.replace()
	}
	h.ended, h.batches, h.packs = true, nil, nil
	defer close(h.done)
	if h.err != nil || then == nil {
		return h.err
	}
	return then()
}

var (
	errApplied error = fault.New(fault.StateDir, "the snapshot was written already")
	errLeft    error = fault.New(fault.StateDir, "the task has ended before the snapshot was written")
)

// Keys on the disk, all numbers big-endian so that they sort:
//
//	0 (2), name                                    what is known of a state; of the whole under the empty name
//	number of the state (2), group (2), 0, chunk (4)      some entries of a packed group
//	number of the state (2), group (2), 1, key            value
//	the same with start (8) before the group              of a pane
//
// A value is the number of the signature that it was stored under (1) and its form in the codec. A chunk is that number for all
// its entries, their number (4, little-endian), and for each the key and the form of its value.
const (
	numberAll   = 0
	numberSpool = 0xffff
	diskFormat  = 2
)

// known is what the disk says of a state.
type known struct {
	name     string
	number   uint16
	kind     kind
	sigs     []string // by number; the last one is that of the present declaration
	declared bool
}

func metaKey(name string) []byte { return append([]byte{0, numberAll}, name...) }

func (k *known) encode() []byte {
	v := append(binary.BigEndian.AppendUint16(nil, k.number), byte(k.kind))
	v = binary.AppendUvarint(v, uint64(len(k.sigs)))
	for _, s := range k.sigs {
		v = appendString(v, s)
	}
	return v
}

func decodeKnown(name string, v []byte) (*known, error) {
	r := indexReader{src: v}
	k := &known{name: name, number: binary.BigEndian.Uint16(r.fixed(2)), kind: kind(r.fixed(1)[0])}
	for range r.number(uint64(len(r.src))) {
		k.sigs = append(k.sigs, r.text())
	}
	if r.bad || len(k.sigs) == 0 || k.number == numberAll || k.number == numberSpool {
		return nil, damaged("what the disk says of state %q can't be read", name)
	}
	return k, nil
}

// newBacking reads what the disk has.
func newBacking(d Disk, owner groupRange) (*backing, error) {
	known, had, err := readKnown(d)
	if err != nil {
		return nil, err
	}
	b := &backing{disk: d, owner: owner, known: known, least: leastRun, fewest: leastPack}
	if had == owner {
		return b, nil
	}
	if had.groups != 0 && had.groups != owner.groups {
		return nil, fault.New(fault.BadState, "the state has %d key groups, the job %d", had.groups, owner.groups).
			WithFix("start with the number of key groups that the state was made with")
	}
	batch := d.Batch()
	if had.groups != 0 {
		err = b.leave(batch)
	}
	v := appendNumbers([]byte{diskFormat}, owner.groups, owner.first, owner.last+1)
	if err = cmp.Or(err, batch.Set(metaKey(""), v)); err != nil {
		return nil, err
	}
	return b, batch.Commit()
}

func readKnown(d Scanner) (all map[string]*known, had groupRange, err error) {
	all = map[string]*known{}
	var bad error
	err = d.Scan(metaKey(""), []byte{0, numberAll + 1}, func(key, v []byte) bool {
		name := string(key[2:])
		if name != "" {
			all[name], bad = decodeKnown(name, v)
			return bad == nil
		}
		r := indexReader{src: v}
		if bad = formatFault(r.fixed(1)[0]); bad != nil && !r.bad {
			return false
		}
		had = groupRange{groups: r.number(1 << 16), first: r.number(1 << 16), last: r.number(1<<16) - 1}
		if r.bad {
			bad = damaged("what the disk says of itself can't be read")
		}
		return bad == nil
	})
	return all, had, cmp.Or(bad, err)
}

// formatFault refuses a version of the disk's form that this binary doesn't read.
func formatFault(version byte) error {
	switch {
	case version > diskFormat:
		return fault.New(fault.NewerFormat, "the state on disk has version %d; this binary reads %d", version, diskFormat)
	case version < diskFormat:
		return fault.New(fault.BadState, "the state on disk has version %d; this binary reads %d", version, diskFormat).
			WithFix("take a savepoint with the binary that wrote it, and start from that")
	}
	return nil
}

// declare finds or numbers a state.
func (b *backing) declare(name string, kd kind, sig string) (k *known, had bool, err error) {
	k = b.known[name]
	if k == nil {
		k = &known{name: name, kind: kd, number: b.nextNumber()}
		b.known[name] = k
	}
	k.declared, had = true, len(k.sigs) > 0
	for _, was := range k.sigs {
		if err := misfit(name, kd, sig, k.kind, was); err != nil {
			return nil, had, err
		}
	}
	if n := len(k.sigs); n > 0 && k.sigs[n-1] == sig {
		return k, had, nil
	}
	k.sigs = append(k.sigs, sig)
	if len(k.sigs) > 255 {
		return nil, had, fault.New(fault.BadState, "state %q was stored in %d forms", name, len(k.sigs)).
			WithFix("start with the form it had, take a savepoint, and resume from that")
	}
	return k, had, b.save(k)
}

func (b *backing) nextNumber() uint16 {
	n := uint16(1)
	for _, k := range b.known {
		n = max(n, k.number+1)
	}
	return n
}

func (b *backing) save(k *known) error {
	batch := b.disk.Batch()
	if err := batch.Set(metaKey(k.name), k.encode()); err != nil {
		return err
	}
	return batch.Commit()
}

// unclaimed names the states of the disk that nobody declared.
func (b *backing) unclaimed() []string {
	var names []string
	for n, k := range b.known {
		if !k.declared {
			names = append(names, n)
		}
	}
	return names
}

// forget deletes them, and what of a restored file nobody took.
func (b *backing) forget() error {
	if b.spooled > 0 {
		b.spooled = 0
		if err := b.writer().DeleteRange(spoolKey(0), spoolKey(math.MaxUint32)); err != nil {
			return err
		}
	}
	for _, n := range b.unclaimed() {
		k, w := b.known[n], b.writer()
		if err := cmp.Or(w.DeleteRange(k.bounds()), w.Delete(metaKey(n))); err != nil {
			return err
		}
		delete(b.known, n)
	}
	return nil
}

// bounds are those of all keys of a state.
func (k *known) bounds() (from, to []byte) {
	return binary.BigEndian.AppendUint16(nil, k.number), binary.BigEndian.AppendUint16(nil, k.number+1)
}
