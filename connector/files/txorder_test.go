package files

import (
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/weirline/weirline/sink"
)

// recorder watches what a power failure would undo: bytes that weren't synced, names in directories that weren't.
type recorder struct {
	files, dirs map[string]bool
	bad         []string
}

func newRecorder() *recorder { return &recorder{map[string]bool{}, map[string]bool{}, nil} }

// under says what isn't safe yet in a directory.
func (r *recorder) under(dir string) (names []string) {
	for _, m := range []map[string]bool{r.files, r.dirs} {
		for name := range m {
			if name == dir || strings.HasPrefix(name, dir+"/") {
				names = append(names, name)
			}
		}
	}
	return names
}

func (r *recorder) require(when string, unsafe []string) {
	if len(unsafe) > 0 {
		r.bad = append(r.bad, fmt.Sprintf("%s: not safe yet are %q", when, unsafe))
	}
}

// visible names directories that readers see and that aren't safe.
func (r *recorder) visible() (names []string) {
	for name := range r.dirs {
		if !strings.HasPrefix(name, ".") || name == "." {
			names = append(names, name)
		}
	}
	return names
}

// saw is called before each operation.
func (r *recorder) saw(op, name string) error {
	switch op {
	case "write":
		r.files[name] = true
	case "sync":
		delete(r.files, name)
	case "syncdir":
		delete(r.dirs, path.Clean(name))
	case "create", "mkdir":
		r.dirs[path.Dir(name)] = true
		r.files[name] = op == "create"
		if op == "mkdir" {
			delete(r.files, name)
		}
	case "rename":
		from, to, _ := strings.Cut(name, " ")
		r.require("rename "+name, r.under(from))
		if strings.Contains(from, "/.join-") && r.dirs["."] {
			r.require("rename "+name, []string{"the ledger"})
		}
		r.dirs[path.Dir(to)] = true
	case "remove":
		if strings.HasSuffix(name, preparedSuffix) {
			r.require("remove "+name, r.visible())
		}
	}
	return nil
}

// TestNothingIsShownBeforeItIsSafe follows an epoch from Begin to the end of its commit.
func TestNothingIsShownBeforeItIsSafe(t *testing.T) {
	for _, compact := range []bool{true, false} {
		s := compacting(t.TempDir())
		s.Rolling.Size = 10
		if !compact {
			s.CompactBelow = 0
		}
		var hs []sink.Handle
		r := newRecorder()
		for task := range 2 {
			w, _ := txOpen(t, s)
			w.disk.fail = r.saw
			hs = append(hs, prepare(t, w, sink.Slot{ID: task, Name: fmt.Sprint("job-out-", task)}, 1, "x1", "x2", "y1", "x3", "xx"+strings.Repeat("z", 200)))
			r.require("end of Prepare", append(r.visible(), r.under(".")...))
		}
		_, c := txOpen(t, s)
		com := c.(*txCommitter)
		com.disk.fail, com.limit = r.saw, 100
		if err := com.Commit(t.Context(), hs); err != nil {
			t.Fatal(err)
		}
		delete(r.dirs, ".") // the removal of what is hidden may be undone
		r.require("end of Commit", r.visible())
		for _, bad := range r.bad {
			t.Errorf("compact %v: %s", compact, bad)
		}
		files, err := shown(s.Dir)
		if want := map[bool]int{true: 4, false: 6}[compact]; err != nil || len(files) != want {
			t.Errorf("compact %v: %d files, want %d: %v, %v", compact, len(files), want, files, err)
		}
	}
}
