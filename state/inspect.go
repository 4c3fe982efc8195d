package state

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/weirline/weirline/internal/fault"
)

// Inspection reads a file of keyed state by the signatures stored in it, without the Go types: what tools need. It may be
// used by several goroutines if its reader may.
type Inspection struct {
	KeyGroups   int         // of the job
	First, Last int         // key groups of the task that wrote the file, both inclusive; Last < First: none
	States      []StateInfo // in the order in which they were declared

	r     io.ReaderAt
	index *fileIndex
}

// StateInfo is what the index of a file says about one state.
type StateInfo struct {
	Name      string      `json:"name"`
	Kind      string      `json:"kind"` // "value", "map", "list", "panes", "timers", "reducing", "aggregating"; "?" if it's newer
	Signature string      `json:"signature"`
	Entries   int64       `json:"entries"`
	Bytes     int64       `json:"bytes"`
	Groups    []GroupInfo `json:"groups,omitempty"` // those that have entries
}

// GroupInfo is about one key group of a state.
type GroupInfo struct {
	Group   int   `json:"group"`
	Entries int64 `json:"entries"`
	Bytes   int64 `json:"bytes"`
}

// Entry is one key's part of a state, or one item of an operator list. Values stored by methods of their own type are
// strings of base64, and so are byte slices and arrays; NaN and infinities are strings; times are RFC 3339. Structs are
// objects in the order of their fields, or sorted by name where they are stored as CBOR; maps are sorted by key.
type Entry struct {
	Group  int             `json:"group"`
	Key    json.RawMessage `json:"key,omitempty"`    // nil for the items of lists
	Window *Moment         `json:"window,omitempty"` // start of the pane
	At     *Moment         `json:"at,omitempty"`     // of a timer
	Value  json.RawMessage `json:"value,omitempty"`  // nil for timers
}

// Moment is microseconds since 1970 UTC. As JSON it's a time of RFC 3339, or the number if the year has more than four
// digits.
type Moment int64

// Time is the moment as a time in UTC.
func (m Moment) Time() time.Time { return time.UnixMicro(int64(m)).UTC() }

// MarshalJSON implements json.Marshaler.
func (m Moment) MarshalJSON() ([]byte, error) {
	if t := m.Time(); t.Year() >= 0 && t.Year() <= 9999 {
		return t.MarshalJSON()
	}
	return fmt.Append(nil, int64(m)), nil
}

// Inspect reads the index of a file that [Snapshot.WriteTo] wrote. r must stay open as long as the Inspection is used.
// Errors have the codes DamagedEpoch or NewerFormat.
func Inspect(r io.ReaderAt, size int64) (*Inspection, error) {
	index, err := readIndex(r, size)
	if err != nil {
		return nil, err
	}
	f := &Inspection{KeyGroups: index.groups, First: index.first, Last: index.last, r: r, index: index}
	for i, head := range index.states {
		st := StateInfo{Name: head.name, Kind: head.kind.String(), Signature: head.sig}
		for _, s := range index.sections {
			if s.state == i {
				st.Entries, st.Bytes = st.Entries+int64(s.count), st.Bytes+int64(s.size)
				st.Groups = append(st.Groups, GroupInfo{s.group, int64(s.count), int64(s.size)})
			}
		}
		f.States = append(f.States, st)
	}
	return f, nil
}

// Entries are all entries of the state of that name, by key group, in no order within one. A section's checksum is verified
// when it's read. After an error there is nothing more.
func (f *Inspection) Entries(name string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for _, s := range f.index.sections {
			if s.name != name {
				continue
			}
			more, err := f.section(s, yield)
			if err != nil {
				yield(Entry{}, fmt.Errorf("read state %q, key group %d: %w", name, s.group, err))
				return
			}
			if !more {
				return
			}
		}
	}
}

// section yields the entries of a section.
func (f *Inspection) section(s section, yield func(Entry, error) bool) (more bool, err error) {
	data := make([]byte, s.size)
	if err := readAt(f.r, data, s.off); err != nil {
		return false, err
	}
	if xxhash.Sum64(data) != s.sum {
		return false, damaged("a bad checksum")
	}
	key, timer, val, ok := parseState(s.sig)
	if !ok {
		return false, fault.New(fault.BadState, "this binary doesn't know the form %q", s.sig)
	}
	total := 0
	for len(data) > 0 {
		start, n, rest, err := cutRun(data)
		if err != nil {
			return false, damaged("%v", err)
		}
		for range n {
			d := decoder{src: rest}
			e := Entry{Group: s.group}
			if s.kind == kindPanes {
				e.Window = new(Moment(start))
			}
			d.entry(&e, key, timer, val)
			if d.err != nil {
				return false, d.failure()
			}
			if rest = d.src; !yield(e, nil) {
				return false, nil
			}
		}
		data, total = rest, total+n
	}
	if total != s.count {
		return false, damaged("%d entries where %d were announced", total, s.count)
	}
	return true, nil
}

// entry reads a key and its value.
func (d *decoder) entry(e *Entry, key *shape, timer bool, val *form) {
	if key != nil {
		d.plain(key)
		e.Key = d.take()
	}
	if timer {
		e.At = d.moment()
	}
	if val.kind != "none" {
		d.form(val)
		e.Value = d.take()
	}
}

func (d *decoder) moment() *Moment {
	if len(d.src) < 8 {
		d.fail(errShort)
		return new(Moment)
	}
	at := int64(binary.LittleEndian.Uint64(d.src))
	d.src = d.src[8:]
	return new(Moment(at))
}

// ListInspection reads one task's operator list, union list or broadcast map by the signature stored in it.
type ListInspection struct {
	Kind      string `json:"kind"` // "list", "union", "broadcast"
	Signature string `json:"signature"`
	Entries   int    `json:"entries"`

	items [][]byte
}

// InspectList reads what [Lists.Encode] gave. It keeps b. Errors have the codes DamagedEpoch or NewerFormat.
func InspectList(b []byte) (*ListInspection, error) {
	sig, items, err := unpackItems(b)
	if err != nil {
		return nil, err
	}
	l := &ListInspection{Kind: "list", Signature: sig, Entries: len(items), items: items}
	switch {
	case strings.HasPrefix(sig, unionForm):
		l.Kind = "union"
	case strings.HasPrefix(sig, broadcastForm):
		l.Kind = "broadcast"
	}
	return l, nil
}

// Items are the items in order, those of a broadcast map with their keys. After an error there is nothing more.
func (l *ListInspection) Items() iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		var key *shape
		var val *form
		ok := true
		if sig, broadcast := strings.CutPrefix(l.Signature, broadcastForm); broadcast {
			key, _, val, ok = parseState(sig)
		} else if val = parseForm(strings.TrimPrefix(l.Signature, unionForm)); val == nil {
			ok = false
		}
		if !ok && len(l.items) > 0 {
			yield(Entry{}, fault.New(fault.BadState, "this binary doesn't know the form %q", l.Signature))
			return
		}
		for _, it := range l.items {
			d, e := decoder{src: it}, Entry{}
			d.entry(&e, key, false, val)
			if d.err == nil && len(d.src) > 0 {
				d.fail(errLength)
			}
			if d.err != nil {
				yield(Entry{}, d.failure())
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}
