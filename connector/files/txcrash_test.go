package files

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/parts"
)

var errCrash = errors.New("the process is dead")

// dieAt lets n-1 operations through and none after them, and counts all.
func dieAt(n int, ops *int) func(op, name string) error {
	return func(string, string) error {
		if *ops++; n > 0 && *ops >= n {
			return errCrash
		}
		return nil
	}
}

// epoch is what two tasks have prepared: small files in two buckets, and a large one in one of these.
type epoch struct {
	dir   string
	hs    []sink.Handle
	slots []sink.Slot
	want  []string
}

func compacting(dir string) TxSink[string] {
	return TxSink[string]{
		Dir: dir, CompactBelow: 100, Rolling: parts.Rolling{Size: 30}, Format: parts.CSV[string]{
			Header: []string{"name"}, Row: func(r *parts.Row, v string) error { r.Text(v); return nil },
		},
		Bucket: func(dst []byte, v string) []byte { return append(append(dst, "b="...), v[0]) },
	}
}

func newEpoch(t *testing.T) epoch {
	t.Helper()
	e := epoch{dir: t.TempDir()}
	for task := range 2 {
		w, _ := txOpen(t, compacting(e.dir))
		slot := sink.Slot{ID: task, Name: fmt.Sprintf("job-out-%d", task)}
		var rs []string
		for i := range 7 {
			rs = append(rs, fmt.Sprint("x", task, "-", i), fmt.Sprint("y", task, "-", i))
		}
		rs = append(rs, "x"+strings.Repeat("x", 200)+strconv.Itoa(task))
		e.hs, e.slots, e.want = append(e.hs, prepare(t, w, slot, 1, rs...)), append(e.slots, slot), append(e.want, rs...)
	}
	slices.Sort(e.want)
	return e
}

// committer is one of a new process.
func (e epoch) committer(t *testing.T, compact bool, fail func(op, name string) error) *txCommitter {
	t.Helper()
	s := compacting(e.dir)
	if !compact {
		s.CompactBelow = 0
	}
	_, c := txOpen(t, s)
	c.(*txCommitter).disk.fail = fail
	// Joined files may be larger than those that are rolled.
	c.(*txCommitter).limit = 60
	return c.(*txCommitter)
}

// check says what is wrong with what a reader sees, and with what is hidden when all is done.
func (e epoch) check(over bool) error {
	files, err := shown(e.dir)
	var got []string
	for name, text := range files {
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		if lines[0] != "name" {
			return fmt.Errorf("file %s begins with %q", name, lines[0])
		}
		for _, l := range lines[1:] {
			if path.Dir(name) != "b="+l[:1] {
				return fmt.Errorf("%q is in %s", l, name)
			}
		}
		got = append(got, lines[1:]...)
	}
	slices.Sort(got)
	if once := slices.Compact(slices.Clone(got)); len(once) != len(got) || over && !slices.Equal(got, e.want) {
		return errors.Join(fmt.Errorf("visible are %d records, %d different, want %d", len(got), len(once), len(e.want)), err)
	}
	hidden, herr := filepath.Glob(filepath.Join(e.dir, ".*"))
	hidden = slices.DeleteFunc(hidden, func(name string) bool { return filepath.Base(name) == ledgerName("job-out") })
	if over && len(hidden) > 0 {
		err = fmt.Errorf("hidden are %q", hidden)
	}
	return errors.Join(err, herr)
}

