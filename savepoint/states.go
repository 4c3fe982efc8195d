package savepoint

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/state"
)

// State is what all tasks of an operator have stored of one state.
type State struct {
	Name      string `json:"name"`
	Kind      string `json:"kind"`
	Signature string `json:"signature"`
	Entries   int64  `json:"entries"`
	Bytes     int64  `json:"bytes,omitempty"` // of keyed state
}

// Entry is one entry of a state: of a key, or an item of an operator list.
type Entry struct {
	Operator string `json:"operator"`
	Task     int    `json:"task"` // which stored it
	State    string `json:"state"`
	Group    *int   `json:"group,omitempty"` // nil for lists, which belong to no key
	state.Entry
	everywhere bool // of a broadcast map, which each task stores
}

// States describes the states of an operator by name, without reading the entries. Those in the files of a backend aren't counted.
func States(from store.Store, op store.Operator) ([]State, error) {
	found := map[string]*State{}
	add := func(s State) {
		if old := found[s.Name]; old != nil {
			old.Entries, old.Bytes = old.Entries+s.Entries, old.Bytes+s.Bytes
		} else {
			found[s.Name] = &s
		}
	}
	for _, t := range op.Tasks {
		err := inspect(from, t, func(f *state.Inspection) error {
			for _, s := range f.States {
				add(State{s.Name, s.Kind, s.Signature, s.Entries, s.Bytes})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		for i, name := range t.Lists {
			l, err := state.InspectList(t.Items[i])
			if err != nil {
				return nil, err
			}
			add(State{Name: name, Kind: l.Kind, Signature: l.Signature, Entries: int64(l.Entries)})
		}
	}
	out := make([]State, 0, len(found))
	for _, name := range slices.Sorted(maps.Keys(found)) {
		out = append(out, *found[name])
	}
	return out, nil
}

// inspect opens the keyed state of a task; it does nothing if there is none.
func inspect(from store.Store, t store.Task, f func(*state.Inspection) error) error {
	if t.Keyed == nil {
		return nil
	}
	r, err := from.ReadBlob(*t.Keyed)
	if err != nil {
		return err
	}
	defer r.Close()
	in, err := state.Inspect(r, r.Size())
	if err != nil {
		return err
	}
	return f(in)
}

// Entries are all entries of all states, by operator, task and state. A task with state in the files of a backend yields an error
// of code OtherBackend, with Operator and Task, and then what it has beside them: a savepoint has all of it in a form that can be
// read. After any other error there is nothing more.
func Entries(from store.Store, rec *store.Record) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for _, op := range slices.Sorted(maps.Keys(rec.Operators)) {
			for _, t := range rec.Operators[op].Tasks {
				if len(t.Files) > 0 {
					if !yield(Entry{Operator: op, Task: t.Index}, native(op, t)) {
						return
					}
				}
				more, err := taskEntries(from, op, t, yield)
				if err != nil {
					yield(Entry{Operator: op}, fault.At(err, "operator "+op))
				}
				if err != nil || !more {
					return
				}
			}
		}
	}
}

// native says that a task's state can't be read here.
func native(op string, t store.Task) error {
	var size int64
	for _, f := range t.Files {
		size += f.Blob.Size
	}
	return fault.New(fault.OtherBackend, "operator %s, task %d: the entries are in %d files of the backend %s, %d bytes, which it alone can read",
		op, t.Index, len(t.Files), t.Backend, size).WithFix("take a savepoint, and look at that: it has the entries of any backend")
}

func taskEntries(from store.Store, op string, t store.Task, yield func(Entry, error) bool) (more bool, err error) {
	more = true
	err = inspect(from, t, func(f *state.Inspection) error {
		for _, s := range f.States {
			for e, err := range f.Entries(s.Name) {
				if err != nil {
					return err
				}
				if more = yield(Entry{Operator: op, Task: t.Index, State: s.Name, Group: &e.Group, Entry: e}, nil); !more {
					return nil
				}
			}
		}
		return nil
	})
	for i, name := range t.Lists {
		if !more || err != nil {
			return more, err
		}
		l, err := state.InspectList(t.Items[i])
		if err != nil {
			return false, err
		}
		for e, err := range l.Items() {
			if err != nil {
				return false, err
			}
			if !yield(Entry{Operator: op, Task: t.Index, State: name, Entry: e, everywhere: l.Kind == "broadcast"}, nil) {
				return false, nil
			}
		}
	}
	return more, err
}

// Change is how a state differs between two checkpoints. Items of lists are compared without their order.
type Change struct {
	Operator string       `json:"operator"`
	State    string       `json:"state"`
	Added    int          `json:"added"`
	Removed  int          `json:"removed"`
	Changed  int          `json:"changed"`
	Entries  []Difference `json:"entries,omitempty"` // by key
}

// Difference is one entry that isn't the same. Key names it: with the start of its window or the time of its timer, if it has
// one.
type Difference struct {
	Key string          `json:"key"`
	Was json.RawMessage `json:"was,omitempty"` // absent: added
	Is  json.RawMessage `json:"is,omitempty"`  // absent: removed
}

// Diff compares the entries of two checkpoints, which it holds in memory. States that are the same aren't listed; with
// entries, each difference is.
func Diff(a, b store.Store, was, is *store.Record, entries bool) ([]Change, error) {
	old, err := collect(a, was)
	if err != nil {
		return nil, err
	}
	now, err := collect(b, is)
	if err != nil {
		return nil, err
	}
	names := maps.Clone(old)
	maps.Copy(names, now)
	out := []Change{}
	for n := range names {
		c := compare(old[n], now[n])
		c.Operator, c.State = n.op, n.state
		if c.Added+c.Removed+c.Changed == 0 {
			continue
		}
		if !entries {
			c.Entries = nil
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.Operator, b.Operator), cmp.Compare(a.State, b.State))
	})
	return out, nil
}

