package state

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/weirline/weirline/internal/fault"
)

// Lister is where operator lists can be declared: a Lists, or what the engine gives to Open. Sealed.
type Lister interface{ Lists() *Lists }

// Lists are the operator lists of one task: state that belongs to no key. It belongs to the task's goroutine.
type Lists struct {
	order []string
	lists map[string]encoder
	parts map[string][][]byte
	errs  []error
}

type encoder interface{ encode() ([]byte, error) }

// Lists returns l, so that lists can be declared in it; a nil one must not be used.
func (l *Lists) Lists() *Lists { return l }

// Err is what was wrong with the declarations, joined.
func (l *Lists) Err() error { return errors.Join(l.errs...) }

// Names are the lists declared, in order of declaration.
func (l *Lists) Names() []string { return slices.Clone(l.order) }

// Unclaimed names the restored lists that nobody declared, sorted.
func (l *Lists) Unclaimed() []string {
	var names []string
	for n := range l.parts {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Encode gives a list's items as bytes for the epoch; they share no memory with it.
func (l *Lists) Encode(name string) ([]byte, error) {
	e := l.lists[name]
	if e == nil {
		return nil, fault.New(fault.BadState, "no list is named %q", name)
	}
	return e.encode()
}

// Restore keeps what Encode or Deal gave until the list of that name is declared. Call it before Open, once per name.
func (l *Lists) Restore(name string, parts [][]byte) {
	if l.parts == nil {
		l.parts = map[string][][]byte{}
	}
	l.parts[name] = parts
}

// OperatorList is a list of values of one task, not by key. When the parallelism changes, all tasks' items are dealt
// round robin.
type OperatorList[V any] struct {
	codec Codec[V]
	items []V
}

// NewOperatorList declares a list; call it in Open. Errors are collected in the Lists.
func NewOperatorList[V any](s Lister, name string) *OperatorList[V] {
	l := s.Lists()
	codec, err := CodecOf[V]()
	if err == nil && (name == "" || l.lists[name] != nil) {
		err = fault.New(fault.BadPipeline, "the name of operator list %q is empty or taken", name)
	}
	if err != nil {
		l.errs = append(l.errs, named(name, err))
		return &OperatorList[V]{}
	}
	o := &OperatorList[V]{codec: codec}
	if l.lists == nil {
		l.lists = map[string]encoder{}
	}
	l.lists[name] = o
	l.order = append(l.order, name)
	for _, p := range l.parts[name] {
		if err := o.load(name, p); err != nil {
			l.errs = append(l.errs, err)
		}
	}
	delete(l.parts, name)
	return o
}

// Add appends an item.
func (o *OperatorList[V]) Add(v V) { o.items = append(o.items, v) }

// All are the items; the slice belongs to the list until the next Set.
func (o *OperatorList[V]) All() []V { return o.items }

// Set replaces the items; the slice belongs to the list from then on.
func (o *OperatorList[V]) Set(vs []V) { o.items = vs }

func (o *OperatorList[V]) encode() ([]byte, error) {
	items := make([][]byte, 0, len(o.items))
	for i := range o.items {
		b, err := o.codec.Append(nil, &o.items[i])
		if err != nil {
			return nil, err
		}
		items = append(items, b)
	}
	return packItems(o.codec.Signature(), items), nil
}

func (o *OperatorList[V]) load(name string, part []byte) error {
	sig, items, err := unpackItems(part)
	if err != nil {
		return err
	}
	if len(items) > 0 && !compatible(sig, o.codec.Signature()) {
		return fault.New(fault.BadState, "operator list %q is declared as %s but was stored as %s", name, o.codec.Signature(), sig)
	}
	codec, ok := o.codec.reading(sig)
	if !ok && len(items) > 0 {
		return damaged("the signature %q can't be read", sig)
	}
	for _, b := range items {
		var v V
		rest, err := codec.Decode(b, &v)
		if err == nil && len(rest) > 0 {
			err = errLength
		}
		if err != nil {
			return fault.Wrap(fault.DamagedEpoch, err, "load operator list %q", name)
		}
		o.items = append(o.items, v)
	}
	return nil
}

// Deal takes what the tasks of one parallelism encoded for one list, in order of tasks, and deals the items round robin
// to n tasks.
func Deal(parts [][]byte, n int) ([][]byte, error) {
	dealt := make([][][]byte, n)
	sig, turn := "", 0
	for _, p := range parts {
		s, items, err := unpackItems(p)
		if err != nil {
			return nil, err
		}
		if sig != "" && s != sig {
			return nil, fault.New(fault.BadState, "one operator list was stored as %s and as %s", sig, s)
		}
		sig = s
		for _, b := range items {
			dealt[turn%n] = append(dealt[turn%n], b)
			turn++
		}
	}
	out := make([][]byte, n)
	for i := range out {
		out[i] = packItems(sig, dealt[i])
	}
	return out, nil
}

const listVersion = 1

// packItems: version (1), signature, count, items with their lengths, checksum (8).
func packItems(sig string, items [][]byte) []byte {
	b := binary.AppendUvarint(appendString([]byte{listVersion}, sig), uint64(len(items)))
	for _, it := range items {
		b = append(binary.AppendUvarint(b, uint64(len(it))), it...)
	}
	return binary.LittleEndian.AppendUint64(b, xxhash.Sum64(b))
}

func unpackItems(b []byte) (sig string, items [][]byte, err error) {
	bad := func(what string) (string, [][]byte, error) {
		return "", nil, fault.New(fault.DamagedEpoch, "operator list: %s", what)
	}
	if len(b) < 9 {
		return bad("it's truncated")
	}
	if b[0] > listVersion {
		return "", nil, fault.New(fault.NewerFormat, "operator list has version %d; this binary reads up to %d", b[0], listVersion)
	}
	body, sum := b[:len(b)-8], binary.LittleEndian.Uint64(b[len(b)-8:])
	if xxhash.Sum64(body) != sum {
		return bad("the checksum is wrong")
	}
	name, rest, err := cutBytes(body[1:])
	if err != nil {
		return bad("it can't be read")
	}
	n, rest, err := cutCount(rest)
	if err != nil {
		return bad("it can't be read")
	}
	for range n {
		var it []byte
		if it, rest, err = cutBytes(rest); err != nil {
			return bad("it can't be read")
		}
		items = append(items, it)
	}
	return string(name), items, nil
}
