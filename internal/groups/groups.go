// Package groups is the byte form of a writer's state that is kept by key group, so that it can be dealt out again at another
// parallelism.
//
//	state := groups.Pack(map[int][]byte{3: unsentOf3, 7: unsentOf7})
//	parts, err := groups.Deal(state, mine, owns)
//
// A packed state begins with bytes that no other state has, and stands in the checkpoint where a writer's state stands. A writer
// that is handed it whole, by a binary that knows no groups, refuses it as too new or damaged and loses nothing. Functions may be called
// from any goroutine.
package groups

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
)

// magic begins a packed state; its last byte is the version. Version 1 goes on with a group, a length and as many bytes for each
// part, groups ascending; numbers are unsigned varints.
const magic = "\xffweirline by group\x01"

var errDamaged = errors.New("a state by key group ends too early or is damaged")

// Pack joins the parts of a state, by key group. Empty ones are left out; the result is nil if nothing is left.
func Pack(parts map[int][]byte) []byte {
	var out []byte
	for _, g := range slices.Sorted(maps.Keys(parts)) {
		if len(parts[g]) == 0 {
			continue
		}
		if out == nil {
			out = append(out, magic...)
		}
		out = binary.AppendUvarint(out, uint64(g)) //nolint:gosec // not negative
		out = append(binary.AppendUvarint(out, uint64(len(parts[g]))), parts[g]...)
	}
	return out
}

// Deal returns what a task gets of a state. If the state is packed and owns is set, that's the parts of the groups it owns. Otherwise
// mine decides over the whole: a packed state is handed out in its parts, any other as it is. Parts share memory with state.
func Deal(state []byte, mine bool, owns func(group int) bool) (parts [][]byte, _ error) {
	rest, packed := bytes.CutPrefix(state, []byte(magic))
	if !packed {
		if !mine || len(state) == 0 {
			return nil, nil
		}
		return [][]byte{state}, nil
	}
	for len(rest) > 0 {
		group, n := binary.Uvarint(rest)
		if n <= 0 || group > 1<<31 {
			return nil, errDamaged
		}
		size, m := binary.Uvarint(rest[n:])
		if m <= 0 || size > uint64(len(rest)-n-m) {
			return nil, errDamaged
		}
		part := rest[n+m:][:size:size]
		rest = rest[n+m+int(size):] //nolint:gosec // not more than len(rest)
		if owns == nil && mine || owns != nil && owns(int(group)) {
			parts = append(parts, part)
		}
	}
	return parts, nil
}
