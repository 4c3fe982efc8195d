package store

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weirline/weirline/internal/durable"
	"github.com/weirline/weirline/sink"
)

// Format is the version of the epoch record this binary writes. It reads every version up to this one.
const Format = 2

// Record is everything one epoch knows: the cut through all sources, operators and sinks. It is written once, by the
// coordinator, after every task has acked, and never changed.
type Record struct {
	Format    int                 `cbor:"1,keyasint"`
	Job       string              `cbor:"2,keyasint"`
	Epoch     uint64              `cbor:"3,keyasint"`
	Taken     time.Time           `cbor:"4,keyasint"` // when the barrier was injected, UTC
	KeyGroups int                 `cbor:"5,keyasint"` // fixed by the job's first epoch
	End       End                 `cbor:"6,keyasint"`
	Sources   map[string]Source   `cbor:"7,keyasint"`            // by operator name
	Operators map[string]Operator `cbor:"8,keyasint"`            // by operator name
	Handles   []sink.Handle       `cbor:"9,keyasint"`            // prepared by this epoch or an earlier one, not recorded as committed
	InFlight  []Flight            `cbor:"13,keyasint,omitempty"` // 10 was meant for it and never written
	Origin    string              `cbor:"11,keyasint,omitempty"` // the checkpoint or savepoint this line of epochs was begun from on request
	Prefix    string              `cbor:"12,keyasint,omitempty"` // of the names of transaction slots; "" = the job's name
}

// PrefixOf is the Prefix of a job that begins with an empty store: its name with each dash doubled, "" if it has none. A slot is
// called <prefix>-<operator>-<number> and operators begin with a letter, so the first dash that isn't one of a pair ends the prefix:
// operator c of job a-b and operator b-c of job a have different slots.
func PrefixOf(job string) string {
	if !strings.Contains(job, "-") {
		return ""
	}
	return strings.ReplaceAll(job, "-", "--")
}

// End says whether the job went on after the epoch.
type End int

// The ends.
const (
	Running   End = iota // periodic or requested; the job went on
	Suspended            // the last epoch of a run that was asked to stop; nothing closed early
	Drained              // the input was made to end: windows have fired
	Finished             // the input ended by itself; restoring it runs nothing
)

// Source is the split table of one source and its enumerator's own state.
type Source struct {
	Enumerator []byte  `cbor:"1,keyasint"`
	Discovered bool    `cbor:"2,keyasint"` // Discover had reported done
	Splits     []Split `cbor:"3,keyasint"` // in the order they were found
}

// Split is a row of the split table.
type Split struct {
	ID        string `cbor:"1,keyasint"`
	Position  []byte `cbor:"2,keyasint"` // encoded by the source's codec
	Finished  bool   `cbor:"3,keyasint"`
	Started   bool   `cbor:"4,keyasint"` // some reader has had it
	Watermark int64  `cbor:"5,keyasint"` // microseconds; math.MinInt64 = nothing yet
}

// Operator is the state of all tasks of one operator.
type Operator struct {
	Parallelism int    `cbor:"1,keyasint"`
	Tasks       []Task `cbor:"2,keyasint"`
}

// Task is the state of one task of one operator.
type Task struct {
	Index     int      `cbor:"1,keyasint"`
	Watermark int64    `cbor:"2,keyasint"`           // microseconds; math.MinInt64 = nothing yet
	Keyed     *Blob    `cbor:"3,keyasint"`           // keyed state and timers, by key group; nil = none
	Writer    []byte   `cbor:"4,keyasint"`           // snapshot of a stateful writer
	Lists     []string `cbor:"5,keyasint"`           // names of operator lists, beside Items
	Items     [][]byte `cbor:"6,keyasint"`           // encoded operator lists, one for each name
	Backend   string   `cbor:"7,keyasint"`           // what wrote the keyed state and alone can read Files; "" = the form of Keyed, or format 1
	Files     []File   `cbor:"8,keyasint"`           // the backend's files, often shared with older epochs
	Ahead     []int64  `cbor:"9,keyasint,omitempty"` // event time each key group had reached, where that was more than Watermark
}

// File is a file of a state backend: its name there, and where its content is.
type File struct {
	Name string `cbor:"1,keyasint"`
	Blob Blob   `cbor:"2,keyasint"`
}

// Blob is a piece of state: kept in the record when it is small, in a file of its own otherwise.
type Blob struct {
	Inline []byte `cbor:"1,keyasint"`
	File   string `cbor:"2,keyasint"` // relative to the store's root; "" = inline
	Size   int64  `cbor:"3,keyasint"`
	Sum    uint64 `cbor:"4,keyasint"` // xxhash64 of the content
}

// Flight is records that were on their way to a task when the epoch was taken, because barriers had overtaken them: all of one
// link, whoever sent them.
type Flight struct {
	From  string `cbor:"1,keyasint"` // operator
	Port  string `cbor:"2,keyasint"` // of From; "" = main output
	To    string `cbor:"3,keyasint"` // operator
	Index int    `cbor:"4,keyasint"` // of the receiving task
	Blob  Blob   `cbor:"5,keyasint"` // the record type's signature, then batches, each after its sender's index
}

// Blobs yields every blob the record names, inline ones too: those of tasks by operator name, keyed state before
// files, then those in flight.
func (r *Record) Blobs() iter.Seq[Blob] {
	return func(yield func(Blob) bool) {
		for _, op := range slices.Sorted(maps.Keys(r.Operators)) {
			for _, t := range r.Operators[op].Tasks {
				if t.Keyed != nil && !yield(*t.Keyed) {
					return
				}
				for _, f := range t.Files {
					if !yield(f.Blob) {
						return
					}
				}
			}
		}
		for _, f := range r.InFlight {
			if !yield(f.Blob) {
				return
			}
		}
	}
}

// EncodeRecord puts the record of an epoch into a frame. It fails only for values CBOR has no form for.
func EncodeRecord(r *Record) ([]byte, error) { return durable.Encode(magicRecord, Format, r) }

// DecodeRecord reads what EncodeRecord made. Errors match ErrDamaged, or are a NewerError.
func DecodeRecord(data []byte) (*Record, error) {
	r := new(Record)
	if err := durable.Decode(magicRecord, Format, data, r); err != nil {
		return nil, err
	}
	if r.Epoch == 0 || r.Format < 1 || r.Format > Format {
		return nil, fmt.Errorf("%w: epoch %d, format %d", ErrDamaged, r.Epoch, r.Format)
	}
	return r, nil
}
