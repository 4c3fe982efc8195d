package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// What is right to do about a transaction.
const (
	commit = "commit"
	abort  = "abort"
	leave  = "leave"
)

// What is known of a transaction.
const (
	stateComplete = "complete" // the newest checkpoint has it, and it waits
	stateAbsent   = "absent"   // the newest checkpoint has it, and it doesn't wait any more
	stateUnlisted = "unlisted" // the newest checkpoint has it, and the destination couldn't be asked
	stateDropped  = "dropped"  // the newest checkpoint has it, and the pipeline no longer has its sink
	stateRecorded = "recorded" // it waits, and is recorded as committed
	stateBehind   = "behind"   // it waits, and only an older checkpoint than the newest has it
	stateUnknown  = "unknown"  // it waits, and no checkpoint has it
)

// leftover is a transaction that somebody has still to finish.
type leftover struct {
	Name     string  `json:"transaction"`
	Operator string  `json:"operator"`
	Slot     string  `json:"slot"`
	Epoch    uint64  `json:"epoch,omitempty"`       // 0 = no checkpoint says
	Age      float64 `json:"age_seconds,omitempty"` // 0 = unknown
	State    string  `json:"state"`
	Action   string  `json:"action"`
	Why      string  `json:"why"`

	age     time.Duration
	handle  *sink.Handle // nil if no checkpoint has it
	pending *txn.Pending // nil if it doesn't wait, or the destination can't say
}

// survey is what the checkpoints of a job and its destinations know of its transactions.
type survey struct {
	job, prefix string
	st          store.Store
	p           *engine.Pipeline
	newest      uint64
	live        map[string]sink.Handle // by token: those of the newest checkpoint that aren't recorded as committed
	older       map[string]sink.Handle // by token: those of older ones only
	taken       map[uint64]time.Time
	losses      losses
	task        sink.Task
	committers  map[string]sink.Committer // by operator
	left        []leftover
}

// survey reads the checkpoints.
func (c *command) survey(p *engine.Pipeline, st store.Store) (*survey, error) {
	s := &survey{
		job: p.Plan().Job, st: st, p: p, live: map[string]sink.Handle{}, older: map[string]sink.Handle{}, taken: map[uint64]time.Time{},
		committers: map[string]sink.Committer{},
	}
	s.prefix = cmp.Or(store.PrefixOf(s.job), s.job)
	s.task = sink.Task{Job: s.job, Parallelism: 1, Log: c.log, Metrics: &s.losses, Request: func() {}}
	rec, err := st.Latest()
	if err != nil && c.opts.fallback {
		rec, err = st.Fallback()
	}
	if err != nil || rec == nil {
		return s, err
	}
	s.newest, s.prefix = rec.Epoch, cmp.Or(rec.Prefix, s.job)
	for _, h := range rec.Handles {
		if !st.IsCommitted(h.Token) {
			s.live[h.Token] = h
		}
	}
	for _, i := range st.Records() {
		old, err := st.Load(i.Epoch)
		if err != nil {
			continue // the newest has all that matters
		}
		s.taken[old.Epoch] = old.Taken
		for _, h := range old.Handles {
			if _, is := s.live[h.Token]; !is {
				s.older[h.Token] = h
			}
		}
	}
	return s, nil
}

// losses counts the transactions that a committer has given up by its sink's policy.
type losses int64

func (l *losses) Count(name string, n int64) {
	if name == "lost_transactions" {
		*l += losses(n)
	}
}

func (*losses) Gauge(string, float64)   {}
func (*losses) Observe(string, float64) {}

