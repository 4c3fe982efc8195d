package files

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/weirline/weirline/enumerator"
	"github.com/weirline/weirline/internal/fault"
)

// list finds the files behind paths, whole and sorted, each once. A path that doesn't exist is an error; a pattern or
// directory without files is not.
func list(ctx context.Context, paths []string, recursive bool) ([]enumerator.Part, error) {
	var out []enumerator.Part
	for _, p := range paths {
		matches := []string{p}
		if _, err := os.Lstat(p); err != nil && strings.ContainsAny(p, `*?[\`) {
			if matches, err = filepath.Glob(p); err != nil {
				return nil, fault.Wrap(fault.NoInput, err, "use pattern %q", p)
			}
		}
		for _, m := range matches {
			found, err := expand(ctx, filepath.Clean(m), recursive)
			if err != nil {
				return nil, err
			}
			out = append(out, found...)
		}
	}
	slices.SortFunc(out, func(a, b enumerator.Part) int { return strings.Compare(a.Path, b.Path) })
	out = slices.CompactFunc(out, func(a, b enumerator.Part) bool { return a.Path == b.Path })
	for _, f := range out {
		if !utf8.ValidString(f.Path) {
			return nil, fault.New(fault.Unreadable, "use file %q: its name isn't UTF-8", f.Path).WithFix("rename the file")
		}
	}
	return out, nil
}

// expand is the file itself, or the files of a directory.
func expand(ctx context.Context, path string, recursive bool) ([]enumerator.Part, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, inputError(path, "look at", err)
	}
	if !info.IsDir() {
		if !info.Mode().IsRegular() {
			return nil, fault.New(fault.Unreadable, "use %q: it is neither a regular file nor a directory", path)
		}
		return []enumerator.Part{{Path: path, To: info.Size()}}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, inputError(path, "list directory", err)
	}
	var out []enumerator.Part
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if strings.HasPrefix(e.Name(), ".") || strings.HasPrefix(e.Name(), "_") {
			continue
		}
		below := filepath.Join(path, e.Name())
		if info, err = os.Stat(below); err != nil {
			return nil, inputError(below, "look at", err)
		}
		switch {
		case info.Mode().IsRegular():
			out = append(out, enumerator.Part{Path: below, To: info.Size()})
		case e.IsDir() && recursive: // not a link to one: it could lead in a circle
			found, err := expand(ctx, below, true)
			if err != nil {
				return nil, err
			}
			out = append(out, found...)
		}
	}
	return out, nil
}

// checkReadable opens and closes a file.
func checkReadable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return inputError(path, "open", err)
	}
	return f.Close()
}

// inputError gives an error of the file system its code and fix.
func inputError(path, verb string, err error) error {
	code, fix := fault.Unreadable, "check the disk or mount that %q is on"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		code, fix = fault.NoInput, "check the path %q in Paths of the files source, or put the file back"
	case errors.Is(err, fs.ErrPermission):
		fix = "give this user the right to read %q"
	}
	return fault.Wrap(code, err, "%s %q", verb, path).WithFix(fix, path)
}
