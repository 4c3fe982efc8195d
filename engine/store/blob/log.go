package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/durable"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

const (
	logPrefix   = "log/"
	runPrefix   = "run/"
	probePrefix = "probe/"

	entryMagic  = "weirLOG\n"
	entryFormat = 1

	// fullEvery is after how many entries one has the whole list of commits.
	fullEvery = 32

	// tries is how often an entry whose outcome is unknown is created again before the caller is told.
	tries = 4
)

// entry is one of the sequence. All but Commits is what is true after it, not what changed.
type entry struct {
	Job      string            `cbor:"1,keyasint"`
	Seq      uint64            `cbor:"2,keyasint"`
	Kind     string            `cbor:"3,keyasint"` // claim, epoch, grant, commit, numbers, drop, release: what it was written for
	Owner    owner             `cbor:"4,keyasint"`
	At       time.Time         `cbor:"5,keyasint"`
	Below    uint64            `cbor:"6,keyasint"`  // every epoch number handed out is below this
	Epochs   []epochRef        `cbor:"7,keyasint"`  // complete and retained, rising; the last is the newest
	Grants   map[string]int    `cbor:"8,keyasint"`  // operator -> slots
	Commits  map[string]uint64 `cbor:"9,keyasint"`  // token -> epoch; those it adds, or with Base == Seq all
	Base     uint64            `cbor:"10,keyasint"` // the entry the list of commits begins with
	Released bool              `cbor:"11,keyasint"` // the owner has closed the store
	Lost     bool              `cbor:"12,keyasint"` // an entry was lost, so there was perhaps an epoch newer than Epochs
}

// owner is who writes entries: for people, and to tell one's own from others'.
type owner struct {
	Claim uint64    `cbor:"1,keyasint"` // number of its first entry
	PID   int       `cbor:"2,keyasint"`
	Host  string    `cbor:"3,keyasint"`
	Run   string    `cbor:"4,keyasint"`
	ID    string    `cbor:"5,keyasint"` // random
	Since time.Time `cbor:"6,keyasint"`
}

func (o owner) String() string {
	return fmt.Sprintf("process %d on %s (run %s, since %s)", o.PID, o.Host, o.Run, o.Since.Format(time.RFC3339))
}

// epochRef names the record of a complete epoch.
type epochRef struct {
	Epoch uint64 `cbor:"1,keyasint"`
	File  string `cbor:"2,keyasint"`
	Sum   uint64 `cbor:"3,keyasint"` // xxhash64 of the whole object
}

func logKey(seq uint64) string { return fmt.Sprintf("%s%020d", logPrefix, seq) }

func seqOf(key string) (uint64, bool) {
	digits := strings.TrimPrefix(key, logPrefix)
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && len(digits) == 20 && n > 0
}

// attempt is an entry on its way.
type attempt struct {
	e     entry
	data  []byte
	apply func() // what is true once it is there; called with pub held
	sent  bool   // it may be there
}

// append adds an entry: the newest one, changed. The caller holds pub. Its three outcomes are those of Publish; of an
// unknown one the store remembers the entry, and nothing else is added before it is settled.
func (s *Store) append(kind string, change func(*entry), apply func()) error {
	if err := s.usable(); err != nil {
		return err
	}
	if err := s.settle(); err != nil {
		return err
	}
	e := s.head
	e.Seq, e.Kind, e.At, e.Commits = e.Seq+1, kind, time.Now().UTC(), nil
	change(&e)
	if e.Seq-e.Base >= fullEvery {
		all := s.tokens(e.Epochs)
		maps.Copy(all, e.Commits)
		e.Base, e.Commits = e.Seq, all
	}
	data, err := durable.Encode(entryMagic, entryFormat, &e)
	if err != nil {
		return fmt.Errorf("encode entry: %w", err)
	}
	s.pending = &attempt{e: e, data: data, apply: apply}
	return s.settle()
}

// settle makes the pending entry, if there is one, and finds out what became of it. The caller holds pub.
func (s *Store) settle() error {
	p := s.pending
	if p == nil {
		return nil
	}
	var err error
	for try := range tries {
		if try > 0 {
			s.wait(time.Duration(50<<try) * time.Millisecond)
		}
		if err = s.try(p); err == nil {
			s.pending = nil
			s.accept(p)
			return nil
		}
		if fault.CodeOf(err) == fault.Fenced.ID || !p.sent {
			s.pending = nil
			return err
		}
	}
	return s.full(fmt.Errorf("%w: %w", store.ErrUnknown, err), logKey(p.e.Seq), "write entry")
}

// try creates the entry, or finds it created, and looks for later ones. After an error sent says whether it may be there.
func (s *Store) try(p *attempt) error {
	key := logKey(p.e.Seq)
	err := s.b.Create(s.ctx, key, p.data)
	switch {
	case errors.Is(err, fs.ErrExist):
		has, err := s.b.Get(s.ctx, key, 0, -1)
		if err != nil {
			p.sent = true // it may be ours, of a request whose answer was lost
			return err
		}
		if !bytes.Equal(has, p.data) {
			return s.fence(has)
		}
	case errors.Is(err, ErrRefused):
		return err // sent stays: an earlier try may have come through
	}
	p.sent = true
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return s.alone(key)
}

// alone looks for entries after one's own.
func (s *Store) alone(key string) error {
	later, err := s.b.List(s.ctx, logPrefix, key, 1)
	if err != nil || len(later) == 0 {
		return err
	}
	has, err := s.b.Get(s.ctx, later[0].Key, 0, -1)
	if err != nil {
		has = nil
	}
	return s.fence(has)
}

// fence ends this store's part: somebody else has written an entry, which it is told about.
func (s *Store) fence(by []byte) error {
	who := "another process"
	var e entry
	if durable.Decode(entryMagic, entryFormat, by, &e) == nil {
		who = e.Owner.String()
	}
	err := fault.New(fault.Fenced, "the state in %s was taken over by %s", s.b, who)
	s.mu.Lock()
	s.fenced = err
	s.mu.Unlock()
	return sink.Permanent(err)
}

// accept makes a durable entry the newest one.
func (s *Store) accept(p *attempt) {
	oldBase := s.head.Base
	s.mu.Lock()
	s.head = p.e
	if p.e.Base == p.e.Seq {
		s.commits = maps.Clone(p.e.Commits)
	} else {
		maps.Copy(s.commits, p.e.Commits)
	}
	s.mu.Unlock()
	if p.apply != nil {
		p.apply()
	}
	if p.e.Base != oldBase {
		var keys []string
		for n := oldBase; n < p.e.Base; n++ {
			keys = append(keys, logKey(n))
		}
		s.drop(keys)
	}
}

// drop deletes entries that nobody needs to read any more. What fails is found by the next Open.
func (s *Store) drop(keys []string) {
	if len(keys) == 0 {
		return
	}
	if err := s.b.Delete(s.ctx, keys); err != nil {
		s.log.Warn("can't delete old entries", "place", s.b.String(), "error", err)
	}
}

// usable says why nothing can be written any more.
func (s *Store) usable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.o.ReadOnly:
		return fault.New(fault.StateDir, "write to %s: it was opened for reading only", s.b)
	case s.closed:
		return fault.Wrap(fault.StateDir, fs.ErrClosed, "use %s", s.b)
	case s.fenced != nil:
		return sink.Permanent(s.fenced)
	}
	return nil
}

// wait sleeps, but not beyond Close.
func (s *Store) wait(d time.Duration) {
	ctx, cancel := context.WithTimeout(s.ctx, d)
	defer cancel()
	<-ctx.Done()
}
