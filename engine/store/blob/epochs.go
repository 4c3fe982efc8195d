package blob

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
)

// known is what the store remembers of a record.
type known struct {
	store.Info
	ref    epochRef
	files  []string
	tokens []string // of its handles
}

func summary(r *store.Record, ref epochRef, size int64) known {
	k := known{Info: store.Info{Epoch: r.Epoch, Taken: r.Taken, Size: size, End: r.End, Whole: true}, ref: ref}
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

// Publish implements store.Epochs. It makes two objects: the record, and the entry that decides.
func (s *Store) Publish(rec *store.Record) error {
	s.pub.Lock()
	defer s.pub.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	if err := s.settle(); err != nil { // an older epoch may turn out to be complete
		return s.full(err, logPrefix, "complete checkpoint %d", rec.Epoch)
	}
	r := *rec
	r.Format, r.Job = store.Format, s.o.Job
	if err := s.admit(&r); err != nil {
		return err
	}
	data, err := store.EncodeRecord(&r)
	if err != nil {
		return fmt.Errorf("encode record of epoch %d: %w", r.Epoch, err)
	}
	ref := epochRef{Epoch: r.Epoch, File: s.dir(r.Epoch) + "record", Sum: xxhash.Sum64(data)}
	if err := s.put(ref.File, data); err != nil {
		s.discard(ref.File)
		return s.full(err, ref.File, "write checkpoint %d", r.Epoch)
	}
	k := summary(&r, ref, int64(len(data)))
	kept := s.retain()
	s.setFresh(&k)
	err = s.append("epoch", func(e *entry) {
		e.Epochs, e.Lost = nil, false
		for _, o := range kept {
			e.Epochs = append(e.Epochs, o.ref)
		}
		e.Epochs = append(e.Epochs, ref)
	}, func() { s.adopt(k, kept) })
	if err == nil {
		s.collect()
		return nil
	}
	if !errors.Is(err, store.ErrUnknown) {
		s.setFresh(nil)
		s.discard(ref.File)
	}
	return s.full(err, logPrefix, "complete checkpoint %d", r.Epoch)
}

func (s *Store) setFresh(k *known) {
	s.mu.Lock()
	s.fresh = k
	s.mu.Unlock()
}

// put writes a whole object.
func (s *Store) put(key string, data []byte) error {
	u, err := s.b.Put(s.ctx, key)
	if err != nil {
		return err
	}
	defer u.Abort()
	if _, err := u.Write(data); err != nil {
		return err
	}
	return u.Finish()
}

// admit checks that a record may be published.
func (s *Store) admit(r *store.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bad != nil {
		return s.bad
	}
	if r.Epoch <= s.cur || r.Epoch >= s.next && !s.o.New {
		return fmt.Errorf("publish epoch %d after %d: not a new number that NextEpoch gave", r.Epoch, s.cur)
	}
	old := map[string]bool{}
	for _, k := range s.known {
		for _, f := range k.files {
			old[f] = true
		}
	}
	for b := range r.Blobs() {
		m, fresh := s.blobs[b.File]
		if b.File != "" && !old[b.File] && (!fresh || m.size != b.Size) {
			return fmt.Errorf("publish epoch %d: blob %s isn't finished", r.Epoch, b.File)
		}
	}
	return nil
}

// retain lists the complete epochs that stay when another one is complete, rising.
func (s *Store) retain() []known {
	s.mu.Lock()
	defer s.mu.Unlock()
	var kept []known
	whole := 1
	for _, k := range slices.Backward(s.known) {
		room := s.o.Retain < 0 || whole < s.o.Retain
		if !s.pinned[k.Epoch] && (!room || s.skip && !k.Whole) {
			continue
		}
		if k.Whole {
			whole++
		}
		kept = append(kept, k)
	}
	slices.Reverse(kept)
	return kept
}

// adopt makes the epoch k the newest one and marks for deletion what no retained epoch names any more.
func (s *Store) adopt(k known, kept []known) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := map[string]bool{}
	for _, o := range s.known {
		gone[o.ref.File] = true
		for _, f := range o.files {
			gone[f] = true
		}
	}
	for file, m := range s.blobs {
		if m.epoch <= k.Epoch {
			gone[file] = true
		}
	}
	s.known = append(slices.Clone(kept), k)
	for _, o := range s.known {
		delete(gone, o.ref.File)
		for _, f := range o.files {
			delete(gone, f)
		}
	}
	s.cur, s.bad, s.skip, s.fresh = k.Epoch, nil, false, nil
	maps.DeleteFunc(s.blobs, func(_ string, m made) bool { return m.epoch <= k.Epoch })
	s.garbage = append(s.garbage, slices.Sorted(maps.Keys(gone))...)
}

