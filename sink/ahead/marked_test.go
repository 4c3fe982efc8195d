package ahead_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/ahead"
)

// ledger is a destination in memory that keeps marks. After so many calls of Write it loses the answer, or doesn't do what it is asked.
type ledger struct {
	lines
	rows  []string
	marks map[string]ahead.Mark
	calls int
	lose  int // this call is carried out, and its answer lost
	deny  int // this one isn't
}

func newLedger() *ledger { return &ledger{marks: map[string]ahead.Mark{}} }

var errCut = errors.New("the connection broke")

func (l *ledger) MarkWriter(context.Context, sink.Task) (ahead.MarkWriter[string], error) {
	return l, nil
}

func (l *ledger) Mark(_ context.Context, slot string) (ahead.Mark, error) { return l.marks[slot], nil }

func (l *ledger) Write(_ context.Context, slot string, was, at ahead.Mark, rows []string) (n int, err error) {
	l.calls++
	if l.calls == l.deny {
		return 0, errCut
	}
	if l.marks[slot] != was {
		return 0, ahead.ErrMoved
	}
	for _, row := range rows {
		if why := refuseOdd(row); why != nil {
			err = &sink.Rejected{Errs: map[int]error{n: why}}
			break
		}
		l.rows = append(l.rows, row)
		n++
	}
	l.marks[slot] = ahead.Mark{Token: at.Token, Rows: at.Rows + int64(n)}
	if l.calls == l.lose {
		return 0, errCut
	}
	return n, err
}

func (*ledger) Close() error { return nil }

// TestMarkSaysWhereToGoOn breaks off at each call of the destination, before or after it is carried out: each row is there once.
func TestMarkSaysWhereToGoOn(t *testing.T) {
	for _, rows := range [][]string{{}, {"1"}, {"1", "2", "3", "4", "5"}, {"odd 1", "2", "odd 3", "4", "odd 5"}, {"1", "odd 2", "odd 3", "4"}} {
		for at := range 8 {
			for _, lost := range []bool{false, true} {
				dir := t.TempDir()
				to := newLedger()
				if lost {
					to.lose = at
				} else {
					to.deny = at
				}
				apart := lines{path: filepath.Join(dir, "rejects")}
				b := open(t, ahead.Sink[string]{To: to, Dir: filepath.Join(dir, "ahead"), Batch: 2, Rejects: rejects{apart}})
				h := b.prepare(t, rows...)
				err := b.c.Commit(t.Context(), []sink.Handle{h})
				if at > 0 && to.calls >= at {
					if !errors.Is(err, errCut) || sink.IsPermanent(err) {
						t.Fatalf("%q, broken off at %d: %v", rows, at, err)
					}
					b.again(t)
					err = b.c.Commit(t.Context(), []sink.Handle{h})
				}
				if err != nil {
					t.Fatal(err)
				}
				want := slices.DeleteFunc(slices.Clone(rows), func(r string) bool { return refuseOdd(r) != nil })
				if !slices.Equal(to.rows, want) {
					t.Errorf("%q, call %d broken off, answer lost: %v: the destination has %q", rows, at, lost, to.rows)
				}
				told, err := apart.read()
				if err != nil || len(told) < len(rows)-len(want) {
					t.Errorf("%q, call %d broken off: %q were told, %v", rows, at, told, err)
				}
			}
		}
	}
}

// TestMarkOfSomebodyElse is there while this committer writes.
func TestMarkOfSomebodyElse(t *testing.T) {
	to := newLedger()
	b := open(t, ahead.Sink[string]{To: to, Dir: t.TempDir()})
	h := b.prepare(t, "a")
	late := ahead.Mark{Token: "other"}
	if _, err := to.Write(t.Context(), h.Slot.Name, late, late, []string{"x"}); !errors.Is(err, ahead.ErrMoved) {
		t.Errorf("a late write: %v", err)
	}
	if err := b.c.Commit(t.Context(), []sink.Handle{h}); err != nil || !slices.Equal(to.rows, []string{"a"}) {
		t.Errorf("the destination has %q, %v", to.rows, err)
	}
}

// TestMarkProves has no place any more, but the destination.
func TestMarkProves(t *testing.T) {
	to := newLedger()
	b := open(t, ahead.Sink[string]{To: to, Dir: t.TempDir()})
	h, never := b.prepare(t, "a", "b"), b.prepare(t, "c")
	if err := b.c.Commit(t.Context(), []sink.Handle{h}); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(b.Dir); err != nil {
		t.Fatal(err)
	}
	b.Dir = t.TempDir()
	b.again(t)
	if err := b.c.Commit(t.Context(), []sink.Handle{h}); err != nil {
		t.Errorf("all of it is in the destination: %v", err)
	}
	wantFault(t, b.c.Commit(t.Context(), []sink.Handle{never}), fault.UnknownCommit, "put the files back")
}
