package savepoint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
)

// Description is a checkpoint for people, and for tools as JSON. Names are in order.
type Description struct {
	Epoch     uint64    `json:"epoch"`
	Job       string    `json:"job"`
	Taken     time.Time `json:"taken"`
	End       string    `json:"end"` // "running", "suspended", "drained", "finished"
	KeyGroups int       `json:"key_groups"`
	Origin    string    `json:"origin,omitempty"` // what the state was begun from
	Prefix    string    `json:"transaction_prefix,omitempty"`

	Sources      []Source      `json:"sources"`
	Operators    []Operator    `json:"operators"`
	Transactions []Transaction `json:"transactions,omitempty"`
	InFlight     int64         `json:"in_flight_bytes,omitempty"`
}

// Source is a source in a Description.
type Source struct {
	Name       string          `json:"name"`
	Discovered bool            `json:"all_splits_known"`
	Enumerator json.RawMessage `json:"enumerator,omitempty"`
	Splits     []Split         `json:"splits"`
}

// Split is where the reading of a part of a source stood.
type Split struct {
	ID        string          `json:"id"`
	State     string          `json:"state"` // "waiting", "reading", "finished"
	Watermark *time.Time      `json:"watermark,omitempty"`
	Position  json.RawMessage `json:"position"`
}

// Operator is an operator in a Description.
type Operator struct {
	Name        string     `json:"name"`
	Parallelism int        `json:"parallelism"`
	Watermark   *time.Time `json:"watermark,omitempty"` // the lowest of its tasks
	Keyed       int64      `json:"keyed_bytes"`
	Writer      int64      `json:"writer_bytes,omitempty"` // what a sink's writer had not sent
	Lists       []string   `json:"lists,omitempty"`
	States      []State    `json:"states,omitempty"`  // only if DescribeStates was called
	Backend     string     `json:"backend,omitempty"` // which alone can read Files
	Files       []File     `json:"files,omitempty"`
	Note        string     `json:"note,omitempty"` // on what can't be shown
}

// File is a file of a state backend.
type File struct {
	Task int    `json:"task"`
	Name string `json:"name"`
	Size int64  `json:"bytes"`
}

// Transaction is one that was prepared and wasn't known to be committed.
type Transaction struct {
	Operator string          `json:"operator"`
	Slot     string          `json:"slot"`
	Token    string          `json:"token"`
	Epoch    uint64          `json:"epoch"`
	Native   json.RawMessage `json:"native"`
}

// Describe says what a checkpoint has.
func Describe(rec *store.Record) Description {
	d := Description{
		Epoch: rec.Epoch, Job: rec.Job, Taken: rec.Taken, End: EndName(rec.End), KeyGroups: rec.KeyGroups, Origin: rec.Origin, Prefix: rec.Prefix,
		Sources: []Source{}, Operators: []Operator{},
	}
	for _, name := range slices.Sorted(maps.Keys(rec.Sources)) {
		d.Sources = append(d.Sources, describeSource(name, rec.Sources[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(rec.Operators)) {
		d.Operators = append(d.Operators, describeOperator(name, rec.Operators[name]))
	}
	for _, h := range rec.Handles {
		d.Transactions = append(d.Transactions, Transaction{
			Operator: h.Operator, Slot: h.Slot.Name, Token: h.Token, Epoch: h.Epoch, Native: Readable(h.Native),
		})
	}
	for _, f := range rec.InFlight {
		d.InFlight += f.Blob.Size
	}
	return d
}

// DescribeStates adds what the operators' states are, from rec, of which d is the description: that reads the index of each file of
// state. Errors name the operator; those before it are described.
func (d *Description) DescribeStates(from store.Store, rec *store.Record) (err error) {
	for i := range d.Operators {
		op := &d.Operators[i]
		if op.States, err = States(from, rec.Operators[op.Name]); err != nil {
			return fault.At(err, "operator "+op.Name)
		}
	}
	return nil
}

// EndName is the word for an end.
func EndName(e store.End) string {
	if names := []string{"running", "suspended", "drained", "finished"}; int(e) < len(names) {
		return names[e]
	}
	return fmt.Sprint(int(e))
}

func describeSource(name string, s store.Source) Source {
	out := Source{Name: name, Discovered: s.Discovered, Splits: []Split{}}
	if len(s.Enumerator) > 0 {
		out.Enumerator = Readable(s.Enumerator)
	}
	for _, row := range s.Splits {
		st := "waiting"
		switch {
		case row.Finished:
			st = "finished"
		case row.Started:
			st = "reading"
		}
		out.Splits = append(out.Splits, Split{ID: row.ID, State: st, Watermark: eventTime(row.Watermark), Position: Readable(row.Position)})
	}
	return out
}

func describeOperator(name string, op store.Operator) Operator {
	out := Operator{Name: name, Parallelism: op.Parallelism}
	lists := map[string]bool{}
	for i, t := range op.Tasks {
		if at := eventTime(t.Watermark); i == 0 || at == nil || out.Watermark != nil && at.Before(*out.Watermark) {
			out.Watermark = at
		}
		if t.Keyed != nil {
			out.Keyed += t.Keyed.Size
		}
		out.Writer += int64(len(t.Writer))
		for _, l := range t.Lists {
			lists[l] = true
		}
		if len(t.Files) > 0 {
			out.Backend = t.Backend
			out.Note = "the entries in these files aren't counted: the backend " + t.Backend + " alone can read them; a savepoint has them in a form that can be shown"
		}
		for _, f := range t.Files {
			out.Files = append(out.Files, File{t.Index, f.Name, f.Blob.Size})
		}
	}
	out.Lists = slices.Sorted(maps.Keys(lists))
	return out
}

// eventTime is a stored watermark; nil if there is none, or if it says that everything is over.
func eventTime(at int64) *time.Time {
	t := time.UnixMicro(at).UTC()
	if t.Year() < 0 || t.Year() > 9999 {
		return nil
	}
	return &t
}

// Readable is what connectors store, as JSON: as it is if it is JSON, decoded if it is CBOR, with base64 for byte strings and
// for what is neither.
func Readable(b []byte) json.RawMessage {
	if len(b) > 0 && json.Valid(b) {
		var out bytes.Buffer
		if json.Compact(&out, b) == nil {
			return out.Bytes()
		}
	}
	var v any
	if cbor.Unmarshal(b, &v) == nil {
		if out, err := json.Marshal(plain(v)); err == nil {
			return out
		}
	}
	out, err := json.Marshal(map[string][]byte{"bytes": b})
	if err != nil {
		return json.RawMessage("null")
	}
	return out
}

// plain makes maps of CBOR, which may have any keys, ones that JSON has.
func plain(v any) any {
	switch v := v.(type) {
	case map[any]any:
		m := map[string]any{}
		for k, e := range v {
			m[fmt.Sprint(k)] = plain(e)
		}
		return m
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	}
	return v
}

// Verify reads every byte a checkpoint names and checks it: fault.DamagedEpoch with the file.
func Verify(from store.Store, rec *store.Record) (blobs int, size int64, err error) {
	for b := range rec.Blobs() {
		if err := from.Verify(b); err != nil {
			return blobs, size, err
		}
		blobs++
		size += b.Size
	}
	return blobs, size, nil
}
