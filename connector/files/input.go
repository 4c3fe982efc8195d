package files

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/weirline/weirline/enumerator"
	"github.com/weirline/weirline/internal/fault"
)

// zipBlock is how many compressed bytes are read at once.
const zipBlock = 64 << 10

// input is an open file, plain or compressed, that stands at an offset or is on the way there.
type input struct {
	path string
	f    *os.File
	r    io.Reader
	gz   bool
	skip int64 // uncompressed bytes still to be thrown away
	size int64 // of the file as it lies on disk
}

// openInput opens the file of a part to be read from offset on.
func openInput(p enumerator.Part, offset int64) (*input, error) {
	f, err := os.Open(p.Path)
	if err != nil {
		return nil, inputError(p.Path, "open", err)
	}
	in := &input{path: p.Path, f: f, r: f}
	if err := in.start(p, offset); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return in, nil
}

func (in *input) start(p enumerator.Part, offset int64) error {
	info, err := in.f.Stat()
	if err != nil {
		return inputError(p.Path, "look at", err)
	}
	if !info.Mode().IsRegular() {
		return fault.New(fault.Unreadable, "use %q: it isn't a regular file", p.Path)
	}
	in.size = info.Size()
	if in.gz, err = isGzip(p.Path); err != nil {
		return err
	}
	if in.gz {
		in.skip = offset
		zr, err := gzip.NewReader(bufio.NewReaderSize(in.f, zipBlock))
		if err != nil {
			return in.fail(err)
		}
		in.r = zr
		return nil
	}
	if need := max(offset, p.To); need > in.size {
		return in.tooShort(need)
	}
	if _, err := in.f.Seek(offset, io.SeekStart); err != nil {
		return inputError(p.Path, "seek in", err)
	}
	return nil
}

// Read is io.Reader's; it may return nothing while it is on the way to its offset.
func (in *input) Read(buf []byte) (int, error) {
	n, err := in.r.Read(buf)
	if in.skip > 0 {
		gone := min(in.skip, int64(n))
		in.skip -= gone
		n = copy(buf, buf[gone:n])
	}
	if err == nil {
		return n, nil
	}
	if errors.Is(err, io.EOF) {
		if in.skip > 0 {
			return n, in.tooShort(-1)
		}
		return n, io.EOF
	}
	return n, in.fail(err)
}

func (in *input) Close() error { return in.f.Close() }

func (in *input) tooShort(need int64) error {
	what := "than the position reached in it"
	if need >= 0 {
		what = fmt.Sprintf("(%d bytes) than the position reached in it (%d)", in.size, need)
	}
	return fault.New(fault.BadPosition, "go on in file %q: the file is shorter %s", in.path, what).
		WithFix("put the file back as it was when the job began to read it, or start the job anew")
}

// fail gives a reading error its code.
func (in *input) fail(err error) error {
	var corrupt flate.CorruptInputError
	switch {
	case in.gz && (errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)): // io.EOF: not even a header
		return fault.Wrap(fault.CutShort, io.ErrUnexpectedEOF, "decompress %q", in.path)
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum), errors.As(err, &corrupt):
		return fault.Wrap(fault.Unreadable, err, "decompress %q", in.path).
			WithFix("replace the file by a whole copy, or name it without .gz if it isn't compressed")
	}
	return inputError(in.path, "read", err)
}
