package blob

import (
	"context"
	"errors"
	"io"
)

// Bucket is a flat set of objects, addressed by keys with slashes. Its methods may be called from any goroutine and end, by
// themselves, after a while. Errors match fs.ErrNotExist and fs.ErrExist where these apply, and ErrRefused when the store
// has answered that it won't do it; after any other error of a write nobody knows whether it was done.
type Bucket interface {
	// Create makes an object only if none has the key; fs.ErrExist otherwise. Of several at once exactly one succeeds.
	Create(ctx context.Context, key string, data []byte) error

	// Put begins an object, replacing one of that key when it is finished.
	Put(ctx context.Context, key string) (Upload, error)

	// Get reads up to n bytes from off; less only at the object's end. Negative n = all.
	Get(ctx context.Context, key string, off, n int64) ([]byte, error)

	// Size is an object's size in bytes.
	Size(ctx context.Context, key string) (int64, error)

	// List lists up to limit objects whose keys begin with prefix and are greater than after, by key. 0 = all.
	List(ctx context.Context, prefix, after string, limit int) ([]Object, error)

	// Delete deletes objects; absent ones are fine.
	Delete(ctx context.Context, keys []string) error

	// String is the place as the user wrote it, without secrets, for messages.
	String() string
}

// Upload is an object being written, by one goroutine. The object is there, durable, when Finish returns nil. Abort after
// Finish does nothing.
type Upload interface {
	io.Writer
	Finish() error
	Abort()
}

// Object is a line of a listing.
type Object struct {
	Key  string
	Size int64
}

// ErrRefused marks the error of a request that had no effect and would have none if it were repeated as it is.
var ErrRefused = errors.New("refused")
