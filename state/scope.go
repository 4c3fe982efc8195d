package state

import (
	"errors"
	"io"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/weirline/weirline/internal/fault"
)

// Keyed is where keyed state can be declared: a Scope, or what the engine gives to Open. Sealed: only weirline
// implements it.
type Keyed[K comparable] interface{ Scope() *Scope[K] }

// Scope is all keyed state of one task of one operator: the key groups it owns, the current key, and the declared
// states. It belongs to the task's goroutine.
type Scope[K comparable] struct {
	_      [128]byte // what a task writes shares no cache line with another's
	key    K
	hash   uint64
	group  int // of the current key, counted from first
	first  int
	groups uint64
	desk[K]
	_ [128]byte
}

// desk is the part of a Scope that no record touches.
type desk[K comparable] struct {
	last      int
	keys      *Key[K]
	states    []stored
	names     map[string]bool
	errs      []error
	restored  map[string]*restored
	capturing bool
	at        int      // state that Sweep is at
	back      *backing // nil: all is in memory
	mortals
}

// stored is a declared state without its types; a family and what belongs to it.
type stored interface {
	capture()
	sweep(budget int) int
	abort()
	take() part
	warm(hs []uint64, groups uint64)
}

// restored is what files had for one name.
type restored struct{ sections []section }

// NewScope makes the state of a task that owns the key groups first to last, both inclusive, of groups in all.
func NewScope[K comparable](key *Key[K], groups, first, last int) *Scope[K] {
	s := &Scope[K]{first: first, groups: uint64(groups)}
	s.keys, s.last = key, last
	s.names, s.restored = map[string]bool{}, map[string]*restored{}
	return s
}

// Scope returns s, so that states can be declared in it.
func (s *Scope[K]) Scope() *Scope[K] { return s }

// SetKey makes k, whose hash is h, the current key. It must belong to one of the key groups owned and be valid
// ([Key.Valid]).
func (s *Scope[K]) SetKey(k K, h uint64) {
	s.key, s.hash = k, h
	s.group = int((h>>32)*s.groups>>32) - s.first
}

// Key is the current key.
func (s *Scope[K]) Key() K { return s.key }

// Groups is the range of key groups owned, both inclusive.
func (s *Scope[K]) Groups() (first, last int) { return s.first, s.last }

// Err is what was wrong with the declarations, joined; look at it after Open. Handles of a refused state must not be
// used.
func (s *Scope[K]) Err() error { return errors.Join(s.errs...) }

// Unclaimed names the restored states that nobody declared, sorted. They are dropped by the next capture.
func (s *Scope[K]) Unclaimed() []string {
	var names []string
	for n := range s.restored {
		names = append(names, n)
	}
	if s.back != nil {
		names = append(names, s.back.unclaimed()...)
	}
	slices.Sort(names)
	return names
}

// Warm loads what the records of a batch with these hashes will need first, so that cache misses overlap. It does
// nothing for small tables. All hashes must belong to key groups owned. With a disk behind the tables it evicts what is too
// much for memory.
func (s *Scope[K]) Warm(hs []uint64) {
	if s.back != nil {
		s.back.relieve()
	}
	for _, st := range s.states {
		st.warm(hs, s.groups)
	}
}

// Capture starts a snapshot of all that is declared, as it is now. It costs a few instructions per key group. The
// previous capture must have been taken by Captured or aborted.
func (s *Scope[K]) Capture() {
	if s.capturing {
		panic("state: Capture while another one runs") // a broken engine
	}
	s.capturing, s.at = true, 0
	if s.back != nil {
		s.back.capture()
	}
	for _, st := range s.states {
		st.capture()
	}
}

// Sweep copies up to about budget bytes of what the running capture still needs; done tells that nothing is left. Call
// it between records until then.
func (s *Scope[K]) Sweep(budget int) (done bool) {
	budget = max(budget, 1)
	for ; s.at < len(s.states); s.at++ {
		if budget = s.states[s.at].sweep(budget); budget <= 0 {
			return false
		}
	}
	return true
}

// SweepAll copies all that the running capture still needs.
func (s *Scope[K]) SweepAll() { s.Sweep(math.MaxInt) }

// Capturing tells whether a capture runs.
func (s *Scope[K]) Capturing() bool { return s.capturing }

// AbortCapture gives the running capture up, if there is one.
func (s *Scope[K]) AbortCapture() {
	for _, st := range s.states {
		st.abort()
	}
	if s.back != nil {
		s.back.abortCapture()
	}
	s.capturing = false
}

