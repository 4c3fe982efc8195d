package source

import (
	"cmp"
	"slices"
)

// EventKind says what happened.
type EventKind int

// The events an enumerator's Assign sees.
const (
	Found      EventKind = iota // splits became known or came back: found, returned by a failed reader, or restored
	ReaderUp                    // a reader is ready; it holds nothing
	ReaderDown                  // a reader is gone; its splits are unassigned again and follow as Found
	Wanted                      // a reader has no split left to read
)

// Event is something after which splits may be assigned.
type Event[S Split] struct {
	Kind   EventKind
	Splits []S // Found: the new ones; they are already among Assignments.Unassigned
	Reader int // ReaderUp, ReaderDown, Wanted
}

// Assignments is the engine's view of who has what, lent to Assign for the length of the call.
type Assignments[S Split] struct {
	unassigned []S
	readers    map[int]int // reader -> splits it has
	given      []Assignment[S]
}

// Assignment is one decision of an enumerator.
type Assignment[S Split] struct {
	Reader int
	Split  S
}

// NewAssignments makes the view; the engine and tests of enumerators call it. load maps each live reader to the number of
// splits it has.
func NewAssignments[S Split](unassigned []S, load map[int]int) *Assignments[S] {
	return &Assignments[S]{unassigned: unassigned, readers: load}
}

// Unassigned lists the splits nobody reads, in the order they were found. The slice must not be changed.
func (a *Assignments[S]) Unassigned() []S { return a.unassigned }

// Readers lists the live readers in rising order.
func (a *Assignments[S]) Readers() []int {
	out := make([]int, 0, len(a.readers))
	for r := range a.readers {
		out = append(out, r)
	}
	slices.Sort(out)
	return out
}

// Load is the number of splits a reader has, those given in this call included.
func (a *Assignments[S]) Load(reader int) int { return a.readers[reader] }

// LeastLoaded is the live reader with the fewest splits, the lowest number among equals; ok is false without readers.
func (a *Assignments[S]) LeastLoaded() (reader int, ok bool) {
	rs := a.Readers()
	if len(rs) == 0 {
		return 0, false
	}
	return slices.MinFunc(rs, func(x, y int) int { return cmp.Compare(a.readers[x], a.readers[y]) }), true
}

// Give assigns unassigned splits to a live reader. A split that isn't unassigned, or a reader that isn't live, is
// ignored: the engine's table decides.
func (a *Assignments[S]) Give(reader int, splits ...S) {
	if _, live := a.readers[reader]; !live {
		return
	}
	for _, s := range splits {
		i := slices.IndexFunc(a.unassigned, func(u S) bool { return u.ID() == s.ID() })
		if i < 0 {
			continue
		}
		s = a.unassigned[i]
		if i == 0 { // the usual case, and without a copy: many splits are given in one go
			a.unassigned = a.unassigned[1:]
		} else {
			a.unassigned = slices.Delete(slices.Clone(a.unassigned), i, i+1)
		}
		a.readers[reader]++
		a.given = append(a.given, Assignment[S]{Reader: reader, Split: s})
	}
}

// Given lists what was given through this view, in order; the engine and tests call it.
func (a *Assignments[S]) Given() []Assignment[S] { return a.given }
