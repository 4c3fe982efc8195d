package topic

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/weirline/weirline/internal/fault"
)

// Dir is the lines of the files directly in a directory, or of one file, in the order of their names, plain or gzip, without
// line ends. Names that begin with a dot or underscore are passed over.
func Dir(path string) Lines {
	return func(f func([]byte) error) error {
		names, err := list(path)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := eachLine(name, f); err != nil {
				return readError(name, err)
			}
		}
		return nil
	}
}

func list(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, inputError(err, "look for log files")
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path) // sorted
	if err != nil {
		return nil, inputError(err, "list log files")
	}
	var names []string
	for _, e := range entries {
		name := filepath.Join(path, e.Name())
		if info, err = os.Stat(name); err != nil {
			return nil, inputError(err, "look for log files")
		}
		if info.Mode().IsRegular() && !strings.HasPrefix(e.Name(), ".") && !strings.HasPrefix(e.Name(), "_") {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, fault.New(fault.NoInput, "there are no files in directory %s", path)
	}
	return names, nil
}

func inputError(err error, what string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(fault.NoInput, err, "%s", what)
	}
	return fault.Wrap(fault.Unreadable, err, "%s", what)
}

// readError gives an error of a file its code; one that has a code, or comes from f, stays as it is.
func readError(name string, err error) error {
	var path *fs.PathError
	var corrupt flate.CorruptInputError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fault.Wrap(fault.CutShort, err, "read %s", name)
	case errors.As(err, &path), errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader), errors.As(err, &corrupt):
		return fault.Wrap(fault.Unreadable, err, "read %s", name)
	}
	return err
}

func eachLine(name string, f func([]byte) error) (err error) {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	r := bufio.NewReaderSize(file, 1<<18)
	if head, _ := r.Peek(2); bytes.Equal(head, []byte{0x1f, 0x8b}) {
		zr, err := gzip.NewReader(r)
		if err != nil {
			return err
		}
		r = bufio.NewReaderSize(zr, 1<<18)
	}
	for {
		line, err := readLine(r)
		if len(line) > 0 {
			line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
			if err := f(line); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// readLine is bufio.Reader.ReadSlice for lines of any length.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	long := bytes.Clone(line)
	rest, err := r.ReadBytes('\n')
	return append(long, rest...), err
}
