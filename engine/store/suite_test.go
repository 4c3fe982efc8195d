package store_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/engine/store/storetest"
)

// TestSuiteOnDisk runs what every store must do on the file system of the tests.
func TestSuiteOnDisk(t *testing.T) {
	storetest.Suite(t, func(t *testing.T) storetest.Place {
		disk := storetest.NewDisk()
		return storetest.Place{
			Open: func(o store.Options) (store.Store, error) {
				o.FS = disk
				return opened(store.Open("/state", o))
			},
			Files: func() (out []string) {
				for _, f := range disk.Files() {
					out = append(out, strings.TrimPrefix(f, "/state/"))
				}
				return out
			},
			Edit: func(name string, f func([]byte) []byte) { disk.Edit("/state/"+name, f) },
		}
	})
}

// TestSuite runs it in a directory of the operating system.
func TestSuite(t *testing.T) {
	storetest.Suite(t, func(t *testing.T) storetest.Place {
		dir := t.TempDir()
		return storetest.Place{
			Open:  func(o store.Options) (store.Store, error) { return opened(store.Open(dir, o)) },
			Files: func() []string { return storetest.FilesIn(dir) },
			Edit:  func(name string, f func([]byte) []byte) { storetest.EditFile(filepath.Join(dir, name), f) },
		}
	})
}

func opened(d *store.Dir, err error) (store.Store, error) {
	if err != nil {
		return nil, err
	}
	return d, nil
}
