package state

import (
	"cmp"
	"encoding/binary"

	"github.com/weirline/weirline/internal/fault"
)

// UseDisk puts a disk behind all states that are declared later. Call it before Restore and Open; the disk may hold what an
// earlier Scope of the same operator stored, which isn't read before it's used. Key groups that aren't owned are deleted. The
// caller closes the disk when no Snapshot is in use any more.
func (s *Scope[K]) UseDisk(d Disk) error {
	b, err := newBacking(d, groupRange{int(s.groups), s.first, s.last})
	if err != nil {
		return err
	}
	b.counters.entries = s.entries
	s.back = b
	return nil
}

// Import copies the key groups owned from the disk of another task of the operator. Call it after UseDisk, before Open.
func (s *Scope[K]) Import(from Disk) error { return s.back.adopt(from) }

// Leave says that the task has ended and the disk will be closed: snapshots of it that aren't written yet fail, without
// waiting for the disk. From any goroutine, after UseDisk.
func (s *Scope[K]) Leave() { s.back.left.Store(true) }

// Stats may be called from any goroutine, after Open.
func (s *Scope[K]) Stats() Stats {
	b := s.back
	if b == nil {
		return Stats{}
	}
	c := &b.counters
	return Stats{
		Entries: c.shown.entries.Load(), Bytes: c.bytes.Load(), Hits: c.shown.hits.Load(), Misses: c.shown.misses.Load(),
		Disk: b.disk.Size(), Hit: c.hit.load(), Miss: c.miss.load(),
	}
}

func (s *Scope[K]) entries() int64 {
	n := int64(0)
	for _, c := range s.back.states {
		n += c.inMemory()
	}
	return n
}

// Linked tells whether Checkpoint can be used: there is a disk.
func (s *Snapshot) Linked() bool { return s.hand != nil }

// Checkpoint puts what was captured and is on a disk into files in dir, which doesn't exist yet; see [Disk]. WriteTo then
// writes the rest only: timers. Without Checkpoint WriteTo writes all.
func (s *Snapshot) Checkpoint(dir string) error {
	s.linked = true
	if err := s.hand.apply(func() error { return s.hand.disk.Checkpoint(dir) }); err != nil {
		return fault.Wrap(fault.StoreFull, err, "link the state's files into %s", dir)
	}
	for _, p := range s.parts {
		if err := p.failure(); err != nil {
			return err
		}
	}
	return nil
}

// open makes the view that WriteTo reads, once.
func (s *Snapshot) open() error {
	if s.hand == nil || s.linked || s.view != nil {
		return nil
	}
	return s.hand.apply(func() (err error) {
		s.view, err = s.hand.disk.Snapshot()
		return err
	})
}

// spool keeps a restored section on the disk until its state is declared: all of them may be too much for memory.
func (b *backing) spool(s *section) error {
	b.spooled++
	s.spool = b.spooled
	w := b.disk.Batch()
	if err := cmp.Or(w.Set(spoolKey(s.spool), s.data), w.Commit()); err != nil {
		return err
	}
	s.data = nil
	return nil
}

func spoolKey(n uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(nil, numberSpool), n)
}

// unspool takes a section back.
func (b *backing) unspool(s section) []byte {
	data, ok, err := b.disk.Get(spoolKey(s.spool), nil)
	if err == nil && !ok {
		err = errShort
	}
	b.must(err, "read what is restored")
	w := b.disk.Batch()
	b.must(cmp.Or(w.Delete(spoolKey(s.spool)), w.Commit()), "read what is restored")
	return data
}

// groupAt is where the key group is in the keys of a state.
func (k *known) groupAt() int {
	if k.kind == kindPanes {
		return 10
	}
	return 2
}

// leave deletes the key groups that aren't owned.
func (b *backing) leave(w Batch) error {
	for _, k := range b.known {
		from, to := k.bounds()
		for {
			var key []byte
			err := b.disk.Scan(from, to, func(found, _ []byte) bool {
				key = append([]byte(nil), found...)
				return false
			})
			if err != nil {
				return err
			}
			if key == nil {
				break
			}
			pane := key[:k.groupAt()]
			lo := binary.BigEndian.AppendUint16(append([]byte(nil), pane...), uint16(b.owner.first))
			hi := binary.BigEndian.AppendUint16(append([]byte(nil), pane...), uint16(b.owner.last+1))
			if from = after(pane); k.kind != kindPanes {
				from = to
			}
			if err := cmp.Or(w.DeleteRange(pane, lo), w.DeleteRange(hi, after(pane))); err != nil {
				return err
			}
			if k.kind != kindPanes {
				break
			}
		}
	}
	return nil
}

// adopt copies the key groups owned from another task's disk.
func (b *backing) adopt(d Disk) error {
	states, had, err := readKnown(d)
	if err != nil {
		return err
	}
	if had.groups != b.owner.groups {
		return fault.New(fault.BadState, "the state has %d key groups, the job %d", had.groups, b.owner.groups).
			WithFix("start with the number of key groups that the state was made with")
	}
	for name, from := range states {
		if err := b.adoptState(d, name, from, had); err != nil {
			return err
		}
	}
	return nil
}

func (b *backing) adoptState(d Disk, name string, from *known, had groupRange) error {
	to, versions, err := b.merge(name, from)
	if err != nil {
		return err
	}
	lo, hi := from.bounds()
	w, at := b.disk.Batch(), from.groupAt()
	var bad error
	var key, val []byte
	err = d.Scan(lo, hi, func(k, v []byte) bool {
		g := int(binary.BigEndian.Uint16(k[at:]))
		if g < max(b.owner.first, had.first) || g > min(b.owner.last, had.last) {
			return true
		}
		form := byte(formGone)
		if len(v) == 0 || v[0] != formGone && int(v[0]) >= len(versions) {
			bad = damaged("a value of state %q has an unknown form", name)
			return false
		}
		if v[0] != formGone {
			form = versions[v[0]]
		}
		key = append(binary.BigEndian.AppendUint16(key[:0], to.number), k[2:]...)
		val = append(append(val[:0], form), v[1:]...)
		if bad = w.Set(key, val); bad == nil && w.Size() > batchBytes {
			bad = w.Commit()
			w = b.disk.Batch()
		}
		return bad == nil
	})
	if err = cmp.Or(bad, err); err != nil {
		return err
	}
	return w.Commit()
}

// merge finds or numbers a state of another disk, and gives the numbers of its signatures here.
func (b *backing) merge(name string, from *known) (to *known, versions []byte, err error) {
	if to = b.known[name]; to == nil {
		to = &known{name: name, kind: from.kind, number: b.nextNumber()}
		b.known[name] = to
	}
	if to.kind != from.kind {
		return nil, nil, damaged("state %q is a %s in one task and a %s in another", name, to.kind, from.kind)
	}
	for _, sig := range from.sigs {
		at := len(to.sigs)
		for i, s := range to.sigs {
			if s == sig {
				at = i
			}
		}
		if at == len(to.sigs) {
			to.sigs = append(to.sigs, sig)
		}
		versions = append(versions, byte(at))
	}
	return to, versions, b.save(to)
}
