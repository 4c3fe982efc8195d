// Package gen makes records out of their numbers: test input, load, and demonstrations.
//
// It is for pipeline builders. The smallest use:
//
//	gen.Source[int64]{Make: func(seq int64) int64 { return seq }, Count: 1000}
//
// Record number seq is the same in every run, whatever the parallelism, and after every restart. Of n splits, number i
// makes the records i, i+n, i+2n and so on; its position is the number of the record that comes next. The number of splits
// is fixed when a job first starts and stays with its state.
//
// With a rate, records follow a schedule: number seq is due seq/rate seconds after the start. A pipeline that was held up
// gets what became due meanwhile as fast as it takes it. A restored job goes on with the schedule where it had got to; the
// time it was down isn't made up.
//
// No goroutine is started. Make, Fill and EventTime are called by all tasks at once.
package gen

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/weirline/weirline/enumerator"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/reader"
	"github.com/weirline/weirline/source"
)

// Source makes Count records of T. One of Make and Fill is needed.
type Source[T any] struct {
	// Make makes record number seq, the first being 0. It must depend on seq alone.
	Make func(seq int64) T

	// Fill appends the n records number from, from+step, from+2*step and so on to out, in a loop of its own, which saves
	// the call for each record. Unset: Make in a loop. EventTime isn't used with it: Fill appends the times too.
	Fill func(from, step int64, n int, out *source.Batch[T])

	// EventTime is the event time of record number seq. Unset: records have none.
	EventTime func(seq int64) time.Time

	// Count is how many records there are. Unset or negative: no end.
	Count int64

	// PerSecond is the rate of all tasks together. Unset or negative: as fast as the pipeline takes them.
	PerSecond float64

	// Splits is how many splits there are, and so how many tasks can share the work, later too. Unset: as many as tasks
	// when the job first starts.
	Splits int
}

var (
	_ source.Source[int, Split] = Source[int]{}
	_ source.Bounded            = Source[int]{}
	_ source.Preflight          = Source[int]{}
)

// Split is every Step-th record, beginning with number Index; Next is the number of the next one to be made.
type Split struct {
	Index int
	Step  int
	Next  int64
}

// ID is "index/step".
func (s Split) ID() string { return fmt.Sprintf("%d/%d", s.Index, s.Step) }

// Bounded is true if there is a Count.
func (s Source[T]) Bounded() bool { return s.Count > 0 }

// Preflight checks the settings.
func (s Source[T]) Preflight(context.Context) error {
	if s.Make == nil && s.Fill == nil {
		return fault.New(fault.BadPipeline, "neither Make nor Fill is set").At("gen source").
			WithFix("set Make to a function that makes record number seq")
	}
	if math.IsNaN(s.PerSecond) || math.IsInf(s.PerSecond, 0) {
		return fault.New(fault.BadPipeline, "PerSecond is %v", s.PerSecond).At("gen source").
			WithFix("set PerSecond to a number, or leave it unset for no limit")
	}
	return nil
}

// Enumerator makes the splits; see source.Source.
func (s Source[T]) Enumerator(ctx context.Context, t source.Task) (source.Enumerator[Split], error) {
	if err := s.Preflight(ctx); err != nil {
		return nil, err
	}
	n := s.Splits
	if n <= 0 {
		n = max(t.Parallelism, 1)
	}
	return &splitter{n: n, parallelism: t.Parallelism, policy: s.policy()}, nil
}

// policy is Spread if splits run beside each other: without end, or on a schedule.
func (s Source[T]) policy() enumerator.Policy {
	if s.Count <= 0 || s.PerSecond > 0 {
		return enumerator.Spread
	}
	return enumerator.Pull
}

// Reader makes the records; see source.Source.
func (s Source[T]) Reader(ctx context.Context, t source.Task) (source.Reader[T, Split], error) {
	if err := s.Preflight(ctx); err != nil {
		return nil, err
	}
	fill := s.Fill
	if fill == nil {
		fill = s.loop()
	}
	count := s.Count
	if count <= 0 {
		count = math.MaxInt64
	}
	return reader.Each(func(_ context.Context, at Split) (source.Cursor[T, Split], error) {
		if at.Step <= 0 || at.Next < 0 {
			return nil, fault.New(fault.BadPosition, "go on at %+v", at)
		}
		return &cursor[T]{fill: fill, count: count, at: at, pace: newPace(s.PerSecond, at.Next, time.Now())}, nil
	})(ctx, t)
}

func (s Source[T]) loop() func(from, step int64, n int, out *source.Batch[T]) {
	if s.EventTime == nil {
		return func(from, step int64, n int, out *source.Batch[T]) {
			for seq := from; n > 0; n-- {
				out.Add(s.Make(seq))
				seq += step
			}
		}
	}
	return func(from, step int64, n int, out *source.Batch[T]) {
		for seq := from; n > 0; n-- {
			out.AddAt(s.Make(seq), s.EventTime(seq))
			seq += step
		}
	}
}

// splitter is the enumerator. It remembers how many splits the job began with.
type splitter struct {
	n, parallelism int
	policy         enumerator.Policy
}

type splitterState struct{ Splits int }

func (s *splitter) Discover(context.Context) (found []Split, done bool, err error) {
	for i := range s.n {
		found = append(found, Split{Index: i, Step: s.n, Next: int64(i)})
	}
	return found, true, nil
}

func (s *splitter) Assign(ev source.Event[Split], to *source.Assignments[Split]) {
	enumerator.Deal(s.policy, s.parallelism, ev, to)
}

func (s *splitter) Snapshot() ([]byte, error) { return json.Marshal(splitterState{Splits: s.n}) }

func (s *splitter) Restore(b []byte) error {
	var st splitterState
	err := json.Unmarshal(b, &st)
	if err == nil && st.Splits <= 0 {
		err = errors.New("the number of splits is missing")
	}
	if err != nil {
		return fault.Wrap(fault.BadPosition, err, "restore the gen source")
	}
	s.n = st.Splits
	return nil
}
