package files

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/weirline/weirline/enumerator"
)

// Split is a file, a range of a file, or several of them that are read one after the other.
type Split struct {
	// Name is the path of the file or directory, or says which of the equal shares this is. It never changes.
	Name string

	// Parts are what is still to be read, the first of it begun. A line belongs to the range its first byte is in.
	Parts []enumerator.Part

	// Offset is where the next line starts in the uncompressed first part, counted from the beginning of the file. A
	// value before the part's From says that the part hasn't been begun.
	Offset int64
}

// ID is the name.
func (s Split) ID() string { return s.Name }

// equalSplits makes n splits of equally many bytes. Compressed files stay whole.
func equalSplits(files []enumerator.Part, n int) ([]Split, error) {
	packed := map[string]bool{}
	for _, f := range files {
		gz, err := isGzip(f.Path)
		if err != nil {
			return nil, err
		}
		packed[f.Path] = gz
	}
	out := make([]Split, n)
	for i, parts := range enumerator.EqualBytes(files, n) {
		s := Split{Name: fmt.Sprintf("share-%05d-of-%05d", i, n)}
		for _, p := range parts {
			switch {
			case !packed[p.Path]:
				s.Parts = append(s.Parts, p)
			case p.From == 0:
				s.Parts = append(s.Parts, enumerator.Part{Path: p.Path, To: -1})
			}
		}
		out[i] = s
	}
	return out, nil
}

func directorySplits(files []enumerator.Part) []Split {
	var out []Split
	for _, parts := range enumerator.Directories(files) {
		s := Split{Name: filepath.Dir(parts[0].Path)}
		for _, p := range parts {
			s.Parts = append(s.Parts, enumerator.Part{Path: p.Path, To: -1})
		}
		out = append(out, s)
	}
	return out
}

// isGzip looks at the name and the first two bytes.
func isGzip(path string) (bool, error) {
	if filepath.Ext(path) == ".gz" {
		return true, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return false, inputError(path, "open", err)
	}
	gz := hasGzipMagic(f)
	return gz, f.Close()
}

// hasGzipMagic doesn't move f. A file too short to tell isn't compressed.
func hasGzipMagic(f *os.File) bool {
	var magic [2]byte
	n, _ := f.ReadAt(magic[:], 0)
	return n == 2 && magic == [2]byte{0x1f, 0x8b}
}
