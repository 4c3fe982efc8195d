package kafka

import "time"

// Start says where to begin in partitions that are seen for the first time. The zero value is [Earliest]. A partition
// added to a topic later is always read from its earliest offset.
type Start struct {
	kind     startKind
	group    string
	fallback startKind
	at       time.Time
	offsets  map[string]map[int32]int64
}

type startKind int

const (
	startEarliest startKind = iota
	startLatest
	startFail // only as a fallback
	startCommitted
	startAt
	startOffsets
)

// The simple starts. They must not be changed.
var (
	Earliest = Start{}                  // at the oldest record
	Latest   = Start{kind: startLatest} // after the newest record; with ReadCommitted, before the oldest open transaction
)

// Fallback says what [Committed] does for a partition without a committed offset.
type Fallback int

// The fallbacks.
const (
	OrFail     Fallback = iota // the job doesn't start
	OrEarliest                 // as Earliest
	OrLatest                   // as Latest
)

// Committed starts at the offsets that a consumer group has committed.
func Committed(group string, f Fallback) Start {
	kinds := map[Fallback]startKind{OrEarliest: startEarliest, OrLatest: startLatest}
	fallback, ok := kinds[f]
	if !ok {
		fallback = startFail
	}
	return Start{kind: startCommitted, group: group, fallback: fallback}
}

// At starts at the first record whose timestamp is t or later; after the newest record if there is none.
func At(t time.Time) Start { return Start{kind: startAt, at: t} }

// Offsets starts at the offset given for a topic and partition, and at the earliest where none is given.
func Offsets(o map[string]map[int32]int64) Start { return Start{kind: startOffsets, offsets: o} }

// Stop says where reading ends. The zero value is never.
type Stop struct {
	bounded bool
	offsets map[string]map[int32]int64
}

// StopLatest ends at what is the end when the job starts for the first time; with ReadCommitted, before the oldest open
// transaction then. It must not be changed.
var StopLatest = Stop{bounded: true}

// StopAt ends before the offset given for a topic and partition, and as StopLatest where none is given. An offset not
// written yet is waited for.
func StopAt(o map[string]map[int32]int64) Stop { return Stop{bounded: true, offsets: o} }

// OutOfRange says what happens when the next record to read is gone: deleted by retention, or cut off when a broker
// lost data. What was lost is logged and counted as lost_records in any case.
type OutOfRange int

// The policies for lost records.
const (
	FailIfLost OutOfRange = iota // the task fails
	ToEarliest                   // go on at the oldest record there is
	ToLatest                     // go on after the newest record there is
)

// Deleted says what happens when a partition disappears: its topic was deleted, perhaps made again, or a restored job
// has a position in a topic that its settings no longer name.
type Deleted int

// The policies for deleted partitions.
const (
	FailIfDeleted Deleted = iota // the task fails
	DropIfDeleted                // the partition is finished, logged, and counted as dropped_partitions
)
