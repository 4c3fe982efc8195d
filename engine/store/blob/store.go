package blob

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// numberBlock is how many epoch numbers are reserved by one entry. A crash leaves a gap of up to as many.
const numberBlock = 1000

// Store is a store.Store in a Bucket.
type Store struct {
	b      Bucket
	o      store.Options
	log    *slog.Logger
	ctx    context.Context //nolint:containedctx // the calls of a store.Store have none; Close ends it
	cancel context.CancelFunc
	self   owner

	// Lock order: pub, mu. Pub puts the entries in order and is held over requests, because their order is what it guards.
	pub     sync.Mutex
	pending *attempt // under pub: an entry that may be there
	fresh   *known   // under pub: the epoch that pending completes
	next    uint64   // under pub: the next epoch number

	mu      sync.Mutex // guards what follows; never held over a request
	head    entry      // the newest entry; written under pub and mu, so that either is enough to read it
	commits map[string]uint64
	known   []known // complete epochs that are retained, rising
	cur     uint64  // the newest complete epoch; 0 = none, or not known
	bad     error   // why the newest epoch can't be used; nil after Fallback
	skip    bool    // Fallback was used: epochs that aren't whole go with the next Publish
	pinned  map[uint64]bool
	blobs   map[string]made // finished by this process and not yet named by a complete epoch
	writing map[string]bool
	garbage []string // keys to be deleted
	fenced  error
	closed  bool
}

// made is a blob of an epoch that isn't complete.
type made struct {
	epoch uint64
	size  int64
}

// OpenBucket opens the state in a bucket and takes the claim, fencing an older owner. Errors: fault.OtherJob, NewerFormat,
// StateDir with what to do about access, NoCreate, SavepointTaken, NoCheckpoint, and DamagedEpoch for damage that Latest and
// Fallback can't speak about.
func OpenBucket(b Bucket, o store.Options) (*Store, error) {
	if o.Job == "" && !o.ReadOnly {
		return nil, fault.New(fault.StateDir, "open %s: no job name given", b)
	}
	o = o.WithDefaults()
	s := &Store{
		b: b, o: o, log: o.Log, pinned: map[uint64]bool{}, blobs: map[string]made{}, writing: map[string]bool{}, self: newOwner(o),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := s.open(); err != nil {
		s.cancel()
		return nil, err
	}
	return s, nil
}

// Close gives the claim back and notes how far numbers were used. What can't be deleted or written is only logged: a
// claim that isn't given back is taken over.
func (s *Store) Close() error {
	s.pub.Lock()
	defer s.pub.Unlock()
	switch err := s.usable(); {
	case err != nil:
	case s.o.New && s.newest() == 0 && s.pending == nil:
		s.clear()
	default:
		s.collect()
		err := s.append("release", func(e *entry) { e.Below, e.Released = s.next, true }, nil)
		if err != nil {
			s.log.Warn("can't give the claim back", "place", s.b.String(), "error", err)
		}
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	return nil
}

// Holder says who had the claim when a store for reading was opened, "" if it had been given back: a process that lives, or one
// that died with it.
func (s *Store) Holder() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.head; h.Seq > 0 && !h.Released {
		return fmt.Sprintf("process %d on %s, whose last sign is of %s", h.Owner.PID, h.Owner.Host, h.At.Format(time.RFC3339))
	}
	return ""
}

func (s *Store) newest() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cur
}

// clear removes a savepoint that didn't become one.
func (s *Store) clear() {
	var keys []string
	for _, prefix := range []string{runPrefix, logPrefix} { // the log last
		list, err := s.b.List(s.ctx, prefix, "", 0)
		if err != nil {
			s.log.Warn("can't remove an unfinished savepoint", "place", s.b.String(), "error", err)
			return
		}
		for _, o := range list {
			keys = append(keys, o.Key)
		}
	}
	if err := s.b.Delete(s.ctx, keys); err != nil {
		s.log.Warn("can't remove an unfinished savepoint", "place", s.b.String(), "error", err)
	}
}

// NextEpoch implements store.Epochs.
func (s *Store) NextEpoch() (uint64, error) {
	s.pub.Lock()
	defer s.pub.Unlock()
	if err := s.usable(); err != nil {
		return 0, err
	}
	if s.next >= s.head.Below {
		err := s.append("numbers", func(e *entry) { e.Below = s.next + numberBlock }, nil)
		if err != nil {
			return 0, s.full(err, logPrefix, "reserve epoch numbers")
		}
	}
	n := s.next
	s.next++
	return n, nil
}

