package deadletter

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/weirline/weirline/internal/durable"
	"github.com/weirline/weirline/internal/fault"
)

// Files are letters in files, one a line as JSON, plain or gzipped (.gz). What was replayed is remembered in hidden files beside
// them, named .replayed-<operator>.json. A letter's place is its file and its line: files may be compressed and more lines may be
// appended, but those that were replayed must keep their names and lines, or be removed.
type Files struct {
	Path string // a directory, which is read with all below it but what is hidden, or one file
}

var _ Log = Files{}

// String is the path.
func (f Files) String() string { return f.Path }

// root is the directory of what is remembered.
func (f Files) root() (dir string, one bool, _ error) {
	info, err := os.Stat(f.Path)
	switch {
	case err != nil:
		return "", false, fault.Wrap(fault.DeadLetters, err, "look for dead letters").WithFix("give the directory that the sink of dead letters writes to")
	case info.IsDir():
		return f.Path, false, nil
	}
	return filepath.Dir(f.Path), true, nil
}

// Scan reads the files in the order of their names. The last line of a file may be still being written: without its end it isn't
// read.
func (f Files) Scan(ctx context.Context, each func(at Place, l Letter) error) error {
	root, one, err := f.root()
	if err != nil {
		return err
	}
	if one {
		return scanFile(ctx, f.Path, partOf(root, f.Path), each)
	}
	return filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fault.Wrap(fault.DeadLetters, err, "read directory")
		case name != root && strings.HasPrefix(e.Name(), "."):
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case !e.Type().IsRegular():
			return nil
		}
		return scanFile(ctx, name, partOf(root, name), each)
	})
}

// partOf is what a file is called in places, compressed or not.
func partOf(root, name string) string {
	if rel, err := filepath.Rel(root, name); err == nil {
		name = rel
	}
	return strings.TrimSuffix(filepath.ToSlash(name), ".gz")
}

func scanFile(ctx context.Context, name, part string, each func(at Place, l Letter) error) (err error) {
	f, err := os.Open(name)
	if err != nil {
		return fault.Wrap(fault.DeadLetters, err, "read dead letters")
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var in io.Reader = f
	if strings.HasSuffix(name, ".gz") {
		if in, err = gzip.NewReader(f); err != nil {
			return fault.Wrap(fault.DeadLetters, err, "read file %s", name)
		}
	}
	lines := bufio.NewReaderSize(in, 64<<10)
	for n := int64(1); ; n++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fault.Wrap(fault.DeadLetters, err, "read file %s", name)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		l, err := Read(line)
		if err != nil {
			return fault.Wrap(fault.DeadLetters, err, "line %d of %s", n, name).WithFix("take what isn't a dead letter out of the directory")
		}
		if err := each(Place{part, n}, l); err != nil {
			return err
		}
	}
}

// Read reads the JSON of one letter.
func Read(data []byte) (l Letter, _ error) {
	if err := json.Unmarshal(data, &l); err != nil {
		return l, err
	}
	if l.Operator == "" || l.Cause == "" {
		return l, errors.New("it is no dead letter: operator or cause is missing")
	}
	return l, nil
}

func (f Files) beside(begin, operator, end string) (dir, name string, _ error) {
	dir, _, err := f.root()
	return dir, filepath.Join(dir, begin+operator+end), err
}

// Marks implements Log.
func (f Files) Marks(_ context.Context, operator string) ([]byte, error) {
	_, name, err := f.beside(".replayed-", operator, ".json")
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(fault.DeadLetters, err, "read what was replayed")
	}
	return data, nil
}

// SetMarks implements Log: the file is replaced in one step, and synced.
func (f Files) SetMarks(_ context.Context, operator string, marks []byte) error {
	dir, name, err := f.beside(".replayed-", operator, ".json")
	if err != nil {
		return err
	}
	if err = durable.Replace(durable.OS, name, marks); err == nil {
		err = durable.OS.SyncDir(dir)
	}
	if err != nil {
		return fault.Wrap(fault.DeadLetters, err, "remember what was replayed").WithFix("mend the directory; the next replay may write letters of this one again")
	}
	return nil
}

// Lock implements Log: a lock of the operating system on a hidden file, which ends with the process at the latest.
func (f Files) Lock(_ context.Context, operator string) (unlock func() error, _ error) {
	_, name, err := f.beside(".replaying-", operator, ".lock")
	if err != nil {
		return nil, err
	}
	c, err := durable.OS.Lock(name)
	if errors.Is(err, durable.ErrLocked) {
		return nil, fault.New(fault.DeadLetters, "another replay of the letters of operator %q is under way in %s", operator, f.Path).WithFix("wait for its end")
	}
	if err != nil {
		return nil, fault.Wrap(fault.DeadLetters, err, "lock the dead letters")
	}
	return c.Close, nil
}
