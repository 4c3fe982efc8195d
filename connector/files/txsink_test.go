package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/parts"
	"github.com/weirline/weirline/sink/sinktest"
	"github.com/weirline/weirline/txn"
	"github.com/weirline/weirline/txn/txntest"
)

const bufferSize = 256 << 10 // more than a format gathers

var txTask = sink.Task{Job: "job", Operator: "out"}

// shown returns the files a reader of dir sees, by path below it.
func shown(dir string) (map[string]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path != dir && e.IsDir() && strings.HasPrefix(e.Name(), "."):
			return fs.SkipDir
		case e.IsDir() || strings.HasPrefix(e.Name(), "."):
			return nil
		}
		data, err := os.ReadFile(path)
		rel, rerr := filepath.Rel(dir, path)
		files[filepath.ToSlash(rel)] = string(data)
		return errors.Join(err, rerr)
	})
	return files, err
}

// visible returns the lines a reader of dir sees, file by file in the order of their names.
func visible(dir string) (lines []string, err error) {
	files, err := shown(dir)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		lines = append(lines, strings.Split(strings.TrimSuffix(files[name], "\n"), "\n")...)
	}
	return lines, err
}

// leftovers names the hidden files of a slot.
func leftovers(dir string, s sink.Slot) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if slot, _, ok := partsOf(e.Name()); ok && slot == s.Name {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// byLast puts records into three buckets by their last digit.
func byLast(dst []byte, v string) []byte { return append(append(dst, "last="...), '0'+v[len(v)-1]%3) }

// txKinds are the sinks that must keep the contract.
func txKinds(dir string) map[string]TxSink[string] {
	several := TxSink[string]{Dir: dir, Bucket: byLast, Rolling: parts.Rolling{Size: 40}, MaxOpen: 2}
	compact := several
	compact.CompactBelow, compact.Rolling.Size = 1<<10, 200
	return map[string]TxSink[string]{"plain": {Dir: dir}, "several": several, "compact": compact}
}

func TestTxContract(t *testing.T) {
	for kind := range txKinds("") {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			txntest.Run(t, txntest.Case[string]{
				TxCase: sinktest.TxCase[string]{
					Sink:    txKinds(dir)[kind],
					Make:    func(i int) string { return fmt.Sprint("record ", i) },
					Visible: func() ([]string, error) { return visible(dir) },
					Left:    func(s sink.Slot) ([]string, error) { return leftovers(dir, s) },
				},
				RollBack: func(_ context.Context, h sink.Handle) error {
					return os.RemoveAll(filepath.Join(dir, hiddenName(h.Slot.Name, h.Token, preparedSuffix)))
				},
				MaxSlot: maxSlot,
			})
		})
	}
}

func txOpen[T any](t *testing.T, s TxSink[T]) (*txWriter[T], sink.Committer) {
	t.Helper()
	w, err := s.TxWriter(t.Context(), txTask)
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Committer(t.Context(), txTask)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(w.Close(), c.Close()); err != nil {
			t.Error(err)
		}
	})
	return w.(*txWriter[T]), c
}

