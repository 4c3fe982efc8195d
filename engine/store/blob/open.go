package blob

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/durable"
	"github.com/weirline/weirline/internal/fault"
)

const (
	// claims is how often Open tries to be next in the sequence while others write there.
	claims = 20

	// numberJump is how many epoch numbers are skipped if the newest entry is lost. It is far more than a job can use up
	// between two entries.
	numberJump = 1 << 20
)

// found is what the log was found to have.
type found struct {
	head    entry // the newest entry that is whole; Seq is that of the newest of all
	commits map[string]uint64
	old     []string // keys of the entries
	lost    error    // why the newest one can't be read
}

// errMoved says that the log changed while it was read.
var errMoved = errors.New("the log changes too fast to be read")

// open reads what there is and takes the claim.
func (s *Store) open() error {
	if !s.o.ReadOnly {
		if err := s.probe(); err != nil {
			return err
		}
	}
	f, err := s.enter()
	if err != nil {
		return err
	}
	s.commits = f.commits
	if err := s.loadKnown(f); err != nil {
		return err
	}
	if !s.o.ReadOnly {
		s.drop(f.old)
		if s.bad == nil && !slices.ContainsFunc(s.known, func(k known) bool { return !k.Whole }) {
			s.sweep()
		}
	}
	return nil
}