type stateName struct{ op, state string }

// collect reads all entries of a checkpoint, by state and key.
func collect(from store.Store, rec *store.Record) (map[stateName]map[string]json.RawMessage, error) {
	all := map[stateName]map[string]json.RawMessage{}
	for e, err := range Entries(from, rec) {
		if err != nil {
			return nil, err
		}
		n := stateName{e.Operator, e.State}
		if all[n] == nil {
			all[n] = map[string]json.RawMessage{}
		}
		key, value := keyOf(e), e.Value
		if value == nil {
			value = json.RawMessage("null")
		}
		for i := 1; e.Group == nil && !e.everywhere && all[n][key] != nil; i++ { // an item that is there more than once
			key = fmt.Sprintf("%s #%d", keyOf(e), i+1)
		}
		all[n][key] = value
	}
	return all, nil
}

func keyOf(e Entry) string {
	var b bytes.Buffer
	b.Write(e.Key)
	if e.Key == nil {
		b.Write(e.Value)
	}
	if e.Window != nil {
		fmt.Fprintf(&b, " window %s", e.Window.Time().Format("2006-01-02T15:04:05.999999Z"))
	}
	if e.At != nil {
		fmt.Fprintf(&b, " at %s", e.At.Time().Format("2006-01-02T15:04:05.999999Z"))
	}
	return b.String()
}

func compare(was, is map[string]json.RawMessage) (c Change) {
	for k, v := range was {
		switch now, ok := is[k]; {
		case !ok:
			c.Removed++
			c.Entries = append(c.Entries, Difference{Key: k, Was: v})
		case !bytes.Equal(now, v):
			c.Changed++
			c.Entries = append(c.Entries, Difference{k, v, now})
		}
	}
	for k, v := range is {
		if _, ok := was[k]; !ok {
			c.Added++
			c.Entries = append(c.Entries, Difference{Key: k, Is: v})
		}
	}
	slices.SortFunc(c.Entries, func(a, b Difference) int { return cmp.Compare(a.Key, b.Key) })
	return c
}
