// Package splits has the split table of a source: the one place that says where each split is, so that it is in exactly one.
//
//	t := splits.New(enumerator)         // the coordinator, when a source's region comes up
//	err := t.Restore(record)            // before anything else, if there is something to restore
//	news, err := t.Discover(ctx)        // on a goroutine of the caller's own, as is Next: they ask the system outside
//	to := t.Found(news)                 // what each reader is given
//	to = t.Event(source.ReaderUp, 0)
//	t.Finish(id, split, position)       // a reader has come to a split's end
//	row := t.Snapshot()                 // when an epoch begins
//	err = t.Merge(&row, acked)          // when its tasks have acked: their positions join the row
//
// It is a pure state machine but for Discover and Next: the coordinator's goroutine owns it and nothing in it waits.
package splits

import (
	"context"
	"math"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/source"
)

// Driver is a [Table] without its type parameter: each any is an S. Methods run on the coordinator's goroutine, except
// Discover and Next, which run on one goroutine of their own.
type Driver interface {
	Restore(s store.Source) error
	Discover(ctx context.Context) (News, error)
	Next(ctx context.Context, finished []any) (News, error)

	Found(n News) []Assignment
	Event(kind source.EventKind, reader int) []Assignment
	Finish(id string, at any, pos []byte)

	Snapshot() store.Source
	Merge(s *store.Source, acked []store.Split) error
	State() Counts
	Finished() []any
	Backlog() bool
}

// News is what one call of Discover or Next brought.
type News struct {
	Splits any    // []S of a Table[S]
	Done   bool   // Discover needn't be called again for this stage
	More   bool   // of Next: there is a further stage
	State  []byte // the enumerator's, right after the call; nil if it has none
}

// Assignment is a split on its way to a task.
type Assignment struct {
	Reader    int
	Split     any   // S
	Watermark int64 // event time it had reached, in microseconds since 1970; NoWatermark if none
}

// NoWatermark is the event time of a split that nobody has read yet.
const NoWatermark = math.MinInt64

// Counts is what the coordinator decides by.
type Counts struct {
	Discovered bool // Discover has reported at least once
	Done       bool // and needs no further call for this stage
	Unstarted  int  // splits that no reader has had
	Unfinished int  // splits that aren't read to their end
	Last       bool // no stage follows
	Ordered    bool // splits are dealt in the order of event time
}

