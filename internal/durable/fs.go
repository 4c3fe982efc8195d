package durable

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
)

// ErrLocked is what FS.Lock returns when somebody else holds the lock.
var ErrLocked = errors.New("file is locked")

// FS is a file system. It exists so that tests can fail, tear and forget. Errors
// match fs.ErrNotExist, fs.ErrExist and fs.ErrPermission where these apply. Names are paths of the operating system.
type FS interface {
	Mkdir(dir string) error                 // one level, mode 0700; an existing directory is fine
	Open(name string) (File, error)         // for reading
	Create(name string) (File, error)       // for writing, emptied if it exists, mode 0600
	Append(name string) (File, error)       // for writing at the end; it must exist
	Link(from, to string) error             // a second name for a file where it can, else a copy, not synced; to must not exist
	Rename(from, to string) error           // in one directory; replaces to in one step
	Remove(name string) error               // a file, or a directory with all it has; absent is fine
	List(dir string) ([]fs.DirEntry, error) // sorted by name
	SyncDir(dir string) error               // makes creations, renames and removals in dir durable
	Lock(name string) (Claim, error)        // ErrLocked if held elsewhere; ends with the process at the latest
}

// File is an open file of an FS.
type File interface {
	io.ReaderAt
	io.Writer
	io.Closer
	Size() (int64, error)
	Sync() error
}

// Claim is a locked file. Closing it gives the lock back; the file stays.
type Claim interface {
	io.Closer
	Replace(content []byte) error // sets what others may read; needn't survive a crash
}

// OS is the operating system's file system.
var OS FS = osFS{}

type osFS struct{}

func (osFS) Mkdir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		if fi, statErr := os.Stat(dir); statErr == nil && fi.IsDir() {
			return nil
		}
		return &fs.PathError{Op: "mkdir", Path: dir, Err: errors.New("exists and is not a directory")}
	}
	return err
}

func (osFS) Open(name string) (File, error) { return wrapFile(os.Open(name)) }

func (osFS) Create(name string) (File, error) {
	return wrapFile(os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600))
}

func (osFS) Append(name string) (File, error) {
	return wrapFile(os.OpenFile(name, os.O_RDWR|os.O_APPEND, 0o600))
}

func (osFS) Link(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = io.Copy(out, in)
		err = errors.Join(err, out.Close())
	}
	return errors.Join(err, in.Close())
}

func (osFS) Rename(from, to string) error { return os.Rename(from, to) }

func (osFS) Remove(name string) error { return os.RemoveAll(name) }

func (osFS) List(dir string) ([]fs.DirEntry, error) { return os.ReadDir(dir) }

func (osFS) SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // directories can't be synced there; the file system's journal orders renames
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (osFS) Lock(name string) (Claim, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &osClaim{f}, nil
}

type osFile struct{ *os.File }

func wrapFile(f *os.File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (f osFile) Size() (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

type osClaim struct{ f *os.File }

func (c *osClaim) Replace(content []byte) error {
	if _, err := c.f.WriteAt(content, 0); err != nil {
		return err
	}
	return c.f.Truncate(int64(len(content)))
}

func (c *osClaim) Close() error { return c.f.Close() }

// TempSuffix is the end of the names of files that are not in their place yet; after a crash they are of no use.
const TempSuffix = ".tmp"

// ReadFile reads a whole file.
func ReadFile(fsys FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	n, err := f.Size()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	data, err := io.ReadAll(io.NewSectionReader(f, 0, n))
	return data, errors.Join(err, f.Close())
}

// WriteTemp writes data to name+TempSuffix and syncs it. The rename is left to the caller.
func WriteTemp(fsys FS, name string, data []byte) error {
	f, err := fsys.Create(name + TempSuffix)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Replace puts data in the place of name. It is durable after the directory is synced, which is left to the caller.
func Replace(fsys FS, name string, data []byte) error {
	if err := WriteTemp(fsys, name, data); err != nil {
		return err
	}
	return fsys.Rename(name+TempSuffix, name)
}
