package state

// Backend makes the disks behind keyed state that doesn't fit into memory; engine.Config.State takes one. It is used by
// all tasks at once.
type Backend interface {
	// Dir is where the working directories of tasks are made; "" = below the state directory.
	Dir() string

	// Name is stored in checkpoints, so that one made with another backend is recognised: "pebble".
	Name() string

	// Open opens the disk of one task of one operator in a directory, which is made if it doesn't exist, or holds files that
	// Checkpoint gave.
	Open(dir string) (Disk, error)
}

// Scanner reads a range of a disk.
type Scanner interface {
	// Scan calls f for each key from from, inclusive, to to, exclusive, in the order of bytes, until f returns false. Key and
	// value are good during the call only.
	Scan(from, to []byte, f func(key, value []byte) bool) error
}

// Disk is an ordered store of bytes, owned by one task of one operator. The task reads and writes; while a capture is being
// written, another goroutine writes and the task only reads. What isn't in a Checkpoint needn't survive the process.
type Disk interface {
	Scanner

	// Get appends the value of a key to dst; ok is false if there is none.
	Get(key, dst []byte) (value []byte, ok bool, err error)

	// Batch begins a batch of changes.
	Batch() Batch

	// Replace puts what fill gives to set, in ascending order and within the range, in the place of all keys from from,
	// inclusive, to to, exclusive, all at once. Keys and values are copied. After an error, also fill's, nothing is changed.
	// What was committed before is replaced, what is committed later isn't.
	Replace(from, to []byte, fill func(set func(key, value []byte) error) error) error

	// Snapshot is the disk as it is now, however it changes afterwards. Close it.
	Snapshot() (View, error)

	// Checkpoint puts all that is committed into files in a directory that doesn't exist yet, by linking those that a
	// previous checkpoint had already, under the same names. Files are never changed afterwards, nor by a disk that is
	// opened on links to them.
	Checkpoint(dir string) error

	// Size is about the number of bytes on the disk. Any goroutine.
	Size() int64

	// Room is how many bytes the tables in front of this disk may take in memory. Any goroutine.
	Room() int64

	// Close closes the disk and leaves its directory. Nothing may be running.
	Close() error
}

// View is a Disk at one moment.
type View interface {
	Scanner
	Close() error
}

// Batch is a list of changes, which take effect in their order, all at once. Keys and values are copied.
type Batch interface {
	Set(key, value []byte) error
	Delete(key []byte) error
	// DeleteRange deletes all keys from from, inclusive, to to, exclusive.
	DeleteRange(from, to []byte) error
	// Size is the number of bytes collected.
	Size() int
	// Commit makes the changes; then the batch is gone.
	Commit() error
	// Discard forgets the batch.
	Discard()
}
