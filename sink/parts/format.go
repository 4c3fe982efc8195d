package parts

import (
	"errors"
	"io"
)

// A Format says how records become a file. It is a plain value; its methods are called by all tasks at once. Anybody may
// implement it.
type Format[T any] interface {
	// Encoder makes an encoder, or says what is wrong with the settings. There is one for each file that is open at once.
	Encoder() (Encoder[T], error)

	// Ext is how names of such files usually end, with the dot; "" if in no special way.
	Ext() string
}

// An Encoder writes files one after another, each from Begin to End. One goroutine calls it.
type Encoder[T any] interface {
	// Begin starts a file, whose bytes go to w in order. What an unfinished one had is forgotten.
	Begin(w io.Writer) error

	// Append adds a record, now or later. An error made by [Bad] is the record's: the file is as if it hadn't come. Any
	// other is the file's, which can't be gone on with.
	Append(v T) error

	// End writes whatever is left. With nil the file is whole.
	End() error

	// Size is how many bytes the file has so far, those that are still to be written included: an estimate, if they are
	// yet to be compressed.
	Size() int64
}

// A Joiner is a [Format] whose files can be made one that holds the records of all, in their order.
type Joiner interface {
	Join(w io.Writer, files []*io.SectionReader) error
}

// Bad marks an error as the record's: it can't be written in this format, others can.
func Bad(err error) error {
	if err == nil {
		return nil
	}
	return &bad{err}
}

// IsBad says whether err, or what it wraps, was marked by [Bad].
func IsBad(err error) bool {
	_, ok := errors.AsType[*bad](err)
	return ok
}

type bad struct{ err error }

func (b *bad) Error() string { return b.err.Error() }
func (b *bad) Unwrap() error { return b.err }

// bufferSize is how many bytes are gathered before they are written.
const bufferSize = 128 << 10

// buffer gathers what goes to a file.
type buffer struct {
	w    io.Writer
	b    []byte
	sent int64
}

// Begin starts a file.
func (o *buffer) Begin(w io.Writer) error {
	o.w, o.b, o.sent = w, o.b[:0], 0
	return nil
}

// Write makes it what other encoders can write to. It never fails.
func (o *buffer) Write(p []byte) (int, error) {
	o.b = append(o.b, p...)
	return len(p), nil
}

// End writes the rest.
func (o *buffer) End() error { return o.flush() }

// Size is what was written and what waits.
func (o *buffer) Size() int64 { return o.sent + int64(len(o.b)) }

// spill writes if enough has been gathered.
func (o *buffer) spill() error {
	if len(o.b) < bufferSize {
		return nil
	}
	return o.flush()
}

func (o *buffer) flush() error {
	n, err := o.w.Write(o.b)
	o.sent += int64(n)
	o.b = o.b[:copy(o.b, o.b[n:])]
	return err
}

// concat is Join for formats whose files have neither head nor foot.
func concat(w io.Writer, files []*io.SectionReader) error {
	for _, f := range files {
		if _, err := io.Copy(w, f); err != nil {
			return err
		}
	}
	return nil
}
