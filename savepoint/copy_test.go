package savepoint_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/savepoint"
)

// openAt opens a directory for the life of the test, or until it is closed.
func openAt(t *testing.T, dir string, o store.Options) *store.Dir {
	t.Helper()
	if o.Job == "" && !o.ReadOnly {
		o.Job = "orders"
	}
	d, err := store.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// publishAs writes an epoch of that number with one small and one large blob.
func publishAs(t *testing.T, d *store.Dir, n uint64, text string) *store.Record {
	t.Helper()
	rec := &store.Record{Epoch: n, Taken: time.Unix(int64(n), 0).UTC(), KeyGroups: 8, Operators: map[string]store.Operator{}}
	var op store.Operator
	for i, size := range []int{1, 10_000} {
		w, err := d.Create(n, text+string(rune('a'+i)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, strings.Repeat(text, size)); err != nil {
			t.Fatal(err)
		}
		b, err := w.Finish()
		if err != nil {
			t.Fatal(err)
		}
		op.Tasks = append(op.Tasks, store.Task{Index: i, Keyed: &b})
	}
	op.Parallelism = len(op.Tasks)
	rec.Operators["count"] = op
	if err := d.Publish(rec); err != nil {
		t.Fatal(err)
	}
	return rec
}

func publishNext(t *testing.T, d *store.Dir, text string) *store.Record {
	t.Helper()
	n, err := d.NextEpoch()
	if err != nil {
		t.Fatal(err)
	}
	return publishAs(t, d, n, text)
}

// contents reads all blobs of a record.
func contents(t *testing.T, d *store.Dir, rec *store.Record) (all []string) {
	t.Helper()
	for b := range rec.Blobs() {
		r, err := d.ReadBlob(b)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
		if err := errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		all = append(all, string(text[:5])+"/"+string(rune('0'+len(text)%7)))
	}
	return all
}

func TestASavepointIsAStoreOfItsOwn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sub", "save")
	d := openAt(t, dir, store.Options{New: true})
	want := contents(t, d, publishAs(t, d, 57, "hello"))
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	from := openAt(t, moved, store.Options{ReadOnly: true})
	rec, err := from.Latest()
	if err != nil || rec.Epoch != 57 || rec.Job != "orders" {
		t.Fatalf("the moved savepoint: %v, %v", rec, err)
	}
	to := openAt(t, t.TempDir(), store.Options{})
	if err := savepoint.Import(to, from, rec); err != nil {
		t.Fatal(err)
	}
	if rec.Epoch != 58 {
		t.Errorf("imported as epoch %d, want 58", rec.Epoch)
	}
	if err := os.RemoveAll(moved); err != nil {
		t.Fatal(err)
	}
	got, err := to.Latest()
	if err != nil || !slices.Equal(contents(t, to, got), want) {
		t.Errorf("imported: %v, %v", got, err)
	}
	if next := publishNext(t, to, "again"); next.Epoch <= 58 {
		t.Errorf("the next epoch is %d", next.Epoch)
	}
}

func TestImportOfAnOwnOlderEpoch(t *testing.T) {
	d := openAt(t, t.TempDir(), store.Options{Retain: 2})
	old := publishNext(t, d, "older")
	want := contents(t, d, old)
	publishNext(t, d, "newer")
	if err := savepoint.Import(d, d, old); err != nil {
		t.Fatal(err)
	}
	publishNext(t, d, "third") // the number the blobs were written under is retained no longer
	got, err := d.Load(3)
	if err != nil || !slices.Equal(contents(t, d, got), want) {
		t.Errorf("epoch 3: %v, %v", got, err)
	}
}

func TestImportRefusesDamage(t *testing.T) {
	dir := t.TempDir()
	d := openAt(t, dir, store.Options{})
	rec := publishNext(t, d, "fine.")
	file := filepath.Join(dir, rec.Operators["count"].Tasks[1].Keyed.File)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	to := openAt(t, t.TempDir(), store.Options{})
	if err := savepoint.Import(to, d, rec); !errors.Is(err, fault.New(fault.DamagedEpoch, "")) || !strings.Contains(err.Error(), file) {
		t.Errorf("a flipped bit: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := savepoint.Import(to, d, rec); !errors.Is(err, fault.New(fault.DamagedEpoch, "")) || !strings.Contains(err.Error(), file) {
		t.Errorf("a file that is missing: %v", err)
	}
	if rec, err := to.Latest(); rec != nil || err != nil {
		t.Errorf("something was imported: %v, %v", rec, err)
	}
}

func TestNewWantsAnEmptyPlaceAndLeavesNothingBehind(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(full, store.Options{Job: "orders", New: true}); fault.CodeOf(err) != fault.SavepointTaken.ID {
		t.Errorf("a place that isn't empty: %v", err)
	}
	base := t.TempDir()
	empty := filepath.Join(base, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{empty, filepath.Join(base, "absent")} {
		d := openAt(t, dir, store.Options{New: true})
		w, err := d.Create(7, "half")
		if err == nil {
			_, err = w.Write(make([]byte, 1<<20))
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(base); len(left) > 0 || err != nil {
			t.Errorf("left behind: %v, %v", left, err)
		}
		if _, err := d.Create(7, "late"); err == nil {
			t.Error("a closed store makes blobs")
		}
	}
}

func TestReadOnlyReadsBesideAJob(t *testing.T) {
	dir := t.TempDir()
	job := openAt(t, dir, store.Options{Retain: 1})
	publishNext(t, job, "first")
	before := listed(t, dir)
	r := openAt(t, dir, store.Options{ReadOnly: true})
	rec, err := r.Latest()
	if err != nil || rec.Epoch != 1 || len(r.Records()) != 1 {
		t.Fatalf("got %v, %v", rec, err)
	}
	if _, err := r.NextEpoch(); err == nil {
		t.Error("a number was handed out")
	}
	if _, err := r.Create(2, "x"); err == nil {
		t.Error("a blob was made")
	}
	if err := errors.Join(r.Grant("op", 3), r.Publish(rec)); err == nil {
		t.Error("it could be written to")
	}
	if after := listed(t, dir); !slices.Equal(before, after) {
		t.Errorf("files before %v, after %v", before, after)
	}
	publishNext(t, job, "later") // deletes the first
	if _, err := r.Latest(); fault.CodeOf(err) != fault.DamagedEpoch.ID {
		t.Errorf("an epoch that is gone: %v", err)
	}
	if _, err := store.Open(filepath.Join(dir, "nowhere"), store.Options{ReadOnly: true}); fault.CodeOf(err) != fault.NoCheckpoint.ID {
		t.Errorf("no directory: %v", err)
	}
	if _, err := store.Open(dir, store.Options{ReadOnly: true, Job: "other"}); fault.CodeOf(err) != fault.OtherJob.ID {
		t.Errorf("another job's: %v", err)
	}
}

func listed(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		all = append(all, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
