package state

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/weirline/weirline/internal/fault"
)

// Lister is where operator lists can be declared: a Lists, or what the engine gives to Open. Sealed.
type Lister interface{ Lists() *Lists }

// Lists are the operator lists and broadcast maps of one task: state that belongs to no key. It belongs to the task's
// goroutine.
type Lists struct {
	order []string
	lists map[string]listed
	parts map[string]kept
	notes []string
	errs  []error
}

// listed is a declared list without its types. load takes what was restored under the list's name.
type listed interface {
	encode() ([]byte, error)
	load(l *Lists, name string, from kept) error
}

// kept is what all old tasks had stored under one name, by their index, nil for one that had none, and which of how many
// tasks it's for now.
type kept struct {
	parts       [][]byte
	task, tasks int
}

// Lists returns l, so that lists can be declared in it; a nil one must not be used.
func (l *Lists) Lists() *Lists { return l }

// Err is what was wrong with the declarations, joined.
func (l *Lists) Err() error { return errors.Join(l.errs...) }

// Notes are what an operator of the job should know of what was restored, a sentence each; to be logged after Open.
func (l *Lists) Notes() []string { return l.notes }

// Names are the lists declared, in order of declaration.
func (l *Lists) Names() []string { return slices.Clone(l.order) }

// Unclaimed names the restored lists that nobody declared, sorted.
func (l *Lists) Unclaimed() []string { return slices.Sorted(maps.Keys(l.parts)) }

// Encode gives a list's items as bytes for the epoch; they share no memory with it.
func (l *Lists) Encode(name string) ([]byte, error) {
	e := l.lists[name]
	if e == nil {
		return nil, fault.New(fault.BadState, "no list is named %q", name)
	}
	b, err := e.encode()
	if err != nil {
		return nil, fmt.Errorf("encode operator state %q: %w", name, err)
	}
	return b, nil
}

// Restore keeps what was encoded under a name until the list of that name is declared, which decides what of it this task
// gets. parts has an element for each task there was, in order, nil for one that had no such list; this is now one of
// tasks. Call it before Open, once per name.
func (l *Lists) Restore(name string, parts [][]byte, task, tasks int) {
	if l.parts == nil {
		l.parts = map[string]kept{}
	}
	l.parts[name] = kept{parts, task, tasks}
}

// declare registers a list and gives it what was restored; err is what is wrong with its type.
func (l *Lists) declare(name string, o listed, err error) {
	if err == nil && (name == "" || l.lists[name] != nil) {
		err = fault.New(fault.BadPipeline, "the name of operator list %q is empty or taken", name)
	}
	if err != nil {
		l.errs = append(l.errs, named(name, err))
		return
	}
	if l.lists == nil {
		l.lists = map[string]listed{}
	}
	l.lists[name] = o
	l.order = append(l.order, name)
	if from, ok := l.parts[name]; ok {
		if err := o.load(l, name, from); err != nil {
			l.errs = append(l.errs, err)
		}
	}
	delete(l.parts, name)
}

// OperatorList is a list of values of one task, not by key. With the parallelism unchanged each task gets its own items
// back; else all tasks' items are dealt round robin.
type OperatorList[V any] struct{ items[V] }

// NewOperatorList declares a list; call it in Open. Errors are collected in the Lists.
func NewOperatorList[V any](s Lister, name string) *OperatorList[V] {
	o := &OperatorList[V]{}
	o.declare(s.Lists(), name, "", o)
	return o
}

func (o *OperatorList[V]) load(_ *Lists, name string, from kept) error {
	if len(from.parts) == from.tasks {
		return o.take(name, from.parts[from.task])
	}
	dealt, err := deal(from.parts, from.tasks)
	if err != nil {
		return err
	}
	return o.take(name, dealt[from.task])
}

// UnionList is a list of values of which every task gets the items of all tasks back, in order of tasks. Keep what is
// this task's own with Set: what every task keeps is stored by every task, and comes back as many times.
type UnionList[V any] struct{ items[V] }

// unionForm begins the signature of a union list.
const unionForm = "union:"

// NewUnionList declares a list; call it in Open. Errors are collected in the Lists.
func NewUnionList[V any](s Lister, name string) *UnionList[V] {
	o := &UnionList[V]{}
	o.declare(s.Lists(), name, unionForm, o)
	return o
}

func (o *UnionList[V]) load(_ *Lists, name string, from kept) error {
	for _, p := range from.parts {
		if err := o.take(name, p); err != nil {
			return err
		}
	}
	return nil
}

// items is what the lists have in common. The form is the kind of list as the signature tells it.
type items[V any] struct {
	codec Codec[V]
	form  string
	list  []V
}

func (o *items[V]) declare(l *Lists, name, form string, as listed) {
	var err error
	o.form = form
	o.codec, err = CodecOf[V]()
	l.declare(name, as, err)
}

// Add appends an item.
func (o *items[V]) Add(v V) { o.list = append(o.list, v) }

// All are the items; the slice belongs to the list until the next Set.
func (o *items[V]) All() []V { return o.list }

// Set replaces the items; the slice belongs to the list from then on.
func (o *items[V]) Set(vs []V) { o.list = vs }

func (o *items[V]) encode() ([]byte, error) {
	packed := make([][]byte, 0, len(o.list))
	for i := range o.list {
		b, err := o.codec.Append(nil, &o.list[i])
		if err != nil {
			return nil, err
		}
		packed = append(packed, b)
	}
	return packItems(o.form+o.codec.Signature(), packed), nil
}

// take appends the items of a stored part; nil has none.
func (o *items[V]) take(name string, part []byte) error {
	if part == nil {
		return nil
	}
	sig, packed, err := unpackItems(part)
	if err != nil || len(packed) == 0 {
		return err
	}
	was, ok := strings.CutPrefix(sig, o.form)
	if why := mismatch(was, o.codec.Signature()); !ok || why != "" {
		return fault.New(fault.BadState, "operator list %q is declared as %s but was stored as %s: %s", name, o.form+o.codec.Signature(), sig,
			cmp.Or(why, "the kind differs"))
	}
	codec, ok := o.codec.reading(was)
	if !ok {
		return damaged("the signature %q can't be read", sig)
	}
	for _, b := range packed {
		var v V
		rest, err := codec.Decode(b, &v)
		if err == nil && len(rest) > 0 {
			err = errLength
		}
		if err != nil {
			return fault.Wrap(fault.DamagedEpoch, err, "load operator list %q", name)
		}
		o.list = append(o.list, v)
	}
	return nil
}

// deal takes what the tasks of one parallelism encoded for one list, in order of tasks, and deals the items round robin
// to n tasks.
func deal(parts [][]byte, n int) ([][]byte, error) {
	dealt := make([][][]byte, n)
	sig, turn := "", 0
	for _, p := range parts {
		if p == nil {
			continue
		}
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
