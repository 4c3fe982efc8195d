package store

import (
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/weirline/weirline/internal/durable"
	"github.com/weirline/weirline/sink"
)

// ErrUnknown marks the error of a Publish that can't tell whether the epoch is complete: the pointer was perhaps
// replaced. The epoch must be neither announced nor deleted; the next Latest tells.
var ErrUnknown = errors.New("outcome unknown")

// Store is what the engine needs of a place that keeps epochs. Sealed: it may gain methods; *Dir is one.
type Store interface {
	Epochs
	Blobs
	Ledger

	// Close gives the claim back. Idempotent. Nothing else may be called afterwards, or be running.
	Close() error
}

// Epochs numbers, completes and finds epochs. Sealed.
type Epochs interface {
	// NextEpoch hands out a number, larger than every one handed out before, in this process or an earlier one. Now and
	// then it waits for the disk.
	NextEpoch() (uint64, error)

	// Publish makes the epoch of rec complete; see the package comment for its three outcomes. Format and Job of the
	// stored record are set by the store. Everything rec names must be finished. Numbers must rise from one successful
	// Publish to the next. After success, epochs beyond retention are deleted.
	Publish(rec *Record) error

	// Discard deletes the blobs of an epoch that was declined. It does nothing to a complete epoch or one whose outcome
	// is unknown. Errors are only logged: what is left goes with a later Publish or Open.
	Discard(epoch uint64)

	// Latest returns the newest complete epoch, nil if there is none. Damage (fault.DamagedEpoch) names the file and the
	// newest older epoch that is whole. The sizes of blobs are checked, their contents by Verify.
	Latest() (*Record, error)

	// Fallback returns the newest complete epoch that is whole, other than the newest of all, with all blobs verified;
	// fault.DamagedEpoch if there are epochs but none such, nil if there are none at all. The first Publish after it drops
	// damaged epochs. For use only if the user allows it: what was committed since will appear again.
	Fallback() (*Record, error)

	// Load returns a retained epoch by its number; fault.NoCheckpoint if it isn't there.
	Load(epoch uint64) (*Record, error)

	// Records lists the retained epochs, oldest first.
	Records() []Info

	// Drop deletes all epochs; the next Latest finds none. Numbers go on rising, grants and commits stay. For a job that has
	// ended and has nothing left to commit.
	Drop() error

	// Pin sets which epochs retention must not delete, beside the newest ones. It replaces what was pinned before and
	// isn't stored. Pin before the first Publish.
	Pin(epochs ...uint64)
}

// Blobs writes and reads pieces of state. Sealed.
type Blobs interface {
	// Create begins a blob of an epoch that isn't complete yet. Name is any string, unique in the epoch.
	Create(epoch uint64, name string) (Writer, error)

	// Adopt takes a finished file, whose content must never change again, as a blob of an epoch that isn't complete yet:
	// by a hard link where it can, else by copy. It reads the whole file for its checksum, and the content is durable when
	// it returns. Path is one of the operating system, and stays the caller's: it may be removed at once. Name is as in Create.
	Adopt(epoch uint64, name, path string) (Blob, error)

	// Fetch makes the file path from a blob, after checking the size: by a hard link where it can, else by copy. It must not
	// exist, and must never be written to: it may be the store's own file under a second name. It isn't synced.
	Fetch(b Blob, path string) error

	// ReadBlob opens a blob after checking its size; the content is checked by Verify only. The caller closes the reader.
	ReadBlob(b Blob) (Reader, error)

	// Verify reads the whole blob and checks its checksum: fault.DamagedEpoch if it differs.
	Verify(b Blob) error
}

// Ledger is what is known of transactions, whichever epoch is restored. Sealed.
type Ledger interface {
	// Grant makes durable that slots 0..upTo-1 of an operator may be used. It never takes slots back; repeating a grant
	// costs nothing.
	Grant(op string, upTo int) error

	// Granted returns a copy of all grants: operator -> number of slots.
	Granted() map[string]int

	// Committed makes durable that the transactions of hs are committed. After an error it may be called again.
	Committed(hs []sink.Handle) error

	// IsCommitted says whether the transaction with this token is known to be committed. Tokens are forgotten when no
	// retained epoch can ask for them.
	IsCommitted(token string) bool
}

// Writer takes one blob, from one goroutine. Either Finish or Abort ends it; Abort after Finish does nothing, so it can be
// deferred. Errors are fault.StoreFull with the path; after one only Abort makes sense.
type Writer interface {
	io.Writer

	// Finish makes the content durable and returns what a record needs to name it.
	Finish() (Blob, error)

	// Abort removes what was written.
	Abort()
}

// Reader is the content of a blob. ReadAt may be called from several goroutines.
type Reader interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Info is a line in the list of retained epochs.
type Info struct {
	Epoch uint64
	Taken time.Time
	Size  int64 // bytes of the record and of all blobs it names, shared ones included
	End   End
	Whole bool // false: the record can't be read, and Taken and End are unknown
}

// Options of a Dir.
type Options struct {
	// Job is the name of the job; state of another job is refused. Needed.
	Job string

	// Run names this run in the claim. Unset = a random one.
	Run string

	// Retain is how many complete epochs are kept. Unset = 3; negative = all.
	Retain int

	// InlineMax is the size in bytes up to which a blob is kept inside the record. Unset = 20 KiB; negative = none but
	// empty ones.
	InlineMax int

	// Salvage accepts grants and commits with a damaged middle, using the entries that are whole. Set it only if the user
	// allows it: a lost grant leaves transactions unfinished, a lost commit is committed again.
	Salvage bool

	// ReadOnly opens without a claim, also while a job works there: nothing is made, mended or deleted, and whatever would
	// write returns an error. An epoch that is listed may be deleted by its owner at any time. Job may be empty then: any job's.
	ReadOnly bool

	// New is for savepoints: the place must be empty (else fault.SavepointTaken), it takes one epoch of any number, and Close
	// removes the place unless that epoch is complete or perhaps complete.
	New bool

	// Log gets what is deleted, mended or can't be deleted. Unset = nothing is logged.
	Log *slog.Logger

	// FS is the file system. Unset = that of the operating system. Tests pass a storetest.Disk.
	FS FS
}

// WithDefaults replaces what is unset.
func (o Options) WithDefaults() Options {
	if o.Retain == 0 {
		o.Retain = 3
	}
	if o.InlineMax == 0 {
		o.InlineMax = 20 << 10
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = durable.OS
	}
	return o
}
