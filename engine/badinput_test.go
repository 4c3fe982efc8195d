package engine_test

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/engine/store/storetest"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/internal/fault"
)

// epochFiles is what a state directory has of checkpoints, by name. Locks and claims are not among it.
func epochFiles(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(filepath.Join(dir, "epochs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all[path], err = os.ReadFile(path)
		}
		return err
	})
	must(t, err)
	all["CURRENT"], err = os.ReadFile(filepath.Join(dir, "CURRENT"))
	must(t, err)
	return all
}

// unharmed checks that nothing of a state directory's checkpoints has gone or changed.
func unharmed(t *testing.T, what, dir string, before map[string][]byte) {
	t.Helper()
	if after := epochFiles(t, dir); !maps.EqualFunc(before, after, bytes.Equal) {
		t.Errorf("%s: %d files before, %d after, or some have changed", what, len(before), len(after))
	}
}

// otherState is version 1 with a state of the same name that holds something else.
func otherState(cfg engine.Config, db *enginetest.Tx[keyCount]) *engine.Pipeline {
	type text struct{ N, Sum string }
	p := engine.New(cfg)
	k := numbersFrom(p, "numbers", 0)
	engine.ToTx(engine.Process(k, "sum", func() *tally[text] {
		return &tally[text]{name: "acc", add: func(*text, event) {}, show: func(int64, text) keyCount { return keyCount{} }}
	}), "out", db)
	engine.To(engine.Process(k, "extra", func() *sum { return &sum{} }), "extra-out", &enginetest.Collect[keyCount]{})
	return p
}

// withoutExtra is version 1 without one of its operators.
func withoutExtra(cfg engine.Config, db *enginetest.Tx[keyCount]) *engine.Pipeline {
	p := engine.New(cfg)
	engine.ToTx(engine.Process(numbersFrom(p, "numbers", 0), "sum", func() *tally[tallyV1] {
		return &tally[tallyV1]{name: "acc", add: func(*tallyV1, event) {}, show: func(int64, tallyV1) keyCount { return keyCount{} }}
	}), "out", db)
	return p
}

// TestBadStateIsRefusedAndKept: a job's own state that doesn't fit or is damaged. Each error names the way out, and all that was
// stored is there as before. (TestUpgradesThatAreRefused and TestBadSavepoints do it with savepoints, TestDamagedBackendFiles with
// files of a backend.)
func TestBadStateIsRefusedAndKept(t *testing.T) {
	newest := func(dir, pattern string) string {
		names, err := filepath.Glob(filepath.Join(dir, "epochs", pattern))
		if err != nil || len(names) == 0 {
			t.Fatalf("no %s: %v", pattern, err)
		}
		return names[len(names)-1]
	}
	none := func(*engine.Config) {}
	for name, c := range map[string]struct {
		spoil  func(dir string) error
		change func(c *engine.Config)
		build  func(cfg engine.Config, db *enginetest.Tx[keyCount]) *engine.Pipeline
		code   fault.Code
		says   []string
	}{
		"another job":      {nil, func(c *engine.Config) { c.Name = "other" }, version1, fault.OtherJob, []string{`"upgrade"`, `"other"`}},
		"dropped operator": {nil, none, withoutExtra, fault.DroppedState, []string{"extra", "-allow-dropped"}},
		"schema":           {nil, none, otherState, fault.BadState, []string{"acc", "rename the state"}},
		"parallelism":      {nil, func(c *engine.Config) { c.Parallelism, c.KeyGroups = 200, 256 }, version1, fault.Parallelism, []string{"128 key groups"}},
		"flipped record":   {func(dir string) error { return flip(newest(dir, "*.epoch")) }, none, version1, fault.DamagedEpoch, []string{".epoch", "-fallback"}},
		"cut record":       {func(dir string) error { return os.Truncate(newest(dir, "*.epoch"), 50) }, none, version1, fault.DamagedEpoch, []string{".epoch", "-fallback"}},
		"missing record":   {func(dir string) error { return os.Remove(newest(dir, "*.epoch")) }, none, version1, fault.DamagedEpoch, []string{".epoch", "-fallback"}},
	} {
		bubble.Test(t, func(t *testing.T) {
			db := enginetest.NewTx[keyCount]()
			cfg := engine.Config{Name: "upgrade", Dir: t.TempDir(), Parallelism: 2, CheckpointEvery: -1}
			savedV1(t, cfg, db, false)
			if c.spoil != nil {
				must(t, c.spoil(cfg.Dir))
			}
			before, rows := epochFiles(t, cfg.Dir), len(db.Rows())
			c.change(&cfg)
			err := c.build(cfg, db).Run(t.Context())
			t.Logf("%s: %v", name, err)
			wants(t, err, c.code, append(c.says, "; fix: ")...)
			unharmed(t, name, cfg.Dir, before)
			if got := len(db.Rows()); got != rows {
				t.Errorf("%s: %d rows came out", name, got-rows)
			}
		})
	}
}

