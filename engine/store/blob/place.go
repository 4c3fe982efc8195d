package blob

import (
	"context"
	"strings"

	"github.com/weirline/weirline/internal/fault"
)

// Place is a flat set of small objects, such as the rows of a write-ahead sink (ahead.Sink.Place). Its methods may be called from any
// goroutine.
type Place struct{ b Bucket }

// PlaceAt opens the place at a location, a file:// or s3:// URL as [Open] takes it. It does no I/O. Checkpoints may be in the same
// bucket, under another prefix.
func PlaceAt(location string) (Place, error) {
	scheme, _, ok := strings.Cut(location, "://")
	if !ok {
		return Place{}, fault.New(fault.BadPipeline, "place %q isn't a URL", location).WithFix("write s3://bucket/prefix or file:///path")
	}
	b, err := bucketAt(scheme, location)
	return Place{b}, err
}

// Create makes an object, or replaces it.
func (p Place) Create(ctx context.Context, name string, data []byte) error {
	u, err := p.b.Put(ctx, name)
	if err != nil {
		return err
	}
	defer u.Abort()
	if _, err := u.Write(data); err != nil {
		return err
	}
	return u.Finish()
}

// Read returns an object's content.
func (p Place) Read(ctx context.Context, name string) ([]byte, error) {
	return p.b.Get(ctx, name, 0, -1)
}

// List returns the names that begin with prefix, in order.
func (p Place) List(ctx context.Context, prefix string) ([]string, error) {
	objects, err := p.b.List(ctx, prefix, "", 0)
	names := make([]string, len(objects))
	for i, o := range objects {
		names[i] = o.Key
	}
	return names, err
}

// Remove removes objects; absent ones are fine.
func (p Place) Remove(ctx context.Context, names []string) error { return p.b.Delete(ctx, names) }

func (p Place) String() string { return p.b.String() }