// Discard implements store.Epochs. It makes no request: the blobs go with the next Publish or Close.
func (s *Store) Discard(epoch uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if epoch <= s.cur || s.fresh != nil && s.fresh.Epoch == epoch {
		return
	}
	for file, m := range s.blobs {
		if m.epoch == epoch {
			s.garbage = append(s.garbage, file)
			delete(s.blobs, file)
		}
	}
	of := s.dir(epoch)
	maps.DeleteFunc(s.writing, func(file string, _ bool) bool { return len(file) > len(of) && file[:len(of)] == of })
}

// Latest implements store.Epochs.
func (s *Store) Latest() (*store.Record, error) {
	s.pub.Lock()
	defer s.pub.Unlock()
	if err := s.ask(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	cur, err := s.cur, s.bad
	i := s.find(cur)
	var k known
	if i >= 0 {
		k = s.known[i]
	}
	s.mu.Unlock()
	if err == nil && i < 0 {
		return nil, nil
	}
	var r *store.Record
	if err == nil {
		r, _, err = s.readRecord(k.ref)
	}
	if err == nil {
		err = s.checkSizes(r)
	}
	if err == nil {
		return r, nil
	}
	if lasting(err) {
		s.mark(cur, err)
	}
	return nil, s.withOlder(err)
}

// ask settles what is pending and finds out whether somebody else has taken over: who is told an epoch goes on from there,
// and clears away what isn't its own. The caller holds pub.
func (s *Store) ask() error {
	if s.o.ReadOnly {
		return nil
	}
	if err := s.usable(); err != nil {
		return err
	}
	err := s.settle()
	if err == nil {
		err = s.alone(logKey(s.head.Seq))
	}
	if err != nil {
		return s.full(err, logPrefix, "settle which checkpoint is the newest")
	}
	return nil
}

// mark notes that the newest epoch can't be used.
func (s *Store) mark(cur uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bad = err
	if i := s.find(cur); i >= 0 {
		s.known[i].Whole = false
	}
}

// lasting tells errors about the content from those of the moment.
func lasting(err error) bool {
	id := fault.CodeOf(err)
	return id == fault.DamagedEpoch.ID || id == fault.NewerFormat.ID
}

// withOlder adds to an error about the newest epoch what there is instead.
func (s *Store) withOlder(err error) error {
	e, ok := errors.AsType[*fault.Error](err)
	if !ok || !lasting(err) {
		return err
	}
	older := "no older checkpoint is whole"
	s.mu.Lock()
	for _, k := range slices.Backward(s.known) {
		if k.Whole && k.Epoch != s.cur {
			older = fmt.Sprintf("the newest older one that is whole is checkpoint %d in %s/%s", k.Epoch, s.b, k.ref.File)
			break
		}
	}
	s.mu.Unlock()
	more := *e
	more.What = e.What + " (" + older + ")"
	return &more
}

// Fallback implements store.Epochs.
func (s *Store) Fallback() (*store.Record, error) {
	s.pub.Lock()
	defer s.pub.Unlock()
	if err := s.ask(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	candidates := slices.Clone(s.known)
	cur, bad := s.cur, s.bad
	s.mu.Unlock()
	errs := []error{bad}
	for _, k := range slices.Backward(candidates) {
		if k.Epoch == cur {
			continue
		}
		r, err := s.whole(k.ref)
		s.mu.Lock()
		if i := s.find(k.Epoch); i >= 0 {
			s.known[i].Whole = err == nil
		}
		if err == nil {
			s.bad, s.skip = nil, true
		}
		s.mu.Unlock()
		if err == nil {
			return r, nil
		}
		errs = append(errs, err)
	}
	if cur == 0 && bad == nil {
		return nil, nil
	}
	return nil, fault.Wrap(fault.DamagedEpoch, errors.Join(errs...), "no older checkpoint in %s is whole", s.b).
		WithFix("restore the objects from a copy, or begin anew in an empty place")
}

// whole reads a record and verifies all its blobs.
func (s *Store) whole(ref epochRef) (*store.Record, error) {
	r, _, err := s.readRecord(ref)
	if err != nil {
		return nil, err
	}
	for b := range r.Blobs() {
		if err := s.Verify(b); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Load implements store.Epochs.
func (s *Store) Load(epoch uint64) (*store.Record, error) {
	s.mu.Lock()
	i := s.find(epoch)
	var k known
	if i >= 0 {
		k = s.known[i]
	}
	s.mu.Unlock()
	if i < 0 {
		return nil, fault.New(fault.NoCheckpoint, "%s has no checkpoint %d", s.b, epoch).
			WithFix("choose one of the checkpoints that are listed")
	}
	r, _, err := s.readRecord(k.ref)
	if err == nil {
		err = s.checkSizes(r)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// find returns the index of a retained epoch, -1 if it isn't one. The caller holds mu.
func (s *Store) find(epoch uint64) int {
	return slices.IndexFunc(s.known, func(k known) bool { return k.Epoch == epoch })
}

// readRecord reads a record and what the store remembers of it.
func (s *Store) readRecord(ref epochRef) (*store.Record, known, error) {
	k := known{Info: store.Info{Epoch: ref.Epoch}, ref: ref}
	data, err := s.b.Get(s.ctx, ref.File, 0, -1)
	if err == nil && xxhash.Sum64(data) != ref.Sum {
		err = fmt.Errorf("%w: it isn't the object that the log names", store.ErrDamaged)
	}
	var r *store.Record
	if err == nil {
		r, err = store.DecodeRecord(data)
	}
	if err == nil && (r.Epoch != ref.Epoch || r.Job != s.o.Job) {
		err = fmt.Errorf("%w: it has epoch %d of job %q", store.ErrDamaged, r.Epoch, r.Job)
	}
	if err != nil {
		return nil, k, s.unreadable(err, ref.File, "checkpoint")
	}
	return r, summary(r, ref, int64(len(data))), nil
}

// loadKnown reads the records that the log names.
func (s *Store) loadKnown(f found) error {
	s.bad = f.lost
	if f.head.Lost && s.bad == nil {
		s.bad = fault.New(fault.DamagedEpoch, "an entry of %s/%s was lost, and with it perhaps the newest checkpoint", s.b, logPrefix)
	}
	sure := s.bad == nil
	for i, ref := range f.head.Epochs {
		r, k, err := s.readRecord(ref)
		newest := i == len(f.head.Epochs)-1 && sure
		if err == nil && newest {
			err = s.checkSizes(r)
			k.Whole = err == nil
		}
		switch {
		case err != nil && !lasting(err):
			return err
		case err != nil && newest:
			s.bad = err
		case err != nil:
			s.log.Warn("older checkpoint can't be read", "epoch", ref.Epoch, "error", err)
		}
		s.known = append(s.known, k)
		if newest {
			s.cur = ref.Epoch
		}
	}
	return nil
}

var _ io.ReaderAt = (*reader)(nil)

// Drop implements store.Epochs: an entry without epochs decides, then their objects go.
func (s *Store) Drop() error {
	s.pub.Lock()
	defer s.pub.Unlock()
	err := s.append("drop", func(e *entry) { e.Epochs, e.Lost = nil, false }, s.forgetAll)
	if err != nil {
		return s.full(err, logPrefix, "forget all checkpoints")
	}
	s.collect()
	return nil
}

// forgetAll marks for deletion whatever belongs to an epoch.
func (s *Store) forgetAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.known {
		s.garbage = append(append(s.garbage, k.ref.File), k.files...)
	}
	for file := range s.blobs {
		s.garbage = append(s.garbage, file)
	}
	s.cur, s.known, s.bad, s.skip, s.fresh = 0, nil, nil, false, nil
	clear(s.blobs)
}