// Table is the split table of one source: a row for each split, which is unassigned, with a reader, or finished.
type Table[S source.Split] struct {
	enum    source.Enumerator[S]
	staged  source.Staged[S]
	states  source.Stateful
	ordered bool
	late    source.Backlog

	rows  []*row[S]
	byID  map[string]*row[S]
	load  map[int]int // live reader -> splits
	saved []byte      // enumerator state that goes with the rows
	seen  bool        // Discover has reported
	done  bool        // and needn't again
	last  bool        // no stage follows
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

// New makes the table of an enumerator that nothing has been asked yet.
func New[S source.Split](e source.Enumerator[S]) *Table[S] {
	t := &Table[S]{enum: e, byID: map[string]*row[S]{}, load: map[int]int{}, last: true}
	t.states, _ = source.As[source.Stateful](e)
	t.late, _ = source.As[source.Backlog](e)
	if t.staged, _ = source.As[source.Staged[S]](e); t.staged != nil {
		t.last = t.staged.Last()
	}
	if o, ok := source.As[source.Ordered](e); ok {
		t.ordered = o.Ordered()
	}
	return t
}

// Restore takes back what Snapshot and Merge made, the enumerator's state too. All splits are with nobody then. Errors:
// fault.BadState, fault.BadPosition.
func (t *Table[S]) Restore(s store.Source) error {
	if t.states != nil && s.Enumerator != nil {
		if err := t.states.Restore(s.Enumerator); err != nil {
			return fault.Wrap(fault.BadState, err, "the enumerator can't take back its state")
		}
		t.saved = s.Enumerator
	}
	if t.staged != nil {
		t.last = t.staged.Last()
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

// Discover asks the enumerator for splits. It may wait for the system outside.
func (t *Table[S]) Discover(ctx context.Context) (News, error) {
	found, done, err := t.enum.Discover(ctx)
	if err != nil {
		return News{}, err
	}
	return t.after(News{Splits: found, Done: done})
}

// Next asks a staged enumerator for its next stage, telling it the splits of this one. It may wait for the system outside.
func (t *Table[S]) Next(ctx context.Context, finished []any) (News, error) {
	done := make([]S, len(finished))
	for i, f := range finished {
		done[i] = f.(S)
	}
	more, err := t.staged.Next(ctx, done)
	if err != nil {
		return News{}, err
	}
	return t.after(News{Splits: []S(nil), More: more})
}

func (t *Table[S]) after(d News) (News, error) {
	if t.states == nil {
		return d, nil
	}
	var err error
	d.State, err = t.states.Snapshot()
	return d, err
}

// Found takes what Discover or Next brought into the table and deals what is new.
func (t *Table[S]) Found(d News) []Assignment {
	// A stage that was derived and not looked into yet is not discovered: until it is, its records may be as old as any.
	t.seen, t.done, t.saved = !d.More, d.Done, d.State
	if t.staged != nil {
		t.last = t.staged.Last()
	}
	var fresh []S
	for _, s := range d.Splits.([]S) {
		id := s.ID()
		if t.byID[id] != nil {
			continue
		}
		r := &row[S]{split: s, owner: nobody, watermark: NoWatermark}
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

// Event tells the enumerator what a reader did. Restored splits are presented as found when the first reader is up.
func (t *Table[S]) Event(kind source.EventKind, reader int) []Assignment {
	var out []Assignment
	first := len(t.load) == 0
	if kind == source.ReaderUp {
		t.load[reader] = 0
	}
	if un := t.unassigned(); kind == source.ReaderUp && first && len(un) > 0 {
		out = t.assign(source.Event[S]{Kind: source.Found, Splits: un})
	}
	return append(out, t.assign(source.Event[S]{Kind: kind, Reader: reader})...)
}

func (t *Table[S]) unassigned() []S {
	var out []S
	for _, r := range t.rows {
		if r.owner == nobody && !r.finished {
			out = append(out, r.split)
		}
	}
	return out
}

func (t *Table[S]) assign(ev source.Event[S]) []Assignment {
	load := make(map[int]int, len(t.load))
	for r, n := range t.load {
		load[r] = n
	}
	to := source.NewAssignments(t.unassigned(), load)
	t.enum.Assign(ev, to)
	var out []Assignment
	for _, g := range to.Given() {
		r := t.byID[g.Split.ID()]
		r.owner, r.started, r.pos = g.Reader, true, nil
		t.load[g.Reader]++
		out = append(out, Assignment{Reader: g.Reader, Split: r.split, Watermark: r.watermark})
	}
	return out
}

// Finish marks a split as read to its end.
func (t *Table[S]) Finish(id string, at any, pos []byte) {
	if r := t.byID[id]; r != nil && !r.finished {
		t.load[r.owner]--
		r.finished, r.owner, r.split, r.pos = true, nobody, at.(S), pos
	}
}

// Snapshot is the table at the instant an epoch begins. Rows of splits that a reader has wait for its ack; their position is
// nil until then.
func (t *Table[S]) Snapshot() store.Source {
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

// Merge puts the positions the readers acked into the snapshot, and checks that each split is in exactly one place.
func (t *Table[S]) Merge(s *store.Source, acked []store.Split) error {
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

// State counts the rows.
func (t *Table[S]) State() Counts {
	c := Counts{Discovered: t.seen, Done: t.done, Last: t.last, Ordered: t.ordered}
	for _, r := range t.rows {
		if !r.finished {
			c.Unfinished++
			if !r.started {
				c.Unstarted++
			}
		}
	}
	return c
}

// Backlog says whether the enumerator deals what is far behind the present.
func (t *Table[S]) Backlog() bool { return t.late != nil && t.late.Backlog() }

// Finished is the splits that are read to their end, as they ended.
func (t *Table[S]) Finished() []any {
	var out []any
	for _, r := range t.rows {
		if r.finished {
			out = append(out, r.split)
		}
	}
	return out
}