// probe proves that the store can be written, and that it refuses to create what is there.
func (s *Store) probe() error {
	key := probePrefix + rand.Text()
	err := s.b.Create(s.ctx, key, []byte("weirline"))
	if err == nil || errors.Is(err, fs.ErrExist) {
		if err = s.b.Create(s.ctx, key, []byte("weirline")); err == nil {
			err = fault.New(fault.NoCreate, "%s accepted a second create of the same object, where it should answer that it exists", s.b)
		} else if errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	if err2 := s.b.Delete(s.ctx, []string{key}); err == nil {
		err = err2
	}
	if err != nil && fault.CodeOf(err) == "" {
		return advise(fault.Wrap(fault.StateDir, err, "write to %s", s.b), err)
	}
	return err
}

// enter reads the log and adds the claim to it, again from the start when somebody else was quicker.
func (s *Store) enter() (found, error) {
	for range claims {
		f, err := s.readLog()
		if errors.Is(err, errMoved) {
			s.wait(20 * time.Millisecond)
			continue
		}
		if err == nil {
			err = s.checkJob(&f)
		}
		if err != nil {
			return f, err
		}
		if s.o.ReadOnly {
			s.head = f.head
			return f, nil
		}
		err = s.claim(&f)
		if err == nil || fault.CodeOf(err) != fault.Fenced.ID {
			return f, err
		}
		s.fenced = nil // not fenced: never in
	}
	return found{}, fault.Wrap(fault.StateDir, errMoved, "claim %s: others claim it all the time", s.b).
		WithFix("stop the other copies of the job")
}

// claim adds the entry that makes this process the owner.
func (s *Store) claim(f *found) error {
	e := f.head
	s.next = max(e.Below, 1)
	if f.lost != nil {
		s.next, e.Lost = s.next+numberJump, true
	}
	e.Seq++
	s.self.Claim = e.Seq
	e.Job, e.Kind, e.Owner, e.At, e.Released = s.o.Job, "claim", s.self, time.Now().UTC(), false
	e.Below, e.Base, e.Commits = s.next+numberBlock, e.Seq, maps.Clone(f.commits)
	data, err := durable.Encode(entryMagic, entryFormat, &e)
	if err != nil {
		return fmt.Errorf("encode entry: %w", err)
	}
	s.head = f.head
	s.head.Base = e.Base // old entries are deleted later, when all is read
	s.pending = &attempt{e: e, data: data}
	if err := s.settle(); err != nil {
		s.pending = nil
		if errors.Is(err, store.ErrUnknown) {
			err = advise(fault.Wrap(fault.StateDir, err, "claim %s", s.b), err)
		}
		return s.full(err, logKey(e.Seq), "claim")
	}
	if old := f.head; old.Seq > 0 && !old.Released {
		s.log.Warn("took over a claim that was never given back; if its process still lives, it ends when it next completes a checkpoint",
			"place", s.b.String(), "host", old.Owner.Host, "pid", old.Owner.PID, "run", old.Owner.Run, "last_sign", time.Since(old.At).Round(time.Second))
	}
	return nil
}

// checkJob refuses the state of another job, and a place that isn't what was asked for.
func (s *Store) checkJob(f *found) error {
	h := f.head
	nothing := len(h.Epochs)+len(h.Grants)+len(f.commits) == 0
	switch {
	case s.o.ReadOnly && h.Seq == 0:
		return fault.New(fault.NoCheckpoint, "%s has no checkpoints", s.b)
	case s.o.New && h.Seq > 0:
		return fault.New(fault.SavepointTaken, "%s isn't empty: it has %s", s.b, logKey(h.Seq))
	case s.o.Job == "":
		s.o.Job = h.Job
	case h.Seq > 0 && h.Job != s.o.Job && !nothing:
		return fault.New(fault.OtherJob, "the state in %s belongs to job %q, not to %q", s.b, h.Job, s.o.Job)
	}
	return nil
}

// readLog reads the newest entry and the commits since the last one that has them all.
func (s *Store) readLog() (found, error) {
	list, err := s.b.List(s.ctx, logPrefix, "", 0)
	if err != nil {
		return found{}, advise(fault.Wrap(fault.StateDir, err, "list %s/%s", s.b, logPrefix), err)
	}
	f := found{commits: map[string]uint64{}}
	var seqs []uint64
	for _, o := range list {
		if n, ok := seqOf(o.Key); ok {
			seqs, f.old = append(seqs, n), append(f.old, o.Key)
		}
	}
	if len(seqs) == 0 {
		return f, s.checkEmpty()
	}
	newest := seqs[len(seqs)-1]
	i := len(seqs) - 1
	for ; i >= 0; i-- {
		e, err := s.readEntry(seqs[i])
		if err == nil {
			f.head = e
			break
		}
		if err := s.salvage(err, seqs[i]); err != nil {
			return f, err
		}
		f.lost = s.unreadable(err, logKey(seqs[i]), "entry")
	}
	f.head.Seq = newest
	return f, s.readCommits(&f, seqs[:i+1])
}

// readCommits adds up the commits from the head's base on.
func (s *Store) readCommits(f *found, seqs []uint64) error {
	want := f.head.Base
	for _, n := range seqs {
		if n < f.head.Base {
			continue
		}
		for ; want < n; want++ {
			if err := s.salvage(fs.ErrNotExist, want); err != nil {
				return err
			}
		}
		want++
		e, err := s.readEntry(n)
		if err != nil {
			if err := s.salvage(err, n); err != nil {
				return err
			}
			continue
		}
		maps.Copy(f.commits, e.Commits)
	}
	return nil
}

// checkEmpty tells a new place from one whose log was deleted.
func (s *Store) checkEmpty() error {
	left, err := s.b.List(s.ctx, runPrefix, "", 1)
	if err != nil {
		return advise(fault.Wrap(fault.StateDir, err, "list %s/%s", s.b, runPrefix), err)
	}
	if len(left) > 0 {
		return fault.New(fault.DamagedEpoch, "%s has %s, but its log is gone", s.b, left[0].Key).
			WithFix("restore the objects under %s, or begin anew in an empty place; look for lifecycle rules that delete objects", logPrefix)
	}
	return nil
}

func (s *Store) readEntry(seq uint64) (entry, error) {
	var e entry
	data, err := s.b.Get(s.ctx, logKey(seq), 0, -1)
	if err == nil {
		err = durable.Decode(entryMagic, entryFormat, data, &e)
	}
	if err == nil && e.Seq != seq {
		err = fmt.Errorf("%w: it is entry %d", store.ErrDamaged, e.Seq)
	}
	return e, err
}

// salvage decides about an entry that can't be read. One that is gone was perhaps deleted by a newer owner: then the log
// has moved on, and is read again.
func (s *Store) salvage(err error, seq uint64) error {
	if errors.Is(err, fs.ErrNotExist) {
		later, listErr := s.b.List(s.ctx, logPrefix, logKey(seq), 0)
		if listErr != nil {
			return s.unreadable(listErr, logPrefix, "list of entries")
		}
		if len(later) > 0 {
			n, _ := seqOf(later[len(later)-1].Key)
			if e, err := s.readEntry(n); err == nil && e.Base > seq {
				return errMoved
			}
		}
	}
	if damage := errors.Is(err, store.ErrDamaged) || errors.Is(err, fs.ErrNotExist); damage && s.o.Salvage {
		s.log.Warn("damaged entry accepted as lost", "place", s.b.String(), "key", logKey(seq), "error", err)
		return nil
	}
	return s.unreadable(err, logKey(seq), "entry")
}
