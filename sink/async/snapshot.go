package async

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weirline/weirline/internal/fault"
)

// stateFormat is the first byte of a state: its version. All numbers are unsigned varints. Version 2 goes on with the number of
// records, the time the first of them was written, in milliseconds since 1970, and for each, oldest first, the
// milliseconds from the record before to it and the length and bytes of its encoding. Version 1 had no times.
const stateFormat = 2

var errState = errors.New("bytes end too early or are damaged")

// Snapshot returns what is held, on its way or not, with refused records that nobody has collected; nil if that is nothing.
func (w *writer[T]) Snapshot() ([]byte, error) {
	w.gather()
	if len(w.values) == 0 {
		return nil, nil
	}
	defer clear(w.values)
	out := binary.AppendUvarint([]byte{stateFormat}, uint64(len(w.values)))
	var last int64
	for i := range w.values {
		var err error
		if out, last, err = w.encode(out, i, last); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// gather notes in values and times what is held, oldest first.
func (w *writer[T]) gather() {
	w.mu.Lock()
	w.values, w.times = w.values[:0], w.times[:0]
	for n := w.held.oldest; n != nil; n = n.newer {
		w.values, w.times = append(w.values, n.v), append(w.times, n.at)
	}
	w.streak.snapshot, w.streak.taken = len(w.values), 0
	var ev event
	w.look(&ev)
	w.mu.Unlock()
	w.report(ev)
}

// encode appends the i-th of what was gathered to a state; last is the time of the record before it there, as encode returned it.
func (w *writer[T]) encode(out []byte, i int, last int64) ([]byte, int64, error) {
	one, err := w.cfg.Encode(w.one[:0], w.values[i])
	if err != nil {
		return nil, 0, fmt.Errorf("encode record for the checkpoint: %w", err)
	}
	w.one = one
	at := max(last, w.start.Add(w.times[i]).UnixMilli())
	out = binary.AppendUvarint(out, uint64(at-last))
	return append(binary.AppendUvarint(out, uint64(len(one))), one...), at, nil
}

// lastChance is what a restored record has left of Retry.Age at least: what it waited for was perhaps this job.
const lastChance = time.Minute

// Restore takes the records of all states, oldest first, whatever today's limits are.
func (w *writer[T]) Restore(states [][]byte) error {
	var all []restored[T]
	for i, s := range states {
		var err error
		if all, err = w.decode(all, s); err != nil {
			return fault.Wrap(fault.BadState, err, "restore unsent records of state %d of %d", i+1, len(states))
		}
	}
	if len(all) == 0 {
		return nil
	}
	slices.SortStableFunc(all, func(a, b restored[T]) int { return a.at.Compare(b.at) })
	values, times := make([]T, len(all)), make([]time.Duration, len(all))
	now := w.now()
	least := -longest
	if w.cfg.Retry.Age >= 0 {
		least = now - w.cfg.Retry.Age + lastChance
	}
	for i, r := range all {
		values[i], times[i] = r.v, min(now, max(least, r.at.Sub(w.start))) // the clock may have been set back
	}
	w.measure(values)
	defer clear(w.keys)
	defer clear(w.names)
	var ev event
	w.mu.Lock()
	w.add(values, times)
	w.streak.snapshot += len(all)
	w.dispatch(&ev)
	w.mu.Unlock()
	w.tell(ev)
	return nil
}

// restored is a record of a state.
type restored[T any] struct {
	v  T
	at time.Time // when it was written
}

func (w *writer[T]) decode(all []restored[T], state []byte) ([]restored[T], error) {
	if len(state) == 0 {
		return all, nil
	}
	format := state[0]
	if format == 0 || format > stateFormat {
		return nil, fault.New(fault.NewerFormat, "unsent records have format %d, this binary knows %d", format, stateFormat)
	}
	count, rest, err := number(state[1:])
	at := time.Now()
	if format > 1 {
		at = time.UnixMilli(0)
	}
	for range count {
		var since, size uint64
		if format > 1 {
			if since, rest, err = number(rest); err != nil || since > uint64(1)<<50 {
				return nil, errState
			}
			at = at.Add(time.Duration(since) * time.Millisecond)
		}
		if size, rest, err = number(rest); err != nil || size > uint64(len(rest)) {
			return nil, errState
		}
		v, err := w.cfg.Decode(rest[:size:size])
		if err != nil {
			return nil, fmt.Errorf("decode record: %w", err)
		}
		all, rest = append(all, restored[T]{v, at}), rest[size:]
	}
	if err == nil && len(rest) > 0 {
		err = errState
	}
	return all, err
}

func number(b []byte) (uint64, []byte, error) {
	n, size := binary.Uvarint(b)
	if size <= 0 {
		return 0, nil, errState
	}
	return n, b[size:], nil
}