// Grant implements store.Ledger.
func (s *Store) Grant(op string, upTo int) error {
	s.pub.Lock()
	defer s.pub.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	if s.head.Grants[op] >= upTo {
		return nil
	}
	err := s.append("grant", func(e *entry) {
		e.Grants = maps.Clone(e.Grants)
		if e.Grants == nil {
			e.Grants = map[string]int{}
		}
		e.Grants[op] = max(upTo, e.Grants[op]) // one that was pending may have granted more
	}, nil)
	if err != nil {
		return s.full(err, logPrefix, "grant %d slots to %s", upTo, op)
	}
	return nil
}

// Granted implements store.Ledger.
func (s *Store) Granted() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]int{}
	maps.Copy(out, s.head.Grants)
	return out
}

// Committed implements store.Ledger.
func (s *Store) Committed(hs []sink.Handle) error {
	s.pub.Lock()
	defer s.pub.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	added := map[string]uint64{}
	s.mu.Lock()
	for _, h := range hs {
		if _, had := s.commits[h.Token]; !had {
			added[h.Token] = h.Epoch
		}
	}
	s.mu.Unlock()
	if len(added) == 0 {
		return nil
	}
	if err := s.append("commit", func(e *entry) { e.Commits = added }, nil); err != nil {
		return s.full(err, logPrefix, "record %d commits", len(hs))
	}
	return nil
}

// IsCommitted implements store.Ledger.
func (s *Store) IsCommitted(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.commits[token]
	return ok
}

// tokens lists the commits somebody can still ask for when these epochs are retained.
func (s *Store) tokens(epochs []epochRef) map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	live := map[string]bool{}
	for _, k := range s.withFresh() {
		for _, t := range k.tokens {
			live[t] = true
		}
	}
	out := maps.Clone(s.commits)
	if out == nil {
		out = map[string]uint64{}
	}
	if len(epochs) > 0 {
		maps.DeleteFunc(out, func(t string, epoch uint64) bool { return epoch < epochs[0].Epoch && !live[t] })
	}
	return out
}

// withFresh is the retained epochs and the one that is being completed. The caller holds pub and mu.
func (s *Store) withFresh() []known {
	if s.fresh == nil {
		return s.known
	}
	return append(slices.Clone(s.known), *s.fresh)
}

// Records implements store.Epochs.
func (s *Store) Records() []store.Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]store.Info, 0, len(s.known))
	for _, k := range s.known {
		out = append(out, k.Info)
	}
	return out
}

// Pin implements store.Epochs.
func (s *Store) Pin(epochs ...uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.pinned)
	for _, e := range epochs {
		s.pinned[e] = true
	}
}

func newOwner(o store.Options) owner {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	w := owner{PID: os.Getpid(), Host: host, Run: o.Run, ID: rand.Text(), Since: time.Now().UTC()}
	if w.Run == "" {
		w.Run = w.ID
	}
	return w
}

// full is the error of something that couldn't be written.
func (s *Store) full(err error, key, what string, args ...any) error {
	if fault.CodeOf(err) != "" {
		return err
	}
	e := fault.Wrap(fault.StoreFull, err, "%s at %s/%s", fmt.Sprintf(what, args...), s.b, key)
	return advise(e, err)
}

// unreadable is the error of something that couldn't be read: damage, a newer version, or the store's refusal.
func (s *Store) unreadable(err error, key, what string) error {
	switch newer, isNewer := errors.AsType[*store.NewerError](err); {
	case fault.CodeOf(err) != "":
		return err
	case isNewer:
		return fault.New(fault.NewerFormat, "%s %s/%s has %s", what, s.b, key, newer)
	case errors.Is(err, store.ErrDamaged) || errors.Is(err, fs.ErrNotExist):
		return fault.Wrap(fault.DamagedEpoch, err, "read %s %s/%s", what, s.b, key)
	default:
		return advise(fault.Wrap(fault.StateDir, err, "read %s %s/%s", what, s.b, key), err)
	}
}

// Advice is what a bucket's error may have beside its text: what the user can do about it.
type Advice interface {
	error
	Advice() string
}

func advise(e *fault.Error, err error) *fault.Error {
	if a, ok := errors.AsType[Advice](err); ok {
		return e.WithFix("%s", a.Advice())
	}
	return e
}

var _ store.Store = (*Store)(nil)
