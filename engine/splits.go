package engine

import (
	"context"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/source"
)

// splitDriver is a source on the coordinator's side without its types: its enumerator and its split table. Methods run on
// the coordinator's goroutine, except discover and next, which run on one goroutine of their own.
type splitDriver interface {
	restore(s store.Source) error
	discover(ctx context.Context) (discovered, error)
	next(ctx context.Context, finished []any) (discovered, error)

	found(d discovered) []assignment
	event(kind source.EventKind, reader int) []assignment
	finish(id string, at any, pos []byte)

	snapshot() store.Source
	merge(s *store.Source, acked []store.Split) error
	state() splitCounts
	finishedSplits() []any
	backlog() bool
}

// discovered is what one call of Discover or Next brought, with the enumerator's state right after it.
type discovered struct {
	splits any // []S
	done   bool
	more   bool // of next: there is a further stage
	state  []byte
}

// assignment is a split on its way to a task.
type assignment struct {
	reader    int
	split     any
	watermark int64
}

// splitCounts is what the coordinator decides by.
type splitCounts struct {
	discovered bool // Discover has reported at least once
	done       bool // and needs no further call for this stage
	unstarted  int
	unfinished int
	last       bool // no stage follows
	ordered    bool
	total      int
}

// splitTable is the one place that says where each split is: unassigned, with a reader, or finished. It is a pure state
// machine but for discover and next.
type splitTable[S source.Split] struct {
	enum    source.Enumerator[S]
	staged  source.Staged[S]
	states  source.Stateful
	ordered bool
	late    source.Backlog

	rows  []*row[S]
	byID  map[string]*row[S]
	load  map[int]int // live reader -> splits
	saved []byte      // enumerator state that goes with the rows
	seen  bool
	done  bool
	lastS bool
}

// row is a split in the table.
type row[S source.Split] struct {
	split     S
	pos       []byte // encoded split, of unassigned and finished ones
	owner     int    // reader, or nobody
	started   bool
	finished  bool
	watermark int64
}

const nobody = -1

func newSplitTable[S source.Split](e source.Enumerator[S]) *splitTable[S] {
	t := &splitTable[S]{enum: e, byID: map[string]*row[S]{}, load: map[int]int{}, lastS: true}
	t.states, _ = source.As[source.Stateful](e)
	t.late, _ = source.As[source.Backlog](e)
	if t.staged, _ = source.As[source.Staged[S]](e); t.staged != nil {
		t.lastS = t.staged.Last()
	}
	if o, ok := source.As[source.Ordered](e); ok {
		t.ordered = o.Ordered()
	}
	return t
}

func (t *splitTable[S]) restore(s store.Source) error {
	if t.states != nil && s.Enumerator != nil {
		if err := t.states.Restore(s.Enumerator); err != nil {
			return fault.Wrap(fault.BadState, err, "the enumerator can't take back its state")
		}
		t.saved = s.Enumerator
	}
	if t.staged != nil {
		t.lastS = t.staged.Last()
	}
	for _, r := range s.Splits {
		split, err := source.DecodeSplit[S](r.Position)
		if err != nil {
			return fault.Wrap(fault.BadPosition, err, "decode position of split %q", r.ID)
		}
		row := &row[S]{split: split, pos: r.Position, owner: nobody, finished: r.Finished, watermark: r.Watermark}
		t.rows, t.byID[r.ID] = append(t.rows, row), row
	}
	t.done = s.Discovered
	t.seen = s.Discovered
	return nil
}

func (t *splitTable[S]) discover(ctx context.Context) (discovered, error) {
	found, done, err := t.enum.Discover(ctx)
	if err != nil {
		return discovered{}, err
	}
	return t.after(discovered{splits: found, done: done})
}

func (t *splitTable[S]) next(ctx context.Context, finished []any) (discovered, error) {
	done := make([]S, len(finished))
	for i, f := range finished {
		done[i] = f.(S)
	}
	more, err := t.staged.Next(ctx, done)
	if err != nil {
		return discovered{}, err
	}
	return t.after(discovered{splits: []S(nil), more: more})
}

func (t *splitTable[S]) after(d discovered) (discovered, error) {
	if t.states == nil {
		return d, nil
	}
	var err error
	d.state, err = t.states.Snapshot()
	return d, err
}