// ways to go on after a crash, by the next process.
var ways = map[string]func(t *testing.T, e epoch) error{
	"commit":                  func(t *testing.T, e epoch) error { return e.committer(t, true, nil).Commit(t.Context(), e.hs) },
	"commit, the other first": func(t *testing.T, e epoch) error { return e.oneByOne(t, true, 1, 0) },
	"recover": func(t *testing.T, e epoch) error {
		return e.committer(t, true, nil).Recover(t.Context(), e.hs, e.slots)
	},
	"recover a part of it": func(t *testing.T, e epoch) error {
		return errors.Join(e.committer(t, true, nil).Recover(t.Context(), e.hs[:1], nil), e.committer(t, true, nil).Recover(t.Context(), e.hs, e.slots))
	},
	"recover without compaction": func(t *testing.T, e epoch) error {
		return e.committer(t, false, nil).Recover(t.Context(), e.hs, e.slots)
	},
	"by hand": func(t *testing.T, e epoch) error {
		c := e.committer(t, true, nil)
		left, err := c.List(t.Context(), "job-out")
		for _, p := range left {
			err = errors.Join(err, c.Finish(t.Context(), p, true))
		}
		return err
	},
}

func (e epoch) oneByOne(t *testing.T, compact bool, order ...int) (err error) {
	for _, i := range order {
		err = errors.Join(err, e.committer(t, compact, nil).Commit(t.Context(), e.hs[i:i+1]))
	}
	return err
}

// TestCommitDiesAtEachOperation stops a commit that joins files before each thing it does to the disk.
func TestCommitDiesAtEachOperation(t *testing.T) {
	e, all := newEpoch(t), 0
	if err := errors.Join(e.committer(t, true, dieAt(0, &all)).Commit(t.Context(), e.hs), e.check(true)); err != nil {
		t.Fatal(err)
	}
	files, err := shown(e.dir)
	if err != nil || len(files) != 5 {
		t.Fatalf("%d files are visible, %v; want three that were joined and two large ones", len(files), err)
	}
	if _, err := os.Stat(filepath.Join(e.dir, ledgerName("job-out"))); err != nil {
		t.Fatal(err)
	}
	names := slices.Sorted(maps.Keys(ways))
	for n := 1; n <= all; n++ {
		name := names[n%len(names)]
		e, ops := newEpoch(t), 0
		if err := e.committer(t, true, dieAt(n, &ops)).Commit(t.Context(), e.hs); !errors.Is(err, errCrash) {
			t.Fatalf("operation %d of %d: %v", n, all, err)
		}
		if err := e.check(false); err != nil {
			t.Errorf("after operation %d of %d: %v", n, all, err)
		}
		if err := errors.Join(ways[name](t, e), e.check(true)); err != nil {
			t.Errorf("operation %d of %d, then %s: %v", n, all, name, err)
		}
	}
}

