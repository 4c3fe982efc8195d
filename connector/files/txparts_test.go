package files

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/parts"
	"github.com/weirline/weirline/txn"
)

// tally counts what connectors count.
type tally map[string]int64

func (t tally) Count(name string, n int64) { t[name] += n }
func (tally) Gauge(string, float64)        {}
func (tally) Observe(string, float64)      {}

type visit struct {
	At   time.Time `json:"at"`
	Page string    `json:"page"`
	Took float64   `json:"took"`
}

func visitTime(v visit) time.Time { return v.At }

// TestTxFilesByTimeAndSize writes two transactions, and looks at the handle's files and at those that are visible.
func TestTxFilesByTimeAndSize(t *testing.T) {
	dir, counts := t.TempDir(), tally{}
	s := TxSink[visit]{Dir: dir, Format: parts.JSON[visit]{}, Bucket: parts.ByTime(visitTime, ""), Rolling: parts.Rolling{Size: 100}, MaxOpen: 1}
	task := txTask
	task.Metrics = counts
	w, err := s.TxWriter(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Committer(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 30, 0, 0, time.UTC)
	vs := []visit{{at, "a", 1}, {at, "b", 2}, {at, "c", 3}, {at.Add(time.Hour), "d", 4}, {at, "e", 5}}
	h := prepare(t, w.(*txWriter[visit]), sink.Slot{ID: 5, Name: "job-out-5"}, 7, vs...)
	n, err := txn.Decode[native](h, nativeVersion)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, f := range n.Files {
		paths = append(paths, f.Path)
	}
	want := []string{"dt=2026-01-02/hour=03/0000", "dt=2026-01-02/hour=03/0001", "dt=2026-01-02/hour=04/0002", "dt=2026-01-02/hour=03/0003"}
	if !reflect.DeepEqual(paths, want) {
		t.Errorf("the handle has %q, want %q", paths, want)
	}
	if want := (tally{"files": 4, "evicted_files": 2}); !maps.Equal(counts, want) {
		t.Errorf("counted %v, want %v", counts, want)
	}
	if err := errors.Join(c.Commit(t.Context(), []sink.Handle{h}), w.Close(), c.Close()); err != nil {
		t.Fatal(err)
	}
	files, err := shown(dir)
	for i, p := range want {
		name := path.Join(path.Dir(p), fmt.Sprintf("part-out-000000000007-5-%s-%04d.jsonl", h.Token, i))
		if files[name] == "" {
			t.Errorf("%s isn't among %q, %v", name, slices.Sorted(maps.Keys(files)), err)
		}
	}
	if hidden, err := filepath.Glob(filepath.Join(dir, ".*")); len(files) != 4 || err != nil || len(hidden) > 0 {
		t.Errorf("%d files, hidden %q, %v", len(files), hidden, err)
	}
}

func TestTxRejectsWhatCantBeWritten(t *testing.T) {
	dir := t.TempDir()
	bucket := func(dst []byte, v visit) []byte { return append(dst, v.Page...) }
	w, c := txOpen(t, TxSink[visit]{Dir: dir, Format: parts.JSON[visit]{}, Bucket: bucket})
	vs := []visit{{Page: "a"}, {Page: "../../etc"}, {Page: "a", Took: math.NaN()}, {Page: "a/.b"}, {Page: "c", Took: math.Inf(1)}, {Page: "a"}}
	if err := w.Begin(t.Context(), sink.Slot{Name: "s"}); err != nil {
		t.Fatal(err)
	}
	err := w.Write(t.Context(), vs)
	r, ok := errors.AsType[*sink.Rejected](err)
	if !ok {
		t.Fatal(err)
	}
	for i, says := range map[int]string{1: `bucket "../../etc"`, 2: "encode record as JSON: json: unsupported value: NaN", 3: `begins with a dot`, 4: "+Inf"} {
		if e := r.Errs[i]; e == nil || !strings.Contains(e.Error(), says) {
			t.Errorf("record %d: %v, want %q", i, e, says)
		}
	}
	h, err := w.Prepare(t.Context(), 1)
	if err := errors.Join(err, c.Commit(t.Context(), []sink.Handle{h})); err != nil || len(r.Errs) != 4 {
		t.Fatalf("%d rejected, %v", len(r.Errs), err)
	}
	files, err := shown(dir)
	if err != nil || len(files) != 1 || strings.Count(slices.Collect(maps.Values(files))[0], "\n") != 2 {
		t.Errorf("visible: %v, %v", files, err)
	}
}

// TestHandleOfVersion1 commits a file that was prepared by the first version, and finishes another by hand.
func TestHandleOfVersion1(t *testing.T) {
	s := compacting(t.TempDir())
	_, c := txOpen(t, s)
	put := func() (sink.Handle, string) {
		h := sink.Handle{Operator: "out", Slot: sink.Slot{ID: 3, Name: "job-out-3"}, Token: txn.NewToken(), Epoch: 9}
		name := hiddenName(h.Slot.Name, h.Token, preparedSuffix)
		if err := os.WriteFile(filepath.Join(s.Dir, name), []byte("a\nb\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		h.Native = fmt.Appendf(nil, `{"version":1,"native":{"dir":"d","prepared":%q,"final":%q,"size":4,"crc32c":%d}}`, name, "part-"+h.Token, 0x52a4fb0b)
		return h, name
	}
	h, _ := put()
	for range 2 {
		if err := c.Commit(t.Context(), []sink.Handle{h}); err != nil {
			t.Fatal(err)
		}
	}
	kept, _ := put()
	put()
	if err := c.Recover(t.Context(), []sink.Handle{kept}, []sink.Slot{h.Slot}); err != nil {
		t.Fatal(err)
	}
	byHand, name := put()
	l, _ := sink.As[txn.Lister](c)
	if found, err := l.List(t.Context(), "job"); err != nil || len(found) != 1 || found[0].Name != name || l.Finish(t.Context(), found[0], true) != nil {
		t.Errorf("listed %+v, %v", found, err)
	}
	files, err := shown(s.Dir)
	want := map[string]string{"part-" + h.Token: "a\nb\n", "part-" + kept.Token: "a\nb\n", "part-out-3-" + byHand.Token + "-0000.csv": "a\nb\n"}
	if err != nil || !maps.Equal(files, want) {
		t.Errorf("visible %v, %v, want %v", files, err, want)
	}
}

func TestPrepareFindsWhatIsInTheWay(t *testing.T) {
	s := compacting(t.TempDir())
	w, _ := txOpen(t, s)
	if err := os.WriteFile(filepath.Join(s.Dir, "b=x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Begin(t.Context(), sink.Slot{Name: "s"}), w.Write(t.Context(), []string{"x"})); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Prepare(t.Context(), 1); fault.CodeOf(err) != fault.SinkFailed.ID || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("a file in place of a bucket: %v", err)
	}
	w, _ = txOpen(t, s)
	w.disk.fail = func(op, name string) error { return &os.PathError{Op: op, Path: name, Err: syscall.EACCES} }
	if err := w.Begin(t.Context(), sink.Slot{Name: "s"}); fault.CodeOf(err) != fault.SinkFailed.ID || !strings.Contains(err.Error(), "right to write") {
		t.Errorf("a directory that can't be written: %v", err)
	}
}

// alone is a format whose files can't be joined.
type alone struct{ parts.Text[string] }

func (alone) Join() {}

func TestTxSettingsThatDontFit(t *testing.T) {
	dir := t.TempDir()
	for says, s := range map[string]TxSink[string]{
		"Encode and Format are both set": {Dir: dir, Format: parts.JSON[string]{}, Encode: func(dst []byte, _ string) []byte { return dst }},
		"Row is missing":                 {Dir: dir, Format: parts.CSV[string]{}},
		"can't be joined":                {Dir: dir, Format: alone{}, CompactBelow: 1},
	} {
		_, err := s.TxWriter(t.Context(), txTask)
		_, cerr := s.Committer(t.Context(), txTask)
		for _, err := range []error{err, cerr, s.Preflight(t.Context())} {
			if fault.CodeOf(err) != fault.BadPipeline.ID || !strings.Contains(err.Error(), says) {
				t.Errorf("got %v, want %q", err, says)
			}
		}
	}
}