// forbidding is a file system that allows some things only: 0 nothing, 1 to have directories, 2 to lock files too, 3 to read too.
type forbidding struct {
	store.FS
	allow int
}

func refused(op, name string) error { return &fs.PathError{Op: op, Path: name, Err: fs.ErrPermission} }

func (r forbidding) Mkdir(name string) error {
	if r.allow > 0 {
		return r.FS.Mkdir(name)
	}
	return refused("mkdir", name)
}

func (r forbidding) Lock(name string) (store.Claim, error) {
	if r.allow > 1 {
		return r.FS.Lock(name)
	}
	return nil, refused("open", name)
}

func (r forbidding) Open(name string) (store.OpenFile, error) {
	if r.allow > 2 {
		return r.FS.Open(name)
	}
	return nil, refused("open", name)
}

func (r forbidding) Create(name string) (store.OpenFile, error) { return nil, refused("open", name) }

func (r forbidding) Append(name string) (store.OpenFile, error) { return nil, refused("open", name) }
func (r forbidding) Link(_, to string) error                    { return refused("link", to) }
func (r forbidding) Rename(_, to string) error                  { return refused("rename", to) }
func (r forbidding) Remove(name string) error                   { return refused("remove", name) }

// TestStateWithoutPermission: a state directory of which the job may not do all it has to.
func TestStateWithoutPermission(t *testing.T) {
	for allow := range 4 {
		bubble.Test(t, func(t *testing.T) {
			disk, refuse := storetest.NewDisk(), false
			open := func(o store.Options) (store.Store, error) {
				if o.FS = disk; refuse {
					o.FS = forbidding{disk, allow}
				}
				return store.Open("state", o)
			}
			db := enginetest.NewTx[keyCount]()
			cfg := engine.Config{Name: "upgrade", Parallelism: 2, CheckpointEvery: -1, Store: open}
			savedV1(t, cfg, db, false)
			before := strings.Join(disk.Files(), "\n")
			refuse = true
			err := version1(cfg, db).Run(t.Context())
			t.Logf("%d: %v", allow, err)
			wants(t, err, fault.StateDir, "state", "permission denied", "; fix: ")
			if after := strings.Join(disk.Files(), "\n"); after != before {
				t.Errorf("files before:\n%s\nafter:\n%s", before, after)
			}
			refuse = false
			must(t, version1(cfg, db).Run(t.Context()))
			last := map[int64]keyCount{}
			for _, r := range db.Rows() {
				last[r.Key] = keyCount{Key: r.Key, Count: max(last[r.Key].Count, r.Count), Sum: max(last[r.Key].Sum, r.Sum)}
			}
			for k, w := range wantTallies() {
				if last[k].Count != w[0] || last[k].Sum != w[1] {
					t.Errorf("key %d: %v, want %v", k, last[k], w)
				}
			}
		})
	}
}