// TestDiesAgainAndAgain stops a commit and a few recoveries at random operations, and then finishes in a random way.
func TestDiesAgainAndAgain(t *testing.T) {
	seed := rand.Uint64()
	if s := os.Getenv("WEIRLINE_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("WEIRLINE_SEED=%d replays this", seed)
	rnd := rand.New(rand.NewPCG(seed, 3))
	names := slices.Sorted(maps.Keys(ways))
	for round := range 40 {
		e := newEpoch(t)
		var did []string
		for range 1 + rnd.IntN(3) {
			n, ops, compact, hs := 1+rnd.IntN(40), 0, rnd.IntN(4) > 0, e.hs[rnd.IntN(2):]
			c := e.committer(t, compact, dieAt(n, &ops))
			err := c.Commit(t.Context(), hs)
			did = append(did, fmt.Sprintf("commit of %d up to operation %d, joining %v: %v", len(hs), n, compact, err))
			if err := e.check(false); err != nil {
				t.Errorf("round %d, %q: %v", round, did, err)
			}
		}
		name := names[rnd.IntN(len(names))]
		if err := errors.Join(ways[name](t, e), e.check(true)); err != nil {
			t.Errorf("round %d, %q, then %s: %v", round, did, name, err)
		}
	}
}

// TestRepeatedCommits come after all is done, as long as the commit isn't recorded; then the proof goes.
func TestRepeatedCommits(t *testing.T) {
	e := newEpoch(t)
	for range 3 {
		err := errors.Join(e.committer(t, true, nil).Commit(t.Context(), e.hs), e.oneByOne(t, false, 1, 0),
			e.committer(t, false, nil).Recover(t.Context(), e.hs, e.slots), e.committer(t, true, nil).Recover(t.Context(), e.hs, e.slots[:1]))
		if err := errors.Join(err, e.check(true)); err != nil {
			t.Fatal(err)
		}
	}
	for _, slots := range [][]sink.Slot{e.slots[1:], nil} { // not all slots: something may still come
		if err := e.committer(t, true, nil).Recover(t.Context(), nil, slots); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.oneByOne(t, true, 0, 1); err != nil {
		t.Error(err)
	}
	if err := e.committer(t, false, nil).Recover(t.Context(), nil, e.slots); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(e.dir, ledgerName("job-out"))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the ledger is still there: %v", err)
	}
	if err := e.oneByOne(t, true, 0); fault.CodeOf(err) != fault.LostCommit.ID || !sink.IsPermanent(err) {
		t.Errorf("without proof: %v", err)
	}
}

// TestVisibleCantBeTakenBack rolls back by hand what is visible in a joined file.
func TestVisibleCantBeTakenBack(t *testing.T) {
	e, ops := newEpoch(t), 0
	c := e.committer(t, true, nil)
	c.disk.fail = func(op, _ string) error {
		if op == "remove" && ops > 0 {
			return errCrash
		}
		if op == "rename" {
			ops++
		}
		return nil
	}
	if err := c.Commit(t.Context(), e.hs); !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
	c = e.committer(t, true, nil)
	left, err := c.List(t.Context(), "job")
	if err != nil || len(left) != 2 {
		t.Fatalf("%+v, %v", left, err)
	}
	if err := c.Finish(t.Context(), left[0], false); err == nil || !strings.Contains(err.Error(), "visible in") {
		t.Errorf("rolled back: %v", err)
	}
}

func TestDamagedLedger(t *testing.T) {
	for text, code := range map[string]fault.Code{"{": fault.CommitFailed, `{"version":2}`: fault.NewerFormat} {
		e := newEpoch(t)
		if err := os.WriteFile(filepath.Join(e.dir, ledgerName("job-out")), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		c := e.committer(t, true, nil)
		for _, err := range []error{c.Commit(t.Context(), e.hs), c.Recover(t.Context(), nil, e.slots)} {
			if fault.CodeOf(err) != code.ID || !sink.IsPermanent(err) {
				t.Errorf("%q: %v", text, err)
			}
		}
	}
}

// TestFullDisk fills the disk before each operation up to the handle: the epoch fails with advice, and nothing of it stays.
func TestFullDisk(t *testing.T) {
	for n := 1; ; n++ {
		dir, ops := t.TempDir(), 0
		w, c := txOpen(t, compacting(dir))
		w.disk.fail = func(op, name string) error {
			if err := dieAt(n, &ops)(op, name); err != nil && op != "remove" {
				return &os.PathError{Op: op, Path: name, Err: syscall.ENOSPC}
			}
			return nil
		}
		slot := sink.Slot{Name: "s"}
		err := errors.Join(w.Begin(t.Context(), slot))
		if err == nil {
			err = w.Write(t.Context(), []string{"x1", "x2 which is long enough for a file", "y1"})
		}
		if err == nil {
			_, err = w.Prepare(t.Context(), 1)
		}
		if err == nil {
			if n < 15 {
				t.Errorf("only %d operations failed", n)
			}
			return
		}
		if fault.CodeOf(err) != fault.SinkFailed.ID || !strings.Contains(err.Error(), "free disk space") || !strings.Contains(err.Error(), "file sink: ") {
			t.Errorf("operation %d: %v", n, err)
		}
		if err := errors.Join(w.Close(), c.Recover(t.Context(), nil, []sink.Slot{slot})); err != nil {
			t.Errorf("operation %d: %v", n, err)
		}
		if left, err := leftovers(dir, slot); err != nil || len(left) > 0 {
			t.Errorf("operation %d: left are %q, %v", n, left, err)
		}
		if files, err := shown(dir); err != nil || len(files) > 0 {
			t.Errorf("operation %d: visible are %v, %v", n, files, err)
		}
	}
}
