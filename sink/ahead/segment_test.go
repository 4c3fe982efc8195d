package ahead_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/ahead"
	"github.com/weirline/weirline/txn"
)

// big is rows of several parts.
func big() (rows []string) {
	for i := range 12 {
		rows = append(rows, fmt.Sprint(i, " ", strings.Repeat("x", 1<<20)))
	}
	return rows
}

func TestRowsOfManyPartsKeepTheirOrder(t *testing.T) {
	dir := t.TempDir()
	to := lines{path: filepath.Join(dir, "out")}
	b := open(t, ahead.Sink[string]{To: to, Dir: filepath.Join(dir, "ahead"), Batch: 5})
	rows := big()
	h1 := b.prepare(t, rows[:7]...)
	h2 := b.prepare(t, rows[7:]...)
	parts, err := left(b.Dir, h1.Slot)
	if err != nil || len(parts) < 3 {
		t.Errorf("7 MiB wait in %q, %v; want two parts", parts, err)
	}
	if err := b.c.Commit(t.Context(), []sink.Handle{h1, h2}); err != nil {
		t.Fatal(err)
	}
	wantLines(t, to, rows...)
	if n := b.of["applied_rows"]; n != int64(len(rows)) {
		t.Errorf("applied_rows is %d", n)
	}
}

// TestDamage changes, cuts and takes away files of rows: nothing of the segment is written then, and its loss is told.
func TestDamage(t *testing.T) {
	file := func(end string, harm func(path string) error) func(dir string, h sink.Handle) error {
		return func(dir string, h sink.Handle) error {
			return harm(filepath.Join(dir, txn.NameOf(h.Slot.Name, h.Token)+end))
		}
	}
	cut := func(path string) error { return os.Truncate(path, 1000) }
	change := func(path string) error {
		b, err := os.ReadFile(path)
		b[len(b)/2]++
		return errors.Join(err, os.WriteFile(path, b, 0o600))
	}
	for name, c := range map[string]struct {
		harm  func(dir string, h sink.Handle) error
		code  fault.Code
		words string
	}{
		"cut":            {file(".00000", cut), fault.LostCommit, "announced"},
		"the last cut":   {file(".00001.end", cut), fault.LostCommit, "announced"},
		"empty":          {file(".00000", func(p string) error { return os.Truncate(p, 0) }), fault.LostCommit, "too short"},
		"changed":        {file(".00001.end", change), fault.LostCommit, "checksum"},
		"a part is gone": {file(".00000", os.Remove), fault.LostCommit, `.00000"] are gone`},
		"the end is":     {file(".00001.end", os.Remove), fault.LostCommit, `.end"] are gone`},
		"all is":         {remove, fault.UnknownCommit, "or set Dir or Place to where they are"},
		"another's part": {file(".00000", func(p string) error { return os.Rename(p[:len(p)-5]+"00001.end", p) }), fault.LostCommit, "has part 1 of"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			to := lines{path: filepath.Join(dir, "out")}
			b := open(t, ahead.Sink[string]{To: to, Dir: filepath.Join(dir, "ahead")})
			h := b.prepare(t, big()[:5]...)
			if err := c.harm(b.Dir, h); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				err := b.c.Recover(t.Context(), []sink.Handle{h}, []sink.Slot{h.Slot})
				if wantFault(t, err, c.code, c.words, "txn.AcceptLoss"); !sink.IsPermanent(err) {
					t.Errorf("%v isn't permanent", err)
				}
			}
			wantLines(t, to)
			b.Lost = txn.AcceptLoss
			b.again(t)
			next := b.prepare(t, "next")
			if err := b.c.Recover(t.Context(), []sink.Handle{h, next}, []sink.Slot{h.Slot, next.Slot}); err != nil {
				t.Fatal(err)
			}
			wantLines(t, to, "next")
			if rest, err := left(b.Dir, h.Slot); err != nil || len(rest) > 0 || b.of["lost_transactions"] != 1 {
				t.Errorf("left: %q, %v; lost_transactions is %d", rest, err, b.of["lost_transactions"])
			}
		})
	}
}

// fullPlace is a directory whose disk is full at times.
type fullPlace struct {
	ahead.Place
	full atomic.Bool
}

func (p *fullPlace) Create(ctx context.Context, name string, data []byte) error {
	if p.full.Load() {
		return &os.PathError{Op: "write", Path: name, Err: syscall.ENOSPC}
	}
	return p.Place.Create(ctx, name, data)
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	to := lines{path: filepath.Join(dir, "out")}
	p := &fullPlace{Place: ahead.Directory(filepath.Join(dir, "ahead"))}
	b := open(t, ahead.Sink[string]{To: to, Place: p})
	kept := b.prepare(t, "kept")
	p.full.Store(true)
	slot := sink.Slot{ID: 9, Name: "job-out-9"}
	wantFault(t, b.w.Begin(t.Context(), slot), fault.SinkFailed, "no space left", "make room")
	wantFault(t, b.Preflight(t.Context()), fault.Preflight, "no space left", "with room")
	p.full.Store(false)
	if err := b.w.Begin(t.Context(), slot); err != nil {
		t.Fatal(err)
	}
	p.full.Store(true)
	wantFault(t, b.w.Write(t.Context(), big()), fault.SinkFailed, "no space left", "make room")
	_, err := b.w.Prepare(t.Context(), 9)
	wantFault(t, err, fault.SinkFailed, "no space left", "come again")

	// What was applied can't be noted: it isn't done, and comes again.
	if err := b.c.Commit(t.Context(), []sink.Handle{kept}); sink.IsPermanent(err) {
		t.Errorf("%v is permanent", err)
	} else {
		wantFault(t, err, fault.CommitFailed, "no space left", "make room")
	}
	p.full.Store(false)
	b.again(t)
	if err := b.c.Recover(t.Context(), []sink.Handle{kept}, []sink.Slot{kept.Slot, slot}); err != nil {
		t.Fatal(err)
	}
	wantLines(t, to, "kept", "kept")
	if names, err := p.List(t.Context(), ""); err != nil || !slices.Equal(names, []string{"job-out-1.applied"}) {
		t.Errorf("left: %q, %v", names, err)
	}
}