// prepare makes one transaction of the records.
func prepare[T any](t *testing.T, w *txWriter[T], s sink.Slot, epoch uint64, rs ...T) sink.Handle {
	t.Helper()
	if err := errors.Join(w.Begin(t.Context(), s), w.Write(t.Context(), rs)); err != nil {
		t.Fatal(err)
	}
	h, err := w.Prepare(t.Context(), epoch)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestTxFileHoldsRecordsInOrder(t *testing.T) {
	type point struct{ X, Y int }
	long := strings.Repeat("x", bufferSize)
	texts, _ := txOpen(t, TxSink[string]{Dir: t.TempDir()})
	blobs, _ := txOpen(t, TxSink[[]byte]{Dir: t.TempDir(), Prefix: "p.", Suffix: ".log"})
	points, _ := txOpen(t, TxSink[point]{Dir: t.TempDir()})
	own, _ := txOpen(t, TxSink[int]{Dir: t.TempDir(), Encode: func(dst []byte, v int) []byte { return append(dst, byte(v)) }})
	cases := []struct {
		name, dir, file string
		h               sink.Handle
		want            string
	}{
		{
			"text", texts.sink.Dir, "part-out-000000000007-2-",
			prepare(t, texts, sink.Slot{ID: 2, Name: "job-out-2"}, 7, "b", "a", long, "c", long),
			"b\na\n" + long + "\nc\n" + long + "\n",
		},
		{
			"bytes", blobs.sink.Dir, "p.out-000000000001-3-",
			prepare(t, blobs, sink.Slot{ID: 3, Name: "s"}, 1, []byte("x"), nil, []byte("y")), "x\n\ny\n",
		},
		{"struct", points.sink.Dir, "part-out-", prepare(t, points, sink.Slot{Name: "s"}, 1, point{1, 2}), "{1 2}\n"},
		{"own", own.sink.Dir, "part-out-", prepare(t, own, sink.Slot{Name: "s"}, 1, 1, 2, 3), "\x01\x02\x03"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if err := (&txCommitter{disk: disk{dir: c.dir}}).Commit(t.Context(), []sink.Handle{c.h}); err != nil {
				t.Fatal(err)
			}
			names, err := filepath.Glob(filepath.Join(c.dir, "*"))
			if err != nil || len(names) != 1 {
				t.Fatalf("got files %q, %v", names, err)
			}
			if name := filepath.Base(names[0]); !strings.HasPrefix(name, c.file) || !strings.Contains(name, c.h.Token) {
				t.Errorf("file is named %s, want %s...%s", name, c.file, c.h.Token)
			}
			if got, err := os.ReadFile(names[0]); err != nil || string(got) != c.want {
				t.Errorf("got %d bytes %.40q, %v, want %d bytes %.40q", len(got), got, err, len(c.want), c.want)
			}
		})
	}
}

func TestSlotOf(t *testing.T) {
	token := txn.NewToken()
	cases := []struct {
		name, slot string
		ok         bool
	}{
		{hiddenName("job-out-1", token, openSuffix), "job-out-1", true},
		{hiddenName("job-out-1", token, preparedSuffix), "job-out-1", true},
		{hiddenName("job-out-1-"+token, token, preparedSuffix), "job-out-1-" + token, true},
		{hiddenName("job-out-1", token, ""), "", false},
		{hiddenName("job-out-1", token[1:], openSuffix), "", false},
		{hiddenName("job-out-1", strings.Repeat("z", txn.TokenLen), openSuffix), "", false},
		{hiddenName("", token, openSuffix), "", false},
		{hiddenName("job", token, openSuffix+preparedSuffix), "", false},
		{"job-out-1-" + token + openSuffix, "", false},
		{"." + token + openSuffix, "", false},
		{".gitignore", "", false},
		{".tmp", "", false},
		{"", "", false},
	}
	for _, c := range cases {
		if slot, _, ok := partsOf(c.name); slot != c.slot || ok != c.ok {
			t.Errorf("%q: got %q %v, want %q %v", c.name, slot, ok, c.slot, c.ok)
		}
	}
}

func TestRecoverLeavesStrangersAlone(t *testing.T) {
	dir := t.TempDir()
	slot := sink.Slot{ID: 1, Name: "job-out-1"}
	strangers := []string{
		".job-out-1.tmp", ".job-out-1-abc.tmp", "job-out-1-" + txn.NewToken() + ".tmp", ".job-out-1-notes", "part-out-x",
		hiddenName("job-out-1-2", txn.NewToken(), preparedSuffix), hiddenName("job-out-11", txn.NewToken(), openSuffix),
	}
	mine := []string{hiddenName(slot.Name, txn.NewToken(), preparedSuffix), hiddenName(slot.Name, txn.NewToken(), openSuffix)}
	for _, name := range append(strangers, mine...) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, c := txOpen(t, TxSink[string]{Dir: dir})
	if err := c.Recover(t.Context(), nil, []sink.Slot{slot}); err != nil {
		t.Fatal(err)
	}
	for _, name := range strangers {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range mine {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there (%v)", name, err)
		}
	}
}

