package sim

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weirline/weirline/engine"
)

// Rec is a record of a simulated input.
type Rec struct {
	ID  int64
	Key int
	At  int64 // event time, milliseconds
	Val int64
}

// String is how a dead letter shows the record.
func (r Rec) String() string { return fmt.Sprintf("rec-%d", r.ID) }

func (r Rec) time() time.Time { return time.UnixMilli(r.At) }

// opSpec is an operator without state. The engine and the reference use the same functions.
type opSpec struct {
	kind  opKind
	name  string
	n     int64
	width int // parallelism; 0 = the job's
}

type opKind int

const (
	opMap opKind = iota
	opFilter
	opFlat
	opTry // some records are poison
	opDeal
	opWide // other parallelism
	opKinds
)

var errPoison = errors.New("poison as planned")

func (o opSpec) mapped(r Rec) Rec { r.Val += o.n; return r }

func (o opSpec) keeps(r Rec) bool { return r.ID%o.n != 0 }

func (o opSpec) tried(r Rec) (Rec, error) {
	if r.ID%(7*o.n) == 3 {
		return r, errPoison
	}
	return r, nil
}

// copies is what a flat-map makes of a record.
func (o opSpec) copies(r Rec) []Rec {
	var out []Rec
	for i := range (r.ID + o.n) % 3 {
		c := r
		c.ID = r.ID*8 + i + 1
		out = append(out, c)
	}
	return out
}

// chain puts operators behind a stream. trip is called for each record.
func chain(s engine.Stream[Rec], ops []opSpec, inc *incarnation) engine.Stream[Rec] {
	for _, o := range ops {
		switch o.kind {
		case opMap:
			s = engine.Map(s, o.name, func(r Rec) Rec { inc.record(); return o.mapped(r) })
		case opFilter:
			s = s.Filter(o.name, o.keeps)
		case opFlat:
			s = engine.FlatMap(s, o.name, func(r Rec, out *engine.Out[Rec]) error {
				for _, c := range o.copies(r) {
					out.Emit(c)
				}
				return nil
			})
		case opTry:
			s = engine.TryMap(s, o.name, o.tried)
		case opDeal:
			s = s.Rebalance().Filter(o.name, func(Rec) bool { return true })
		case opWide:
			s = engine.Map(s, o.name, func(r Rec) Rec { return r })
			if o.width > 0 {
				s = s.Parallel(o.width)
			}
		}
	}
	return s
}

// apply is chain for the reference: what comes out, and what is poison.
func apply(in []Rec, ops []opSpec) (out, bad []Rec) {
	out = slices.Clone(in)
	for _, o := range ops {
		var next []Rec
		for _, r := range out {
			switch o.kind {
			case opMap:
				next = append(next, o.mapped(r))
			case opFilter:
				if o.keeps(r) {
					next = append(next, r)
				}
			case opFlat:
				next = append(next, o.copies(r)...)
			case opTry:
				if _, err := o.tried(r); err != nil {
					bad = append(bad, r)
				} else {
					next = append(next, r)
				}
			default:
				next = append(next, r)
			}
		}
		out = next
	}
	return out, bad
}