// TestStrangersAreLeftAlone has files of other jobs, of other slots and of nobody in the place.
func TestStrangersAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	b := open(t, ahead.Sink[string]{To: lines{path: filepath.Join(dir, "out")}, Dir: dir})
	token := txn.NewToken()
	strangers := []string{
		"notes", "job-out-1-notes.open", "job-out-1.applied", "job-out-1-" + token, "job-out-1-" + token + ".txt",
		"job-out-11-" + token + ".open", "job-out-1-2-" + token + ".00000.end", "other-job-out-1-" + token + ".00000",
	}
	mine := []string{
		"job-out-1-" + token + ".open", "job-out-1-" + token + ".00000", "job-out-1-" + token + ".00001.tmp", "job-out-1-" + token + ".100000.end",
	}
	for _, name := range append(strangers, mine...) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "job-out-1.applied")); err != nil { // it is written by the recovery
		t.Fatal(err)
	}
	if err := b.c.Recover(t.Context(), nil, []sink.Slot{{ID: 1, Name: "job-out-1"}, {ID: 2, Name: "job-out-2"}}); err != nil {
		t.Fatal(err)
	}
	var names []string
	all, err := os.ReadDir(dir)
	for _, e := range all {
		names = append(names, e.Name())
	}
	slices.Sort(strangers)
	if err != nil || !slices.Equal(names, strangers) {
		t.Errorf("left are %q, %v; want %q", names, err, strangers)
	}
}

// TestEvidence asks about transactions whose files are gone: what is noted of the slot decides.
func TestEvidence(t *testing.T) {
	dir := t.TempDir()
	to := lines{path: filepath.Join(dir, "out")}
	b := open(t, ahead.Sink[string]{To: to, Dir: filepath.Join(dir, "ahead")})
	slot := sink.Slot{ID: 1, Name: "job-out-1"}
	in := func(epoch uint64, row string) sink.Handle {
		t.Helper()
		if err := errors.Join(b.w.Begin(t.Context(), slot), b.w.Write(t.Context(), []string{row})); err != nil {
			t.Fatal(err)
		}
		h, err := b.w.Prepare(t.Context(), epoch)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	h1 := in(3, "a")
	commit := func(hs ...sink.Handle) error { return b.c.Commit(t.Context(), hs) }
	if err := commit(h1); err != nil {
		t.Fatal(err)
	}
	cleared := in(4, "b")
	if err := b.c.Recover(t.Context(), nil, []sink.Slot{slot}); err != nil {
		t.Fatal(err)
	}
	b.again(t)
	h2 := in(5, "c")
	if err := commit(h1, h2, h1); err != nil {
		t.Errorf("transactions that are done: %v", err)
	}
	wantFault(t, commit(cleared), fault.LostCommit, "cleared")
	// The state is given up, and epochs begin anew: what is noted says nothing of this life's.
	h3 := in(1, "d")
	if err := remove(b.Dir, h3); err != nil {
		t.Fatal(err)
	}
	wantFault(t, commit(h3), fault.UnknownCommit)
	wantLines(t, to, "a", "c")
	if err := os.WriteFile(filepath.Join(b.Dir, slot.Name+".applied"), []byte("?"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := commit(h2)
	if wantFault(t, err, fault.CommitFailed, "too short", "remove it"); !sink.IsPermanent(err) {
		t.Errorf("%v isn't permanent", err)
	}
}

// TestAnotherDirectory has handles of a savepoint, whose rows wait where the job was that wrote it, or waited there.
func TestAnotherDirectory(t *testing.T) {
	dir := t.TempDir()
	to := lines{path: filepath.Join(dir, "out")}
	b := open(t, ahead.Sink[string]{To: to, Dir: filepath.Join(dir, "old")})
	done, waits, cleared := b.prepare(t, "done"), b.prepare(t, "waits"), b.prepare(t, "cleared")
	if err := errors.Join(b.c.Commit(t.Context(), []sink.Handle{done}), b.c.Recover(t.Context(), nil, []sink.Slot{cleared.Slot})); err != nil {
		t.Fatal(err)
	}
	old := *b
	b.Dir = filepath.Join(dir, "new")
	b.again(t)
	mine := b.prepare(t, "mine")
	for range 2 {
		if err := b.c.Commit(t.Context(), []sink.Handle{done, waits, mine}); err != nil {
			t.Fatal(err)
		}
		wantFault(t, b.c.Commit(t.Context(), []sink.Handle{cleared}), fault.LostCommit, "cleared")
	}
	if err := old.c.Commit(t.Context(), []sink.Handle{done, waits}); err != nil {
		t.Errorf("the job that wrote the savepoint: %v", err)
	}
	wantLines(t, to, "done", "waits", "mine")
}