// found takes news from discover or next into the table and deals what is new.
func (t *splitTable[S]) found(d discovered) []assignment {
	// A stage that was derived and not looked into yet is not discovered: until it is, its records may be as old as any.
	t.seen, t.done, t.saved = !d.more, d.done, d.state
	if t.staged != nil {
		t.lastS = t.staged.Last()
	}
	var fresh []S
	for _, s := range d.splits.([]S) {
		id := s.ID()
		if t.byID[id] != nil {
			continue
		}
		r := &row[S]{split: s, owner: nobody, watermark: minTime}
		t.rows, t.byID[id] = append(t.rows, r), r
		fresh = append(fresh, s)
	}
	if len(fresh) == 0 {
		fresh = t.unassigned() // restored ones that the enumerator couldn't deal before this call of Discover
	}
	if len(fresh) == 0 {
		return nil
	}
	return t.assign(source.Event[S]{Kind: source.Found, Splits: fresh})
}

// event tells the enumerator what a reader did. Restored splits are presented as found when the first reader is up.
func (t *splitTable[S]) event(kind source.EventKind, reader int) []assignment {
	var out []assignment
	first := len(t.load) == 0
	if kind == source.ReaderUp {
		t.load[reader] = 0
	}
	if un := t.unassigned(); kind == source.ReaderUp && first && len(un) > 0 {
		out = t.assign(source.Event[S]{Kind: source.Found, Splits: un})
	}
	return append(out, t.assign(source.Event[S]{Kind: kind, Reader: reader})...)
}

func (t *splitTable[S]) unassigned() []S {
	var out []S
	for _, r := range t.rows {
		if r.owner == nobody && !r.finished {
			out = append(out, r.split)
		}
	}
	return out
}

func (t *splitTable[S]) assign(ev source.Event[S]) []assignment {
	load := make(map[int]int, len(t.load))
	for r, n := range t.load {
		load[r] = n
	}
	to := source.NewAssignments(t.unassigned(), load)
	t.enum.Assign(ev, to)
	var out []assignment
	for _, g := range to.Given() {
		r := t.byID[g.Split.ID()]
		r.owner, r.started, r.pos = g.Reader, true, nil
		t.load[g.Reader]++
		out = append(out, assignment{reader: g.Reader, split: r.split, watermark: r.watermark})
	}
	return out
}

// finish marks a split as read to its end.
func (t *splitTable[S]) finish(id string, at any, pos []byte) {
	if r := t.byID[id]; r != nil && !r.finished {
		t.load[r.owner]--
		r.finished, r.owner, r.split, r.pos = true, nobody, at.(S), pos
	}
}

// snapshot is the table at the instant an epoch begins. Rows of splits that a reader has wait for its ack; their position is
// nil until then.
func (t *splitTable[S]) snapshot() store.Source {
	out := store.Source{Enumerator: t.saved, Discovered: t.done}
	for _, r := range t.rows {
		s := store.Split{ID: r.split.ID(), Position: r.pos, Finished: r.finished, Started: r.started, Watermark: r.watermark}
		if r.owner == nobody && s.Position == nil {
			s.Position, _ = source.EncodeSplit(r.split) // it was encoded before, or is as it was found
		}
		out.Splits = append(out.Splits, s)
	}
	return out
}

// merge puts the positions the readers acked into the snapshot, and checks that each split is in exactly one place.
func (t *splitTable[S]) merge(s *store.Source, acked []store.Split) error {
	byID := make(map[string]store.Split, len(acked))
	for _, a := range acked {
		if _, twice := byID[a.ID]; twice {
			return fault.New(fault.Misplaced, "split %q was acked by two readers", a.ID)
		}
		byID[a.ID] = a
	}
	for i := range s.Splits {
		r := &s.Splits[i]
		a, held := byID[r.ID]
		delete(byID, r.ID)
		switch {
		case held && r.Position != nil && !(r.Finished && a.Finished):
			return fault.New(fault.Misplaced, "split %q is both with a reader and with the coordinator", r.ID)
		case held:
			*r = a
		case r.Position == nil:
			return fault.New(fault.Misplaced, "split %q is with nobody", r.ID)
		}
	}
	for id := range byID {
		return fault.New(fault.Misplaced, "a reader has split %q, which the coordinator doesn't know", id)
	}
	return nil
}

func (t *splitTable[S]) state() splitCounts {
	c := splitCounts{discovered: t.seen, done: t.done, last: t.lastS, ordered: t.ordered, total: len(t.rows)}
	for _, r := range t.rows {
		if !r.finished {
			c.unfinished++
			if !r.started {
				c.unstarted++
			}
		}
	}
	return c
}

func (t *splitTable[S]) backlog() bool { return t.late != nil && t.late.Backlog() }

func (t *splitTable[S]) finishedSplits() []any {
	var out []any
	for _, r := range t.rows {
		if r.finished {
			out = append(out, r.split)
		}
	}
	return out
}
