package state

import (
	"bytes"
	"cmp"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/weirline/weirline/internal/fault"
)

// Broadcast is a map that every task of an operator has whole: rules, rates, features switched on. It belongs to no key.
// Change it only while handling a record that every task gets, and by that record alone, not by the key, the clock or
// chance: then it's the same everywhere.
//
// Each task stores its copy in each epoch; it's meant for what fits into the memory of every task many times over. On a
// restore, at any parallelism, every task gets the copy of the first task that stored one. If copies differ the map was
// changed by something else; then too the first one is taken, so that the tasks agree again, and a warning is logged: to
// refuse would stop a job for good that ran until then.
type Broadcast[K comparable, V any] struct {
	keys  *Key[K]
	codec Codec[V]
	m     map[K]V
}

// broadcastForm begins the signature of a broadcast map.
const broadcastForm = "broadcast:"

// NewBroadcast declares a broadcast map; call it in Open. Errors are collected in the Lists.
//
//	rules := state.NewBroadcast[string, Rule](setup, "rules")
func NewBroadcast[K comparable, V any](s Lister, name string) *Broadcast[K, V] {
	b := &Broadcast[K, V]{m: map[K]V{}}
	var err error
	if b.keys, err = KeyOf[K](); err == nil {
		b.codec, err = CodecOf[V]()
	}
	s.Lists().declare(name, b, err)
	return b
}

// Get is the value of k; ok is false if there is none. What it points to must not be changed: Put says what's new.
func (b *Broadcast[K, V]) Get(k K) (v V, ok bool) {
	v, ok = b.m[k]
	return v, ok
}

// Put stores the value of k; maps, slices and pointers in it belong to the state from then on. It panics if there is a
// NaN in k, which could never be found again.
func (b *Broadcast[K, V]) Put(k K, v V) {
	if !b.keys.Valid(k) {
		panic(fmt.Sprintf("state: a broadcast map can't have the key %v: NaN isn't equal to itself", k)) // misuse
	}
	b.m[k] = v
}

// Delete removes k.
func (b *Broadcast[K, V]) Delete(k K) { delete(b.m, k) }

// Len is the number of entries.
func (b *Broadcast[K, V]) Len() int { return len(b.m) }

// All ranges over the entries, in no order. Entries may be put and deleted meanwhile.
func (b *Broadcast[K, V]) All() iter.Seq2[K, V] { return maps.All(b.m) }

func (b *Broadcast[K, V]) signature() string {
	return broadcastForm + b.keys.Signature() + " -> " + b.codec.Signature()
}

// encode packs the entries, each a key and its value, in the order of the keys' bytes: equal maps mostly have equal bytes.
func (b *Broadcast[K, V]) encode() ([]byte, error) {
	type packed struct{ key, all []byte }
	entries := make([]packed, 0, len(b.m))
	for k, v := range b.m {
		key := b.keys.AppendBytes(nil, k)
		all, err := b.codec.Append(slices.Clip(key), &v)
		if err != nil {
			return nil, err
		}
		entries = append(entries, packed{key, all})
	}
	slices.SortFunc(entries, func(x, y packed) int { return bytes.Compare(x.key, y.key) })
	items := make([][]byte, len(entries))
	for i, e := range entries {
		items[i] = e.all
	}
	return packItems(b.signature(), items), nil
}

// load takes the first copy. The first task also compares the others with it.
func (b *Broadcast[K, V]) load(l *Lists, name string, from kept) error {
	first := -1
	for i, p := range from.parts {
		switch {
		case p == nil || first >= 0 && (from.task > 0 || bytes.Equal(p, from.parts[first])):
			continue
		case first < 0:
			m, err := b.read(name, p)
			if err != nil {
				return err
			}
			first, b.m = i, m
			continue
		}
		other, err := b.read(name, p)
		if err != nil {
			return err
		}
		if !reflect.DeepEqual(other, b.m) { // equal values may have different bytes: a map in them has no order
			l.notes = append(l.notes, fmt.Sprintf("broadcast state %q was not the same in tasks %d and %d; all tasks go on with that of task %d. "+
				"Change it by broadcast records only, and so that their order between senders doesn't matter", name, first, i, first))
			return nil
		}
	}
	return nil
}

func (b *Broadcast[K, V]) read(name string, part []byte) (map[K]V, error) {
	sig, items, err := unpackItems(part)
	if err != nil {
		return nil, err
	}
	was, ok := strings.CutPrefix(sig, broadcastForm)
	if why := mismatch(was, strings.TrimPrefix(b.signature(), broadcastForm)); !ok || why != "" {
		return nil, fault.New(fault.BadState, "broadcast state %q is declared as %s but was stored as %s: %s", name, b.signature(), sig,
			cmp.Or(why, "the kind differs"))
	}
	_, was, _ = cutKey(was)
	codec, ok := b.codec.reading(was)
	if !ok {
		return nil, damaged("the signature %q can't be read", sig)
	}
	m := make(map[K]V, len(items))
	for _, it := range items {
		k, rest, err := b.keys.Decode(it)
		var v V
		if err == nil {
			rest, err = codec.Decode(rest, &v)
		}
		if _, twice := m[k]; err == nil && (twice || len(rest) > 0) {
			err = errLength
		}
		if err != nil {
			return nil, fault.Wrap(fault.DamagedEpoch, err, "load broadcast state %q", name)
		}
		m[k] = v
	}
	return m, nil
}
