package blob_test

import (
	"path/filepath"
	"testing"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/engine/store/blob"
	"github.com/weirline/weirline/engine/store/storetest"
)

// TestSuiteInDirectory runs what every store must do on a directory that behaves like an object store.
func TestSuiteInDirectory(t *testing.T) {
	storetest.Suite(t, func(t *testing.T) storetest.Place {
		dir := t.TempDir()
		return storetest.Place{
			Open:  func(o store.Options) (store.Store, error) { return blob.Open("file://"+dir, o) },
			Files: func() []string { return storetest.FilesIn(dir) },
			Edit:  func(name string, f func([]byte) []byte) { storetest.EditFile(filepath.Join(dir, name), f) },
		}
	})
}
