package ahead

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/weirline/weirline/internal/durable"
)

// Place is where segments are: a flat set of small files, or objects. What one call has done every later one sees, whoever makes it. Its
// methods may be called from any goroutine, wait for the disk or the network, and end within ctx.
type Place interface {
	// Create makes a file whole and durable, or replaces it.
	Create(ctx context.Context, name string, data []byte) error

	// Read returns a file's content; an error that matches fs.ErrNotExist if there is none.
	Read(ctx context.Context, name string) ([]byte, error)

	// List returns the names that begin with prefix, in order.
	List(ctx context.Context, prefix string) ([]string, error)

	// Remove removes files; absent ones are fine.
	Remove(ctx context.Context, names []string) error

	// String is the place as the user wrote it, for messages.
	String() string
}

// Directory is the place that [Sink.Dir] names: a directory on a local disk. It is made when the first file is, in one that is there.
func Directory(path string) Place {
	if whole, err := filepath.Abs(path); err == nil { // else it is as good as it can be
		path = whole
	}
	return dir(path)
}

type dir string

func (d dir) String() string { return string(d) }

func (d dir) path(name string) string { return filepath.Join(string(d), name) }

// Create leaves nothing behind when it fails, since the disk may be full.
func (d dir) Create(_ context.Context, name string, data []byte) error {
	err := durable.Replace(durable.OS, d.path(name), data)
	if errors.Is(err, fs.ErrNotExist) {
		if err = d.make(); err == nil {
			err = durable.Replace(durable.OS, d.path(name), data)
		}
	}
	if err != nil {
		_ = os.Remove(d.path(name) + durable.TempSuffix) // the error says more
		return err
	}
	return durable.OS.SyncDir(string(d))
}

func (d dir) make() error {
	if err := durable.OS.Mkdir(string(d)); err != nil {
		return err
	}
	return durable.OS.SyncDir(filepath.Dir(string(d)))
}

func (d dir) Read(_ context.Context, name string) ([]byte, error) {
	return durable.ReadFile(durable.OS, d.path(name))
}

// List lists what a crash left half written too.
func (d dir) List(_ context.Context, prefix string) (names []string, _ error) {
	entries, err := durable.OS.List(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // nothing has waited yet
	}
	for _, e := range entries {
		if len(e.Name()) >= len(prefix) && e.Name()[:len(prefix)] == prefix {
			names = append(names, e.Name())
		}
	}
	return names, err
}

func (d dir) Remove(_ context.Context, names []string) error {
	for _, name := range names {
		if err := os.Remove(d.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
