package files

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// TxSink writes records into files that appear whole, each exactly once, when their epoch is complete. It implements
// [sink.TwoPhase] and [sink.Preflight].
//
//	files.TxSink[Order]{Dir: "out", Encode: appendCSV}
//
// An epoch gives one file per task that had records, named
//
//	<Prefix><operator>-<epoch>-<slot>-<token><Suffix>      part-out-000000000007-2-9f86d081884c7d659a2feaa0c55ad015
//
// Records stand in it in the order they were written. Before that it is a hidden file in the same directory, whose name
// begins with a dot; readers must leave those alone. They may read a visible file at once, but move or remove it only
// when a later epoch is complete: until its commit is recorded, a file that is nowhere counts as lost.
//
// Files of several jobs may share a directory. Nothing but the hidden files of this job's own slots is ever removed. The
// directory must be on a file system where a rename is atomic and survives a crash once the directory is synced, as on
// any local one.
//
// Encode is called by all tasks at once. Write goes to the disk's cache; Prepare and Commit wait for the disk.
type TxSink[T any] struct {
	Dir    string // where the files are. Needed; must exist
	Prefix string // begins the name of every file; not hidden, no slash. Unset: "part-"
	Suffix string // ends it, such as ".csv". Unset: none

	// Encode appends a record, its line end too, to dst. Unset: text and bytes as they are, other types as fmt prints
	// them, each followed by a line feed.
	Encode func(dst []byte, v T) []byte
}

var (
	_ sink.TwoPhase[string] = TxSink[string]{}
	_ sink.Preflight        = TxSink[string]{}
)

// Validate says everything that is wrong with the settings. The constructors call it too.
func (s TxSink[T]) Validate() error {
	var errs []error
	if s.Dir == "" {
		errs = append(errs, fault.New(fault.BadPipeline, "file sink: Dir is missing").WithFix("set Dir to an existing directory"))
	}
	if strings.HasPrefix(s.Prefix, ".") || !inName(s.Prefix+s.Suffix) {
		errs = append(errs, fault.New(fault.BadPipeline, "file sink: Prefix %q or Suffix %q can't be part of a visible file's name",
			s.Prefix, s.Suffix).WithFix("begin with another character than a dot and leave out slashes"))
	}
	return errors.Join(errs...)
}

// Preflight looks whether files can be made in Dir.
func (s TxSink[T]) Preflight(context.Context) error {
	if err := s.Validate(); err != nil {
		return err
	}
	f, err := os.CreateTemp(s.Dir, ".preflight-*")
	if err != nil {
		return dirFault(err, s.Dir, "make files in")
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// TxWriter makes the writer of one task.
func (s TxSink[T]) TxWriter(_ context.Context, t sink.Task) (sink.TxWriter[T], error) {
	if err := s.ready(t); err != nil {
		return nil, err
	}
	if s.Encode == nil {
		s.Encode = line[T]()
	}
	return &txWriter[T]{sink: s, operator: t.Operator}, nil
}

// Committer makes the committer of the operator.
func (s TxSink[T]) Committer(_ context.Context, t sink.Task) (sink.Committer, error) {
	if err := s.ready(t); err != nil {
		return nil, err
	}
	return &txCommitter{dir: s.Dir, final: s.finalName(t.Operator)}, nil
}

// finalName makes visible names.
func (s TxSink[T]) finalName(operator string) func(slot sink.Slot, token string, epoch uint64) string {
	prefix := cmp.Or(s.Prefix, "part-")
	return func(slot sink.Slot, token string, epoch uint64) string {
		return fmt.Sprintf("%s%s-%012d-%d-%s%s", prefix, operator, epoch, slot.ID, token, s.Suffix)
	}
}

func (s TxSink[T]) ready(t sink.Task) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if t.Operator == "" || !inName(t.Operator) {
		return fault.New(fault.BadPipeline, "file sink: operator name %q can't be part of a file's name", t.Operator).
			WithFix("name the operator with letters, digits, dots and dashes")
	}
	info, err := os.Stat(s.Dir)
	if err != nil {
		return dirFault(err, s.Dir, "use")
	}
	if !info.IsDir() {
		return fault.New(fault.Preflight, "file sink: %s isn't a directory", s.Dir).WithFix("set Dir to a directory")
	}
	return nil
}

// inName says whether s can be part of a file's name.
func inName(s string) bool {
	return !strings.ContainsAny(s, "/\x00") && !strings.ContainsRune(s, filepath.Separator)
}

func dirFault(err error, dir, do string) error {
	f := fault.Wrap(fault.Preflight, err, "file sink: %s directory %s", do, dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return f.WithFix("make the directory, or set Dir to an existing one")
	case errors.Is(err, os.ErrPermission):
		return f.WithFix("give this user the right to read and write the directory")
	}
	return f.WithFix("check that Dir is a directory with free space on it")
}

// line is the default of Encode.
func line[T any]() func([]byte, T) []byte {
	var f any = func(dst []byte, v T) []byte { return fmt.Appendln(dst, v) }
	switch any(*new(T)).(type) {
	case string:
		f = func(dst []byte, v string) []byte { return append(append(dst, v...), '\n') }
	case []byte:
		f = func(dst, v []byte) []byte { return append(append(dst, v...), '\n') }
	}
	return f.(func([]byte, T) []byte)
}
