package enumerator

import (
	"path/filepath"
	"slices"
	"strings"
)

// Part is a range of the bytes of a file: from From up to, not including, To. To is -1 where the part goes on to the end
// of the file, wherever that is when it is read.
type Part struct {
	Path string
	From int64
	To   int64
}

// Len is the number of bytes, or -1 if To is.
func (p Part) Len() int64 {
	if p.To < 0 {
		return -1
	}
	return p.To - p.From
}

// EqualBytes cuts files into exactly n lists of ranges with equally many bytes, give or take one: the lists that get one
// more come first. The ranges keep the order of files, cover every byte once, and are never empty; lists are, if there
// are fewer bytes than lists. To of each file must be known. n below one counts as one.
func EqualBytes(files []Part, n int) [][]Part {
	n = max(n, 1)
	var total int64
	for _, f := range files {
		total += max(f.Len(), 0)
	}
	out := make([][]Part, n)
	each, more := total/int64(n), total%int64(n)
	next, at := 0, int64(0) // the file to take from, and how much of it is gone
	for i := range out {
		want := each
		if int64(i) < more {
			want++
		}
		for want > 0 {
			f := files[next]
			left := max(f.Len(), 0) - at
			if left <= 0 {
				next, at = next+1, 0
				continue
			}
			take := min(left, want)
			out[i] = append(out[i], Part{Path: f.Path, From: f.From + at, To: f.From + at + take})
			at, want = at+take, want-take
		}
	}
	return out
}

// Directories groups files by directory: one list for each, directories and the files in them sorted by name.
func Directories(files []Part) [][]Part {
	sorted := slices.Clone(files)
	slices.SortStableFunc(sorted, func(a, b Part) int {
		if c := strings.Compare(filepath.Dir(a.Path), filepath.Dir(b.Path)); c != 0 {
			return c
		}
		return strings.Compare(a.Path, b.Path)
	})
	var out [][]Part
	for i, f := range sorted {
		if i == 0 || filepath.Dir(f.Path) != filepath.Dir(sorted[i-1].Path) {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], f)
	}
	return out
}
