package docs

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirline/weirline/enumerator"
	"github.com/weirline/weirline/reader"
	"github.com/weirline/weirline/source"
	"github.com/weirline/weirline/source/sourcetest"
)

// File is a file, and the offset of the next line in it.
type File struct {
	Path   string
	Offset int64
}

// ID is the path.
func (f File) ID() string { return f.Path }

// Lines reads the lines of all files that match a pattern.
func Lines(pattern string) source.Source[string, File] {
	list := func(context.Context) (found []File, err error) {
		paths, err := filepath.Glob(pattern)
		for _, p := range paths {
			found = append(found, File{Path: p})
		}
		return found, err
	}
	return source.Of(enumerator.List(list), reader.Each(open))
}

func open(_ context.Context, at File) (source.Cursor[string, File], error) {
	f, err := os.Open(at.Path)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	if _, err := f.Seek(at.Offset, io.SeekStart); err != nil {
		return nil, fmt.Errorf("go to line in log: %w", err)
	}
	return &lines{at: at, file: f, buf: bufio.NewReader(f)}, nil
}

type lines struct {
	at   File
	file *os.File
	buf  *bufio.Reader
}

func (l *lines) Read(_ context.Context, out *source.Batch[string]) (File, error) {
	for !out.Full() {
		line, err := l.buf.ReadString('\n')
		if line != "" {
			l.at.Offset += int64(len(line))
			out.Add(strings.TrimSuffix(line, "\n"))
		}
		if err != nil {
			return l.at, err // io.EOF as it is: the split is finished
		}
	}
	return l.at, nil
}

func (l *lines) Close() error { return l.file.Close() }

func TestLines(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a.log": "one\ntwo\nthree\n", "b.log": "four\n\nsix, without an end", "empty.log": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sourcetest.Run(t, sourcetest.Case[string, File]{
		Source: Lines(filepath.Join(dir, "*.log")),
		Want:   []string{"one", "two", "three", "four", "", "six, without an end"},
		Bad:    []File{{Path: filepath.Join(dir, "absent.log")}},
	})
}