// Captured ends the running capture, sweeping what is left, and returns it. The Snapshot belongs to the caller.
func (s *Scope[K]) Captured() *Snapshot {
	if !s.capturing {
		panic("state: Captured without Capture") // a broken engine
	}
	s.SweepAll()
	s.capturing = false
	snap := &Snapshot{groups: int(s.groups), first: s.first, last: s.last}
	for _, st := range s.states {
		snap.parts = append(snap.parts, st.take())
	}
	if s.back != nil {
		snap.hand = s.back.hand()
	}
	return snap
}

// Snapshot is a finished capture. One goroutine at a time may use it, any one.
type Snapshot struct {
	groups, first, last int
	parts               []part
	hand                *handover // nil: all is in memory
	linked              bool      // Checkpoint was called: what is on the disk isn't written
	view                View
}

// WriteTo writes the snapshot as a file that [Scope.Restore] reads, and returns the number of bytes. It may be called
// again after an error. An error of a codec is returned here too.
func (s *Snapshot) WriteTo(w io.Writer) (int64, error) {
	if err := s.open(); err != nil {
		return 0, err
	}
	f := &fileWriter{w: w, view: s.view}
	f.index = appendNumbers(nil, s.groups, s.first, s.last+1)
	if err := f.write(header()); err != nil {
		return f.at, err
	}
	for _, p := range s.parts {
		if s.linked && p.behind() {
			continue
		}
		if err := f.part(p); err != nil {
			return f.at, err
		}
	}
	err := f.finish()
	return f.at, err
}

// Release gives the snapshot's memory back for the next capture. The snapshot is empty afterwards. What was captured reaches
// the disk, if there is one, also if it was never written.
func (s *Snapshot) Release() {
	for _, p := range s.parts {
		p.release()
	}
	if s.hand != nil {
		_ = s.hand.apply(nil) // the task hears of an error
	}
	if s.view != nil {
		_ = s.view.Close() // it was only read
	}
	s.parts, s.view = nil, nil
}

// Restore reads the key groups owned from a file that a task of the same operator wrote, of which there may be several.
// Call it before Open declares the states: each takes what has its name. It reads nothing of other groups. Errors have
// the codes DamagedEpoch, NewerFormat or BadState; after one the Scope must not be used.
func (s *Scope[K]) Restore(r io.ReaderAt, size int64) error {
	f, err := readIndex(r, size)
	if err != nil {
		return err
	}
	if f.groups != int(s.groups) {
		return fault.New(fault.BadState, "the state has %d key groups, the job %d", f.groups, s.groups).
			WithFix("start with the number of key groups that the state was made with")
	}
	for _, n := range f.names {
		if s.restored[n] == nil {
			s.restored[n] = &restored{}
		}
	}
	for _, sec := range f.sections {
		if sec.group < s.first || sec.group > s.last {
			continue
		}
		old := s.restored[sec.name]
		if slices.ContainsFunc(old.sections, func(o section) bool { return o.group == sec.group }) {
			return damaged("key group %d of state %q is there twice", sec.group, sec.name)
		}
		sec.data = make([]byte, sec.size)
		if err := readAt(r, sec.data, sec.off); err != nil {
			return err
		}
		if xxhash.Sum64(sec.data) != sec.sum {
			return damaged("key group %d of state %q has a bad checksum", sec.group, sec.name)
		}
		if s.back != nil && sec.kind != kindTimers {
			if err := s.back.spool(&sec); err != nil {
				return err
			}
		}
		old.sections = append(old.sections, sec)
	}
	return nil
}

// admit checks a declaration's name and takes what was restored for it; ok is false if the state must be refused.
func (s *Scope[K]) admit(name string) (r *restored, ok bool) {
	switch {
	case name == "":
		s.refuse(fault.New(fault.BadPipeline, "a state has no name"))
		return nil, false
	case s.names[name]:
		s.refuse(fault.New(fault.BadPipeline, "two states are named %q", name))
		return nil, false
	}
	s.names[name] = true
	r = s.restored[name]
	delete(s.restored, name)
	return r, true
}

func (s *Scope[K]) refuse(err error) { s.errs = append(s.errs, err) }

// declare registers a state and gives it what was restored under its name.
func (s *Scope[K]) declare(name string, st stored, claim func(*restored) error) {
	r, ok := s.admit(name)
	if !ok {
		return
	}
	s.states = append(s.states, st)
	if err := claim(r); err != nil {
		s.refuse(err)
	}
}

// named puts the state's name before an error about its type.
func named(name string, err error) error {
	if e, ok := errors.AsType[*fault.Error](err); ok && e.Where == "" {
		return e.At("state " + name)
	}
	return err
}
