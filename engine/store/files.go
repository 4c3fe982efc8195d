package store

import "github.com/weirline/weirline/internal/durable"

// What the first eight bytes of the files say.
const (
	magicRecord  = "weirREC\n"
	magicPointer = "weirPTR\n"
	magicNumbers = "weirNUM\n"
)

// FS is the file system under a Dir. It exists so that tests can fail, tear and forget; sealed to this module.
type FS = durable.FS

// OpenFile is an open file of an FS.
type OpenFile = durable.File

// Claim is a locked file. Closing it gives the lock back; the file stays.
type Claim = durable.Claim

// NewerError says that a file or object was written by a later version.
type NewerError = durable.NewerError

var (
	// ErrDamaged is the root of all errors about content that isn't what was written.
	ErrDamaged = durable.ErrDamaged

	// ErrLocked is what FS.Lock returns when somebody else holds the lock.
	ErrLocked = durable.ErrLocked
)
