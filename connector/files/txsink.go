package files

import (
	"cmp"
	"context"
	"errors"
	"os"
	"strings"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/parts"
)

// TxSink writes records into files that appear whole, each exactly once, when their epoch is complete. It implements
// [sink.TwoPhase] and [sink.Preflight].
//
//	files.TxSink[Order]{Dir: "out", Format: parts.JSON[Order]{}, Bucket: parts.ByTime(orderTime, parts.ByHour)}
//
// An epoch gives at least one file per task and bucket that had records, more where one is full, named
//
//	<Dir>/<bucket>/<Prefix><operator>-<epoch>-<slot>-<token>-<number><Suffix>
//	out/dt=2026-01-02/hour=03/part-out-000000000007-2-9f86d081884c7d659a2feaa0c55ad015-0000.jsonl
//
// Records of a task and bucket stand in them in the order they were written. Before that the files are in a hidden directory in
// Dir, whose name begins with a dot; readers must leave those alone. They may read a visible file at once, but move or
// remove it only when a later epoch is complete: until its commit is recorded, a file that is nowhere counts as lost.
//
// Files of several jobs may share a directory. Nothing but what is hidden under this job's own slots is ever removed. Dir, with all
// buckets, must be on one file system, where a rename is atomic and survives a crash once the directories are synced, as on
// any local one.
//
// Format and Bucket are called by all tasks at once. Write goes to the disk's cache; where a file ends, and in Prepare and
// Commit, it is waited for.
type TxSink[T any] struct {
	Dir    string // where the files are. Needed; must exist
	Prefix string // begins the name of every file; not hidden, no slash. Unset: "part-"
	Suffix string // ends it, such as ".csv". Unset: as the format has it, which for text is nothing

	// Encode appends a record, its line end too, to dst. It is short for a Format of parts.Text with this Encode.
	Encode func(dst []byte, v T) []byte

	// Format is how records become a file: [parts.Text], [parts.JSON], [parts.CSV], sink/parts/parquet or one of your own. A record that
	// it can't write is rejected. Unset: [parts.Text].
	Format parts.Format[T]

	// Bucket is the directory below Dir a record belongs to; [parts.ByTime] makes one of a time of it. A record with one that
	// leaves Dir, or is hidden, is rejected. Unset: all are in Dir itself.
	Bucket parts.Bucket[T]

	Rolling parts.Rolling // when a file ends before its epoch does. Unset: at 128 MiB
	MaxOpen int           // buckets a task has a file open in at once; one more ends the file that was used least recently. 0 = 64, negative = no limit

	// CompactBelow is the size in bytes of files that are small: those of a bucket are joined in the commit, into files of
	// up to Rolling.Size. 0 or negative = none are. Format must be a [parts.Joiner].
	CompactBelow int64
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
	if strings.HasPrefix(s.Prefix, ".") || !parts.InName(s.Prefix+s.Suffix) {
		errs = append(errs, fault.New(fault.BadPipeline, "file sink: Prefix %q or Suffix %q can't be part of a visible file's name",
			s.Prefix, s.Suffix).WithFix("begin with another character than a dot and leave out slashes"))
	}
	if s.Encode != nil && s.Format != nil {
		errs = append(errs, fault.New(fault.BadPipeline, "file sink: Encode and Format are both set").
			WithFix("put Encode into a Format: parts.Text[T]{Encode: f}"))
	}
	if _, err := s.format().Encoder(); err != nil {
		errs = append(errs, fault.Wrap(fault.BadPipeline, err, "file sink: Format can't be used"))
	}
	if _, ok := s.format().(parts.Joiner); !ok && s.CompactBelow > 0 {
		errs = append(errs, fault.New(fault.BadPipeline, "file sink: CompactBelow is set, and files of format %T can't be joined", s.Format).
			WithFix("give the format a method Join, or leave CompactBelow out"))
	}
	return errors.Join(errs...)
}

// format is the one to use.
func (s TxSink[T]) format() parts.Format[T] {
	if s.Format == nil {
		return parts.Text[T]{Encode: s.Encode}
	}
	return s.Format
}

// Preflight looks whether files can be made in Dir.
func (s TxSink[T]) Preflight(context.Context) error {
	if err := s.Validate(); err != nil {
		return err
	}
	name, err := os.MkdirTemp(s.Dir, ".preflight-*")
	if err != nil {
		return dirFault(err, s.Dir, "make files in")
	}
	return os.Remove(name)
}

// TxWriter makes the writer of one task.
func (s TxSink[T]) TxWriter(_ context.Context, t sink.Task) (sink.TxWriter[T], error) {
	if err := s.ready(t); err != nil {
		return nil, err
	}
	return newTxWriter(s, t)
}

// Committer makes the committer of the operator.
func (s TxSink[T]) Committer(_ context.Context, t sink.Task) (sink.Committer, error) {
	if err := s.ready(t); err != nil {
		return nil, err
	}
	c := &txCommitter{disk: disk{dir: s.Dir}, names: s.names(t.Operator), count: counter(t)}
	if s.CompactBelow > 0 {
		c.below, c.limit = s.CompactBelow, cmp.Or(s.Rolling.Size, parts.DefaultSize)
		c.join = s.format().(parts.Joiner) // Validate has seen to it
	}
	return c, nil
}

// names says how files of an operator are called.
func (s TxSink[T]) names(operator string) names {
	return names{parts.Name{Prefix: s.Prefix, Operator: operator, Suffix: cmp.Or(s.Suffix, s.format().Ext())}}
}

func (s TxSink[T]) ready(t sink.Task) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if t.Operator == "" || !parts.InName(t.Operator) {
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