func TestCommitFindsDamage(t *testing.T) {
	harm := map[string]struct {
		f       func(path string) error
		recover bool // only Recover reads the file
	}{
		"shorter": {func(p string) error { return os.Truncate(p, 1) }, false},
		"longer":  {func(p string) error { return os.Truncate(p, 100) }, false},
		"changed": {func(p string) error { return os.WriteFile(p, []byte("YYY\n"), 0o644) }, true},
	}
	for name, c := range harm {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			w, committer := txOpen(t, TxSink[string]{Dir: dir})
			h := prepare(t, w, sink.Slot{Name: "s"}, 1, "abc")
			n, err := readHandle(h)
			if err := errors.Join(err, c.f(filepath.Join(dir, n.pieces[0].from))); err != nil {
				t.Fatal(err)
			}
			errs := []error{committer.Recover(t.Context(), []sink.Handle{h}, []sink.Slot{h.Slot})}
			if !c.recover {
				errs = append(errs, committer.Commit(t.Context(), []sink.Handle{h}))
			}
			for _, err := range errs {
				if !sink.IsPermanent(err) || fault.CodeOf(err) != fault.CommitFailed.ID {
					t.Errorf("got %v, want a permanent %s", err, fault.CommitFailed.ID)
				}
			}
			if lines, err := visible(dir); err != nil || len(lines) > 0 {
				t.Errorf("visible: %q, %v", lines, err)
			}
		})
	}
}

func TestHandleOfAnotherForm(t *testing.T) {
	_, c := txOpen(t, TxSink[string]{Dir: t.TempDir()})
	for data, code := range map[string]fault.Code{
		"":              fault.CommitFailed,
		`{"version":3}`: fault.NewerFormat,
		`{"version":1}`: fault.CommitFailed,
		`{"version":2}`: fault.CommitFailed,
		`{"version":1,"native":{"prepared":"../x","final":"y"}}`:                                      fault.CommitFailed,
		`{"version":2,"native":{"prepared":"../x","begin":"y"}}`:                                      fault.CommitFailed,
		`{"version":2,"native":{"prepared":"x","begin":"y/"}}`:                                        fault.CommitFailed,
		`{"version":2,"native":{"prepared":"x","begin":"y","files":[{"path":"../z"}]}}`:               fault.CommitFailed,
		`{"version":2,"native":{"prepared":"x","begin":"y","files":[{"path":"a/0000"},{"path":""}]}}`: fault.CommitFailed,
	} {
		err := c.Commit(t.Context(), []sink.Handle{{Native: []byte(data)}})
		if !sink.IsPermanent(err) || fault.CodeOf(err) != code.ID {
			t.Errorf("%q: got %v, want a permanent %s", data, err, code.ID)
		}
	}
}

func TestTxFaults(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name string
		s    TxSink[string]
		code fault.Code
		says string
	}{
		{"no dir", TxSink[string]{}, fault.BadPipeline, "Dir is missing"},
		{"absent", TxSink[string]{Dir: filepath.Join(dir, "none")}, fault.Preflight, "make the directory"},
		{"file", TxSink[string]{Dir: file}, fault.Preflight, "Dir"},
		{"hidden", TxSink[string]{Dir: dir, Prefix: ".x"}, fault.BadPipeline, "Prefix"},
		{"slash", TxSink[string]{Dir: dir, Suffix: "/x"}, fault.BadPipeline, "Suffix"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, werr := c.s.TxWriter(t.Context(), txTask)
			_, cerr := c.s.Committer(t.Context(), txTask)
			for _, err := range []error{c.s.Preflight(t.Context()), werr, cerr} {
				if fault.CodeOf(err) != c.code.ID || !strings.Contains(err.Error(), c.says) {
					t.Errorf("got %v, want %s with %q", err, c.code.ID, c.says)
				}
			}
		})
	}
	if err := (TxSink[string]{Dir: dir}).Preflight(t.Context()); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
		t.Errorf("preflight leaves %q, %v", left, err)
	}
	if _, err := (TxSink[string]{Dir: dir}).TxWriter(t.Context(), sink.Task{Operator: "a/b"}); fault.CodeOf(err) != fault.BadPipeline.ID {
		t.Errorf("operator with a slash: %v", err)
	}
}

