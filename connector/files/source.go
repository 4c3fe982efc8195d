package files

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirline/weirline/enumerator"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/reader"
	"github.com/weirline/weirline/source"
)

// defaultMaxLine is the longest line that is accepted if MaxLine is unset.
const defaultMaxLine = 1 << 20

// Source reads the lines of files as values of T. Paths is needed, Decode is for every T but string and []byte.
type Source[T any] struct {
	// Paths are files, directories and patterns as of path/filepath.Match. Of a directory all regular files directly in it
	// are read, but not those whose names begin with "." or "_". Files are read in the order of their paths; one named
	// twice is read once.
	Paths []string

	// Recursive reads directories below directories too.
	Recursive bool

	// Decode makes a value of a line: Text, Bytes, JSON[T] or a function. An error rejects the line. Unset: Text for
	// string, Bytes for []byte. All tasks call it at once.
	Decode func(l Line) (T, error)

	// EventTime is the event time of a value. Unset: values have none. All tasks call it at once.
	EventTime func(v T) time.Time

	// MaxLine is the longest line in bytes, its end not counted. Unset: 1 MiB; negative: no limit.
	MaxLine int

	// Splits cuts the bytes of all files into exactly so many equal splits; compressed files go whole to the split in
	// which they begin. Unset: one split for each file.
	Splits int

	// PerDirectory makes one split of all files of a directory.
	PerDirectory bool

	// Ordered says that the files, sorted by path, follow each other in event time.
	Ordered bool

	// Watch looks for new files so often, and never ends. Unset: the files are listed once. A file is read once, as far
	// as it goes when it is read: put it there by renaming it.
	Watch time.Duration
}

var (
	_ source.Source[string, Split] = Source[string]{}
	_ source.Bounded               = Source[string]{}
	_ source.Preflight             = Source[string]{}
	_ source.Borrower              = Source[string]{}
)

// Bounded is false for a source that watches.
func (s Source[T]) Bounded() bool { return s.Watch <= 0 }

// Borrowed is true for values of type []byte.
func (s Source[T]) Borrowed() bool {
	_, ok := any((*T)(nil)).(*[]byte)
	return ok
}

// Preflight checks the settings and that every file can be opened.
func (s Source[T]) Preflight(ctx context.Context) error {
	if err := s.validate(); err != nil {
		return err
	}
	parts, err := s.list(ctx)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := checkReadable(p.Path); err != nil {
			return err
		}
	}
	return nil
}

// Enumerator finds the splits; see source.Source.
func (s Source[T]) Enumerator(ctx context.Context, t source.Task) (source.Enumerator[Split], error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	e := enumerator.List(s.splits)
	if s.Watch > 0 {
		e = enumerator.Watch(s.splits, s.Watch)
	}
	return enumerator.With(enumerator.Options{Ordered: s.Ordered}, e)(ctx, t)
}

// Reader reads splits; see source.Source.
func (s Source[T]) Reader(ctx context.Context, t source.Task) (source.Reader[T, Split], error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	o := lineOptions[T]{
		decode: s.decode(), time: s.EventTime, max: s.MaxLine, borrow: s.Borrowed(),
	}
	if o.max == 0 {
		o.max = defaultMaxLine
	}
	return reader.Each(func(_ context.Context, at Split) (source.Cursor[T, Split], error) {
		return newCursor(o, at), nil
	})(ctx, t)
}

func (s Source[T]) validate() error {
	var errs []error
	add := func(format string, args ...any) {
		errs = append(errs, fault.New(fault.BadPipeline, format, args...).At("files source"))
	}
	if len(s.Paths) == 0 {
		add("no Paths are set")
	}
	if s.decode() == nil {
		var v T
		add("no Decode is set for values of type %T", v)
	}
	if s.Splits > 0 && s.PerDirectory {
		add("Splits and PerDirectory are both set: choose one")
	}
	if s.Splits > 0 && s.Watch > 0 {
		add("Splits can't be used with Watch: the files that will come aren't known")
	}
	if s.PerDirectory && s.Watch > 0 {
		add("PerDirectory can't be used with Watch: a directory would be read once")
	}
	return errors.Join(errs...)
}

func (s Source[T]) decode() func(Line) (T, error) {
	if s.Decode != nil {
		return s.Decode
	}
	if f, ok := any(Text).(func(Line) (T, error)); ok {
		return f
	}
	f, _ := any(Bytes).(func(Line) (T, error))
	return f
}

// splits lists the files and cuts them.
func (s Source[T]) splits(ctx context.Context) ([]Split, error) {
	parts, err := s.list(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case s.Splits > 0:
		return equalSplits(parts, s.Splits)
	case s.PerDirectory:
		return directorySplits(parts), nil
	}
	out := make([]Split, len(parts))
	for i, p := range parts {
		out[i] = Split{Name: p.Path, Parts: []enumerator.Part{{Path: p.Path, To: -1}}}
	}
	return out, nil
}

func (s Source[T]) list(ctx context.Context) ([]enumerator.Part, error) {
	parts, err := list(ctx, s.Paths, s.Recursive)
	if err != nil {
		return nil, err
	}
	if len(parts) == 0 && s.Watch <= 0 {
		return nil, fault.New(fault.NoInput, "list %s: there are no files", fmt.Sprintf("%q", s.Paths)).
			WithFix("check Paths of the files source; directories are searched below only with Recursive, names that begin with \".\" or \"_\" are left out")
	}
	return parts, nil
}
