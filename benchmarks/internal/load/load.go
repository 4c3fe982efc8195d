// Package load is what the benchmarks and the workloads program share: a deterministic stream of events made from their
// numbers, the sinks that add up what they are given, and the right answers.
//
//	src := gen.Source[load.Event]{Fill: load.Fill(10_000), Count: n}
//	engine.To(stream, "discard", load.NewTotal(func(e load.Event) int64 { return e.Value }))
//
// Everything here is a pure function of the record number or belongs to one task, except [Total], which adds up what the
// tasks report.
package load

import (
	"slices"

	"github.com/weirline/weirline/source"
)

// Event is one record.
type Event struct {
	Key   int64
	Value int64
	At    int64 // event time in milliseconds since 1970 UTC; in the latency workload the schedule's nanoseconds
}

const (
	// Start is the event time of record 0, before disorder, in milliseconds.
	Start = 1_700_000_000_000

	// Disorder is the bound of the disorder: no record is more than 1023 ms behind the newest.
	Disorder = 1024
)

// Mix spreads a record number over 64 bits.
func Mix(seq uint64) uint64 {
	z := seq + 0x9E3779B97F4A7C15
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// Make is record number seq, its key below keys.
func Make(seq int64, keys uint32) Event {
	h := Mix(uint64(seq))
	return Event{
		Key:   int64(uint32(h>>32) % keys),
		Value: int64(h & 0xFFFFF),
		At:    Start + seq/100 - int64(h>>20&0x3FF),
	}
}

// Filler makes many records at once: the n records number from, from+step and so on. It is what a generator source calls.
type Filler = func(from, step int64, n int, out *source.Batch[Event])

// Fill makes the Filler of events.
func Fill(keys uint32) Filler {
	return func(from, step int64, n int, out *source.Batch[Event]) {
		more := room(out, n)
		for i := range more { // Make by hand: the compiler doesn't inline it, and here the call would cost as much again
			h := Mix(uint64(from))
			e := &more[i]
			e.Key = int64(uint32(h>>32) % keys)
			e.Value = int64(h & 0xFFFFF)
			e.At = Start + from/100 - int64(h>>20&0x3FF)
			from += step
		}
	}
}

// FillTimed is Fill with the event times beside the records.
func FillTimed(keys uint32) Filler {
	fill := Fill(keys)
	return func(from, step int64, n int, out *source.Batch[Event]) {
		fill(from, step, n, out)
		for _, e := range out.Values[len(out.Values)-n:] {
			out.Times = append(out.Times, e.At*1000)
		}
	}
}

// room makes the batch n records longer and returns them.
func room[E any](out *source.Batch[E], n int) []E {
	out.Values = slices.Grow(out.Values, n)[:len(out.Values)+n]
	return out.Values[len(out.Values)-n:]
}
