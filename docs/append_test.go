package docs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/sinktest"
)

// Append appends lines to a file of each task's own.
type Append struct{ Dir string }

// Writer opens the task's file.
func (a Append) Writer(_ context.Context, t sink.Task) (sink.Writer[string], error) {
	name := filepath.Join(a.Dir, fmt.Sprintf("%s-%d.txt", t.Operator, t.Index))
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open output: %w", err)
	}
	return &appender{file: f, buf: bufio.NewWriter(f)}, nil
}

type appender struct {
	file *os.File
	buf  *bufio.Writer
}

func (a *appender) Write(_ context.Context, batch []string) error {
	for _, line := range batch {
		if _, err := a.buf.WriteString(line + "\n"); err != nil {
			return fmt.Errorf("append lines: %w", err)
		}
	}
	return nil
}

func (a *appender) Flush(context.Context) error {
	if err := errors.Join(a.buf.Flush(), a.file.Sync()); err != nil {
		return fmt.Errorf("append lines: %w", err)
	}
	return nil
}

func (a *appender) Close() error {
	if err := a.file.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil // the second call
}

func TestAppend(t *testing.T) {
	dir := t.TempDir()
	sinktest.Run(t, sinktest.Case[string]{
		Sink: Append{Dir: dir},
		Make: func(i int) string { return fmt.Sprint("line ", i) },
		Read: func() (lines []string, err error) {
			names, err := filepath.Glob(filepath.Join(dir, "*.txt"))
			for _, name := range names {
				b, readErr := os.ReadFile(name)
				err = errors.Join(err, readErr)
				lines = append(lines, strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")...)
			}
			return lines, err
		},
	})
}