// operators are those that ever had transactions, and those that may.
func (s *survey) operators() []string {
	names := map[string]bool{}
	for name := range s.st.Granted() {
		names[name] = true
	}
	for _, h := range s.live {
		names[h.Operator] = true
	}
	var out []string
	for name := range names {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// find asks the destinations and says of each transaction what is right. The error is of destinations that don't answer.
func (s *survey) find(ctx context.Context) error {
	var errs []error
	for _, op := range s.operators() {
		if err := s.findOf(ctx, op); err != nil {
			errs = append(errs, fault.At(err, "operator "+op))
		}
	}
	slices.SortFunc(s.left, func(a, b leftover) int { // those without an epoch last
		return cmp.Or(cmp.Compare(a.Epoch-1, b.Epoch-1), cmp.Compare(a.Operator, b.Operator), cmp.Compare(b.age, a.age), cmp.Compare(a.Name, b.Name))
	})
	return errors.Join(errs...)
}

func (s *survey) findOf(ctx context.Context, op string) error {
	t := s.task
	t.Operator, t.Log = op, t.Log.With("operator", op)
	com, err := s.p.Committer(ctx, t)
	if com == nil {
		s.unseen(op, map[bool]string{true: stateDropped, false: stateUnlisted}[err == nil])
		return err
	}
	s.committers[op] = com
	l, ok := sink.As[txn.Lister](com)
	if !ok {
		s.unseen(op, stateUnlisted)
		return nil
	}
	found, err := s.list(ctx, l, op)
	if err != nil {
		s.unseen(op, stateUnlisted)
		return err
	}
	seen := map[string]bool{}
	for _, p := range found {
		if left, is := s.judge(op, p); is {
			s.left = append(s.left, left)
			if left.handle != nil {
				seen[left.handle.Token] = true
			}
		}
	}
	s.unseen(op, stateAbsent, seen)
	return nil
}

// list asks for what waits under the operator's slots, and under those of handles that came with a savepoint of another prefix.
func (s *survey) list(ctx context.Context, l txn.Lister, op string) ([]txn.Pending, error) {
	found, err := l.List(ctx, s.prefix+"-"+op)
	found = slices.DeleteFunc(found, func(p txn.Pending) bool { return !s.ours(op, p.Slot) })
	for _, h := range s.live {
		if err != nil || h.Operator != op || s.ours(op, h.Slot.Name) {
			continue
		}
		var more []txn.Pending
		more, err = l.List(ctx, h.Slot.Name)
		for _, p := range more {
			if p.Slot == h.Slot.Name {
				found = append(found, p)
			}
		}
	}
	return found, err
}

// ours says whether a slot is one of the operator's own, and not of one whose name goes on with a dash.
func (s *survey) ours(op, slot string) bool {
	number, ok := strings.CutPrefix(slot, s.prefix+"-"+op+"-")
	_, err := strconv.ParseUint(number, 10, 64)
	return ok && err == nil
}

// judge says what is right for a transaction that waits; false if it isn't the operator's.
func (s *survey) judge(op string, p txn.Pending) (leftover, bool) {
	l := leftover{Name: p.Name, Operator: op, Slot: p.Slot, age: p.Age, Age: p.Age.Seconds(), pending: &p}
	if p.Token != "" { // as it is called when it doesn't wait, whatever its file's name ends in
		l.Name = txn.NameOf(p.Slot, p.Token)
	}
	live, isLive := s.handleOf(p)
	old, isOld := s.older[p.Token]
	switch {
	case isLive:
		l.complete(live, stateComplete, fmt.Sprintf("epoch %d is complete and its commit isn't recorded; the job does it too, when it starts", live.Epoch))
	case !s.ours(op, p.Slot): // another job's, whose savepoint this one was begun from
		return l, false
	case p.Token != "" && s.st.IsCommitted(p.Token):
		l.Epoch, l.State, l.Action = old.Epoch, stateRecorded, commit
		l.Why = "it is recorded as committed and waits all the same: the destination was perhaps restored from a backup; the job would roll it back when it starts"
	case isOld:
		l.Epoch, l.State, l.Action = old.Epoch, stateBehind, abort
		l.Why = fmt.Sprintf("epoch %d has it, and checkpoint %d, which the job goes on from, doesn't: its records are made again", old.Epoch, s.newest)
	default:
		l.State, l.Action = stateUnknown, abort
		l.Why = "no checkpoint knows it: its epoch never became complete, and its records are made again; the job does it too, when it starts"
	}
	if isOld && !isLive {
		l.handle = &old
	}
	return l, true
}

// handleOf is what the newest checkpoint has of it. A destination without tokens has one transaction a slot, which isn't free again
// before the commit is recorded.
func (s *survey) handleOf(p txn.Pending) (sink.Handle, bool) {
	if p.Token != "" {
		h, ok := s.live[p.Token]
		return h, ok
	}
	for _, h := range s.live {
		if h.Slot.Name == p.Slot {
			return h, true
		}
	}
	return sink.Handle{}, false
}

func (l *leftover) complete(h sink.Handle, state, why string) {
	l.Epoch, l.State, l.Action, l.Why, l.handle = h.Epoch, state, commit, why, &h
}

// unseen adds what the newest checkpoint has of an operator and the destination doesn't show.
func (s *survey) unseen(op, state string, seen ...map[string]bool) {
	for token, h := range s.live {
		if h.Operator != op || len(seen) > 0 && seen[0][token] {
			continue
		}
		l := leftover{Name: txn.NameOf(h.Slot.Name, token), Operator: op, Slot: h.Slot.Name}
		if at, ok := s.taken[h.Epoch]; ok {
			l.age = time.Since(at)
			l.Age = l.age.Seconds()
		}
		switch state {
		case stateAbsent:
			l.complete(h, state, fmt.Sprintf("epoch %d is complete and its commit isn't recorded, and it doesn't wait any more: "+
				"the destination's evidence will say whether it was committed", h.Epoch))
		case stateUnlisted:
			l.complete(h, state, fmt.Sprintf("epoch %d is complete and its commit isn't recorded; what the destination has of it couldn't be seen", h.Epoch))
		default:
			l.complete(h, state, fmt.Sprintf("epoch %d is complete and its commit isn't recorded, and this pipeline has no two-phase sink %q: "+
				"commit it with a binary that has", h.Epoch, op))
			l.Action = leave
		}
		s.left = append(s.left, l)
	}
}

func (s *survey) close() {
	for op, com := range s.committers {
		if err := com.Close(); err != nil {
			s.task.Log.Warn("close committer", "operator", op, "error", err)
		}
	}
}
