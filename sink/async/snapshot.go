package async

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/weirline/weirline/internal/fault"
)

// stateFormat is the first byte of a state: its version. Version 1 goes on with the number of records and for each, oldest
// first, the length and bytes of its encoding; numbers are unsigned varints.
const stateFormat = 1

var errState = errors.New("bytes end too early or are damaged")

// Snapshot returns what is held, on its way or not, with refused records that nobody has collected.
func (w *writer[T]) Snapshot() ([]byte, error) {
	w.mu.Lock()
	w.values = w.values[:0]
	for n := w.held.oldest; n != nil; n = n.newer {
		w.values = append(w.values, n.v)
	}
	w.streak.snapshot, w.streak.taken = len(w.values), 0
	var ev event
	w.look(&ev)
	w.mu.Unlock()
	defer clear(w.values)
	w.report(ev)

	out := binary.AppendUvarint([]byte{stateFormat}, uint64(len(w.values)))
	var one []byte
	for _, v := range w.values {
		var err error
		if one, err = w.cfg.Encode(one[:0], v); err != nil {
			return nil, fmt.Errorf("encode record for the checkpoint: %w", err)
		}
		out = append(binary.AppendUvarint(out, uint64(len(one))), one...)
	}
	return out, nil
}

// Restore takes the records of all states, in the order given, whatever today's limits are.
func (w *writer[T]) Restore(states [][]byte) error {
	var all []T
	for i, s := range states {
		var err error
		if all, err = w.decode(all, s); err != nil {
			return fault.Wrap(fault.BadState, err, "restore unsent records of state %d of %d", i+1, len(states))
		}
	}
	if len(all) == 0 {
		return nil
	}
	w.measure(all)
	defer clear(w.keys)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.add(all)
	w.streak.snapshot += len(all)
	w.dispatch()
	return nil
}

func (w *writer[T]) decode(all []T, state []byte) ([]T, error) {
	if len(state) == 0 {
		return nil, errState
	}
	if state[0] != stateFormat {
		return nil, fault.New(fault.NewerFormat, "unsent records have format %d, this binary knows %d", state[0], stateFormat)
	}
	count, rest, err := number(state[1:])
	for range count {
		var size uint64
		if size, rest, err = number(rest); err != nil || size > uint64(len(rest)) {
			return nil, errors.Join(err, errState)
		}
		v, err := w.cfg.Decode(rest[:size:size])
		if err != nil {
			return nil, fmt.Errorf("decode record: %w", err)
		}
		all, rest = append(all, v), rest[size:]
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