func TestWriteFaultsSayWhatToDo(t *testing.T) {
	dir := t.TempDir()
	w, _ := txOpen(t, TxSink[string]{Dir: dir})
	if err := w.Begin(t.Context(), sink.Slot{Name: "../s"}); err == nil {
		t.Error("slot name with a slash was taken")
	}
	if err := w.Begin(t.Context(), sink.Slot{Name: "s"}); err != nil {
		t.Fatal(err)
	}
	if err := w.Begin(t.Context(), sink.Slot{Name: "t"}); err == nil {
		t.Error("second Begin was taken")
	}
	if err := w.Write(t.Context(), []string{"x"}); err != nil {
		t.Fatal(err)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for f := range w.files {
		err = f.f.Close()
		f.f = full // stands for a file on a full disk
	}
	big := string(bytes.Repeat([]byte("x"), bufferSize))
	err = errors.Join(err, w.Write(t.Context(), []string{big}))
	if fault.CodeOf(err) != fault.SinkFailed.ID || !strings.Contains(err.Error(), "free disk space") {
		t.Errorf("full disk on Write: %v", err)
	}
	if _, err := w.Prepare(t.Context(), 1); !strings.Contains(fmt.Sprint(err), "free disk space") {
		t.Errorf("full disk on Prepare: %v", err)
	}
	if err := errors.Join(w.Close(), os.Remove(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Begin(t.Context(), sink.Slot{Name: "s"}); !strings.Contains(fmt.Sprint(err), "make the directory again") {
		t.Errorf("directory gone: %v", err)
	}
	if _, err := w.Prepare(t.Context(), 1); !errors.Is(err, errNotBegun) {
		t.Errorf("Prepare without Begin: %v", err)
	}
	if err := w.Write(t.Context(), []string{"x"}); !errors.Is(err, errNotBegun) {
		t.Errorf("Write without Begin: %v", err)
	}
}

func TestOnlyItsOwnIsFinishedByHand(t *testing.T) {
	dir := t.TempDir()
	w, c := txOpen(t, TxSink[string]{Dir: dir})
	slot := sink.Slot{ID: 7, Name: "job-out-7"}
	if err := errors.Join(w.Begin(t.Context(), slot), w.Write(t.Context(), []string{"a"})); err != nil {
		t.Fatal(err)
	}
	l, ok := sink.As[txn.Lister](c)
	if !ok {
		t.Fatal("the committer isn't a txn.Lister")
	}
	if found, err := l.List(t.Context(), "job-out"); err != nil || len(found) > 0 {
		t.Errorf("an open file is listed: %+v, %v", found, err)
	}
	for _, name := range []string{"part-x", "../" + hiddenName("job-out-1", txn.NewToken(), preparedSuffix), w.open} {
		if err := l.Finish(t.Context(), txn.Pending{Name: name}, false); err == nil {
			t.Errorf("%s was finished", name)
		}
	}
	h, err := w.Prepare(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	found, err := l.List(t.Context(), "job-out")
	if err != nil || len(found) != 1 || found[0].Slot != slot.Name || found[0].Token != h.Token {
		t.Fatalf("listed %+v, %v", found, err)
	}
	if err := l.Finish(t.Context(), found[0], true); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "part-out-7-"+h.Token+"-0000")); err != nil {
		t.Error(err)
	}
}
