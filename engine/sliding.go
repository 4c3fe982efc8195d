package engine

import (
	"math"
	"time"
)

// Sliding windows are Size long and begin each Every, so that they overlap: a record is in Size/Every of them. They are
// aligned to 1970-01-01 UTC plus Offset.
//
// A record is added once, to a pane as long as the greatest common divisor of Size and Every, and windows are merged from
// panes when they end; make Every a divisor of Size if you can. Lateness counts from the end of each window.
type Sliding struct {
	// Size is the length of each window. Required.
	Size time.Duration

	// Every is the time between the starts of two windows, at most Size. Required.
	Every time.Duration

	// Offset shifts the windows. 0 = none.
	Offset time.Duration

	// Lateness is how long after its end a window takes late records: each makes it emit again. 0 = not at all.
	Lateness time.Duration
}

// Slides is a keyed stream cut into sliding windows of event time.
type Slides[K comparable, I any] struct {
	k Keyed[K, I]
	w Sliding
	v *vertex
}

// maxPanes bounds the panes of a sliding window.
const maxPanes = 1 << 16

// Slide cuts a keyed stream into sliding windows; AggregateSliding says what to do with them. Records without event time are
// poison.
func Slide[K comparable, I any](k Keyed[K, I], name string, w Sliding) Slides[K, I] {
	if w.Every < time.Microsecond || w.Size < w.Every || w.Lateness < 0 || w.Offset < 0 || w.Offset >= max(w.Every, 1) {
		k.s.p.errorf("window %q: Every must be at least a microsecond, Size at least Every, Lateness not negative, Offset between 0 and Every", name)
		w = Sliding{Size: time.Microsecond, Every: time.Microsecond}
	}
	if s := spansOf(w); s.count() > maxPanes {
		k.s.p.errorf("window %q: Size %v and Every %v make %d panes of their greatest common divisor; at most %d", name, w.Size, w.Every, s.count(), maxPanes)
	}
	v := add[I](k.s, name, "sliding-window")
	v.canPoison = true
	v.missing = "AggregateSliding"
	return Slides[K, I]{k: k, w: w, v: v}
}

// Late is the stream of records that came after their last window was closed for good. Unless it is consumed they are
// counted and logged.
func (w Slides[K, I]) Late() Stream[I] { return streamOf[I](w.k.s.p, w.v, portLate) }

// AggregateSliding is Aggregate for windows that overlap: merge takes what one part of a window came to into another, which
// may still be zero. It must leave from as it is and keep nothing it points to; adding records one by one, in any order, and
// merging must come to the same. emit must not keep the accumulator.
func AggregateSliding[K comparable, I, A, O any](
	w Slides[K, I], add func(acc *A, v I), merge func(into, from *A), emit func(key K, span Span, acc *A) O,
) Stream[O] {
	return aggregate(w.k, w.v, w.w, add, merge, emit)
}

// spans is how windows lie on the time line, in microseconds. Windows that don't overlap are one pane each.
type spans struct{ size, every, step, offset, lateness int64 }

func spansOf(w Sliding) spans {
	s := spans{size: w.Size.Microseconds(), every: w.Every.Microseconds(), offset: w.Offset.Microseconds(), lateness: w.Lateness.Microseconds()}
	s.step = s.size
	for rest := s.every; rest != 0; {
		s.step, rest = rest, s.step%rest
	}
	return s
}

// count is the number of panes in a window.
func (s *spans) count() int { return int(s.size / s.step) }

// end is the last moment of a window.
func (s *spans) end(window int64) int64 { return window + s.size - 1 }

// span is a window's time.
func (s *spans) span(window int64) Span {
	return Span{Start: time.UnixMicro(window).UTC(), End: time.UnixMicro(window + s.size).UTC()}
}

// pane is the start of the pane a moment lies in.
func (s *spans) pane(at int64) int64 { return floor(at, s.step, s.offset) }

// firstOver and lastOver are the first and the last window that a pane is part of.
func (s *spans) firstOver(pane int64) int64 { return floor(pane-s.size, s.every, s.offset) + s.every }
func (s *spans) lastOver(pane int64) int64  { return floor(pane, s.every, s.offset) }

// closed is the time up to which windows are closed for good when event time is at mark.
func (s *spans) closed(mark int64) int64 {
	if mark < math.MinInt64+s.lateness {
		return minTime
	}
	return mark - s.lateness
}

// ends says whether a window ends after the first moment and not after the second.
func (s *spans) ends(after, upTo int64) bool {
	return after < minTime+2*s.size+s.every || floor(after-s.size+1, s.every, s.offset) != floor(upTo-s.size+1, s.every, s.offset)
}

// floor is the last multiple of unit, plus offset, that isn't after at.
func floor(at, unit, offset int64) int64 {
	m := (at - offset) % unit
	if m < 0 {
		m += unit
	}
	return at - m
}
