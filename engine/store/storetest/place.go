package storetest

import (
	"io/fs"
	"os"
	"path/filepath"
)

// FilesIn lists the files below a directory for a Place. An absent directory has none.
func FilesIn(dir string) (out []string) {
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			rel, _ := filepath.Rel(dir, path) // path begins with dir
			out = append(out, filepath.ToSlash(rel))
		}
		return nil // what is deleted meanwhile isn't there
	})
	return out
}

// EditFile changes a file for a Place. It panics if there is none.
func EditFile(path string, f func([]byte) []byte) {
	data, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	if data = f(data); data == nil {
		err = os.Remove(path)
	} else {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		panic(err)
	}
}
