package blob

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
)

// fileTemp begins the names of files being written; no key does.
const fileTemp = ".tmp-"

// File is a Bucket in a directory, which may be mounted on several machines: it needs hard links and no locks.
type File struct {
	// Root is the directory. It is made if it is absent.
	Root string
}

func (b File) String() string { return "file://" + filepath.ToSlash(b.Root) }

func (b File) path(key string) string { return filepath.Join(b.Root, filepath.FromSlash(key)) }

// Create implements Bucket. A hard link is what a file system makes only once, also over NFS, and with its content whole.
func (b File) Create(ctx context.Context, key string, data []byte) error {
	u, err := b.begin(key)
	if err != nil {
		return err
	}
	defer u.Abort()
	if _, err := u.f.Write(data); err != nil {
		return refused(err)
	}
	if err := u.close(); err != nil {
		return refused(err)
	}
	if err := os.Link(u.f.Name(), b.path(key)); err != nil {
		return refused(err)
	}
	return syncDir(filepath.Dir(b.path(key)))
}

// refused marks errors of a local file system, which come before any effect. An existing file is no refusal.
func refused(err error) error {
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrRefused, err)
}

// Put implements Bucket.
func (b File) Put(_ context.Context, key string) (Upload, error) {
	u, err := b.begin(key)
	if err != nil {
		return nil, err
	}
	return u, nil
}

func (b File) begin(key string) (*fileUpload, error) {
	to := b.path(key)
	for {
		err := mkdirs(filepath.Dir(to))
		var f *os.File
		if err == nil {
			f, err = os.OpenFile(filepath.Join(filepath.Dir(to), fileTemp+rand.Text()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		}
		switch {
		case err == nil:
			return &fileUpload{f: f, to: to}, nil
		case !errors.Is(err, fs.ErrNotExist): // else Delete has just removed the directory, which was empty
			return nil, refused(err)
		}
	}
}

// mkdirs makes a directory and its parents and syncs their entries.
func mkdirs(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		if err = mkdirs(filepath.Dir(dir)); err == nil {
			err = os.Mkdir(dir, 0o700)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := syncDir(filepath.Dir(dir)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err // a parent that may be entered but not read can't be synced by us
	}
	return nil
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // directories can't be synced there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

type fileUpload struct {
	f     *os.File
	to    string
	ended bool // the file is closed
	gone  bool // and renamed or removed
}

func (u *fileUpload) Write(p []byte) (int, error) { return u.f.Write(p) }

func (u *fileUpload) close() error {
	err := u.f.Sync()
	u.ended = true
	return errors.Join(err, u.f.Close())
}

// Finish implements Upload.
func (u *fileUpload) Finish() error {
	if err := u.close(); err != nil {
		return err
	}
	if err := os.Rename(u.f.Name(), u.to); err != nil {
		return err
	}
	u.gone = true
	return syncDir(filepath.Dir(u.to))
}

// Abort implements Upload.
func (u *fileUpload) Abort() {
	if !u.ended {
		_ = u.f.Close() // it is removed
	}
	if !u.gone {
		_ = os.Remove(u.f.Name()) // what stays is never listed
	}
	u.ended, u.gone = true, true
}

// Get implements Bucket.
func (b File) Get(_ context.Context, key string, off, n int64) ([]byte, error) {
	f, err := os.Open(b.path(key))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if rest := max(0, fi.Size()-off); n < 0 || n > rest {
		n = rest
	}
	data := make([]byte, n)
	m, err := f.ReadAt(data, off)
	if m == len(data) {
		err = nil
	}
	return data[:m], err
}

// Size implements Bucket.
func (b File) Size(_ context.Context, key string) (int64, error) {
	fi, err := os.Stat(b.path(key))
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

// List implements Bucket.
func (b File) List(_ context.Context, prefix, after string, limit int) ([]Object, error) {
	var out []Object
	root := b.path(prefix[:strings.LastIndexByte(prefix, '/')+1])
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasPrefix(e.Name(), fileTemp) {
			return ignoreAbsent(err)
		}
		rel, err := filepath.Rel(b.Root, path)
		if err != nil {
			return err
		}
		key := filepath.ToSlash(rel)
		if !strings.HasPrefix(key, prefix) || key <= after {
			return nil
		}
		fi, err := e.Info()
		if err == nil {
			out = append(out, Object{Key: key, Size: fi.Size()})
		}
		return ignoreAbsent(err)
	})
	if err != nil {
		return nil, err
	}
	sort.Slice(out, func(i, k int) bool { return out[i].Key < out[k].Key })
	if limit > 0 && len(out) > limit {
		out = out[:limit]
	}
	return out, nil
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil // deleted while we looked
	}
	return err
}

// Delete implements Bucket. A directory that gets empty goes too.
func (b File) Delete(_ context.Context, keys []string) error {
	var errs []error
	for _, k := range keys {
		errs = append(errs, ignoreAbsent(os.Remove(b.path(k))))
		for dir := filepath.Dir(b.path(k)); len(dir) > len(filepath.Clean(b.Root)) && filepath.Base(dir) != "log"; dir = filepath.Dir(dir) {
			if os.Remove(dir) != nil {
				break // not empty
			}
		}
	}
	return errors.Join(errs...)
}

var _ Bucket = File{}
