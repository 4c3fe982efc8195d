package deadletter_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/weirline/weirline/deadletter"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

type order struct {
	ID   int
	Tags map[string]int
	Note *string
}

func note(s string) *string { return &s }

// orders are letters of n orders, in a directory of their own.
func orders(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	var ls []deadletter.Letter
	for i := range n {
		ls = append(ls, letter(order{i, map[string]int{"a": i, "b": 2, "c": 3}, note(fmt.Sprint("n", i))}))
	}
	other := letter(order{ID: -1})
	other.Operator = "other"
	must(t, os.WriteFile(filepath.Join(dir, "a.jsonl"), lines(t, append(ls[:n/2:n/2], other)...), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "b.jsonl.gz"), zipped(t, lines(t, ls[n/2:]...)), 0o600))
	return dir
}

func ids(os []order) (out []int) {
	for _, o := range os {
		out = append(out, o.ID)
	}
	slices.Sort(out)
	return out
}

func upTo(n int) (out []int) {
	for i := range n {
		out = append(out, i)
	}
	return out
}

// shop is an async sink in memory that refuses some orders.
type shop struct {
	got    enginetest.Collect[order]
	refuse func(id int) bool
	fail   error
}

func (s *shop) sink() async.Sink[order] {
	return async.Sink[order]{MaxBatch: 7, Send: func(ctx context.Context, b []order) error {
		if s.fail != nil {
			return sink.Permanent(s.fail)
		}
		bad := map[int]error{}
		var good []order
		for i, o := range b {
			if s.refuse != nil && s.refuse(o.ID) {
				bad[i] = fmt.Errorf("order %d is unknown", o.ID)
			} else {
				good = append(good, o)
			}
		}
		if err := s.got.Write(ctx, good); err != nil {
			return err
		}
		if len(bad) > 0 {
			return &sink.Rejected{Errs: bad}
		}
		return nil
	}}
}

func replay(from deadletter.Log, to deadletter.Outlet, refused *[]deadletter.Letter) deadletter.Replay {
	return deadletter.Replay{
		From: from, Operator: "out", To: to, Slot: "job-out-dlq", Task: sink.Task{Job: "job", Operator: "out", Parallelism: 1, Request: func() {}},
		Refused: func(ls []deadletter.Letter) error {
			*refused = append(*refused, ls...)
			return nil
		},
	}
}

func TestReplayIntoAPlainSink(t *testing.T) {
	const n = 5000 // more than are flushed at once
	from := deadletter.Files{Path: orders(t, n)}
	s := &shop{refuse: func(id int) bool { return id%1000 == 7 }}
	var refused []deadletter.Letter
	r := replay(from, deadletter.Plain(s.sink()), &refused)

	r.DryRun = true
	res, err := r.Run(t.Context())
	if err != nil || res.Chosen != n || res.Sent != n || len(s.got.Rows()) != 0 {
		t.Fatalf("dry run: %+v, %v, %d rows", res, err, len(s.got.Rows()))
	}
	r.DryRun = false
	res, err = r.Run(t.Context())
	if err != nil || res.Sent != n-5 || res.Refused != 5 || res.Before != 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	if got := ids(s.got.Rows()); len(got) != n-5 || len(slices.Compact(got)) != n-5 {
		t.Errorf("%d rows, want %d", len(got), n-5)
	}
	for _, l := range refused {
		if want := fmt.Sprintf("order %s is unknown", strings.Fields(l.Value[strings.Index(l.Value, "ID:")+3:])[0]); l.Cause != want || l.Attempts != 1 ||
			l.Operator != "out" || len(l.Record) == 0 || l.Found.Year() < 2026 {
			t.Errorf("refused %+v, want cause %s", l, want)
		}
	}
	res, err = r.Run(t.Context())
	if err != nil || res.Sent != 0 || res.Before != n || len(s.got.Rows()) != n-5 {
		t.Errorf("once more: %+v, %v", res, err)
	}
}

func TestReplayChooses(t *testing.T) {
	dir := orders(t, 10)
	odd := letter(order{ID: 77})
	odd.Cause = "timeout after 3s"
	bare := letter(func() {})
	wrong := letter("no order")
	must(t, os.WriteFile(filepath.Join(dir, "c.jsonl"), lines(t, odd, bare, wrong), 0o600))
	s := &shop{}
	var refused []deadletter.Letter
	r := replay(deadletter.Files{Path: dir}, deadletter.Plain(s.sink()), &refused)
	r.Filter.Cause = regexp.MustCompile("^timeout")
	if res, err := r.Run(t.Context()); err != nil || res.Chosen != 1 || res.Sent != 1 || !slices.Equal(ids(s.got.Rows()), []int{77}) {
		t.Errorf("by cause: %+v, %v, %v", res, err, s.got.Rows())
	}
	r.Filter.Cause = nil
	res, err := r.Run(t.Context())
	if err != nil || res.Chosen != 13 || res.Before != 1 || res.Sent != 10 || res.Unreadable != 2 || res.Why == nil {
		t.Errorf("the rest: %+v, %v", res, err)
	}
	if got := ids(s.got.Rows()); !slices.Equal(got, append(upTo(10), 77)) {
		t.Errorf("rows %v", got)
	}
}

func TestReplayOfAPlainSinkThatFails(t *testing.T) {
	s := &shop{fail: errors.New("planted")}
	var refused []deadletter.Letter
	r := replay(deadletter.Files{Path: orders(t, 10)}, deadletter.Plain(s.sink()), &refused)
	if _, err := r.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "planted") {
		t.Fatalf("the error is %v", err)
	}
	s.fail = nil
	if res, err := r.Run(t.Context()); err != nil || res.Sent != 10 || !slices.Equal(ids(s.got.Rows()), upTo(10)) {
		t.Errorf("again: %+v, %v, %v", res, err, ids(s.got.Rows()))
	}
}

func TestTwoReplaysAtOnceAreRefused(t *testing.T) {
	from := deadletter.Files{Path: orders(t, 2)}
	unlock, err := from.Lock(t.Context(), "out")
	must(t, err)
	var refused []deadletter.Letter
	r := replay(from, deadletter.Plain((&shop{}).sink()), &refused)
	if _, err := r.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "another replay") {
		t.Errorf("a second replay: %v", err)
	}
	must(t, unlock())
	if res, err := r.Run(t.Context()); err != nil || res.Sent != 2 {
		t.Errorf("after the first: %+v, %v", res, err)
	}
}

// dying is a Log that fails the n-th time that marks are stored, before or after it has stored them.
type dying struct {
	deadletter.Files
	n     int
	after bool
}

var errDies = errors.New("planted death")

func (d *dying) SetMarks(ctx context.Context, op string, b []byte) error {
	d.n--
	if d.n == 0 && !d.after {
		return errDies
	}
	if err := d.Files.SetMarks(ctx, op, b); err != nil || d.n != 0 {
		return err
	}
	return errDies
}

// TestTwoPhaseReplayDies has a replay end at each step at which it could be killed: the next one writes what is missing, and each
// order is there once.
func TestTwoPhaseReplayDies(t *testing.T) {
	const n = 450
	for name, c := range map[string]struct {
		marks    int
		after    bool
		commit   bool
		finished int
	}{
		"before the handle is remembered":     {marks: 1},
		"after the handle is remembered":      {marks: 1, after: true, finished: n},
		"in the commit":                       {commit: true, finished: n},
		"before the commit is remembered":     {marks: 2, finished: n},
		"when all is remembered, and at rest": {marks: 2, after: true},
	} {
		t.Run(name, func(t *testing.T) {
			files := deadletter.Files{Path: orders(t, n)}
			db := enginetest.NewTx[order]()
			if c.commit {
				db.OnCommit = func([]sink.Handle) error { return errDies }
			}
			var refused []deadletter.Letter
			r := replay(&dying{files, c.marks, c.after}, deadletter.TwoPhase[order](db), &refused)
			if _, err := r.Run(t.Context()); !errors.Is(err, errDies) {
				t.Fatalf("the first replay ended with %v", err)
			}
			db.OnCommit = nil
			r.From = files
			res, err := r.Run(t.Context())
			if err != nil || res.Finished != c.finished || res.Sent+res.Before != n || db.Leftovers() != 0 {
				t.Errorf("the second: %+v, %v, %d left over", res, err, db.Leftovers())
			}
			if got := ids(db.Rows()); !slices.Equal(got, upTo(n)) {
				t.Errorf("%d rows, want each of %d once", len(got), n)
			}
			if res, err := r.Run(t.Context()); err != nil || res.Before != n || len(db.Rows()) != n {
				t.Errorf("the third: %+v, %v, %d rows", res, err, len(db.Rows()))
			}
		})
	}
}

// A plain sink can't finish what was begun by a two-phase one: its letters must not pass for written.
func TestReplayAfterTheSinkHasChanged(t *testing.T) {
	files := deadletter.Files{Path: orders(t, 10)}
	db := enginetest.NewTx[order]()
	var refused []deadletter.Letter
	r := replay(&dying{files, 1, true}, deadletter.TwoPhase[order](db), &refused)
	if _, err := r.Run(t.Context()); !errors.Is(err, errDies) {
		t.Fatalf("the first replay ended with %v", err)
	}
	s := &shop{}
	r.From, r.To = files, deadletter.Plain(s.sink())
	if res, err := r.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "two-phase") {
		t.Errorf("into a plain sink: %+v, %v", res, err)
	}
	r.To = deadletter.TwoPhase[order](db)
	if res, err := r.Run(t.Context()); err != nil || res.Finished != 10 || !slices.Equal(ids(db.Rows()), upTo(10)) {
		t.Errorf("into the two-phase one again: %+v, %v", res, err)
	}
}

// A file is compressed under the eyes of a replay: both forms of it are there.
func TestReplayOfAFileThatIsThereTwice(t *testing.T) {
	dir := t.TempDir()
	all := lines(t, letter(order{ID: 0}), letter(order{ID: 1}))
	must(t, os.WriteFile(filepath.Join(dir, "a.jsonl"), all, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "a.jsonl.gz"), zipped(t, all), 0o600))
	s := &shop{}
	var refused []deadletter.Letter
	res, err := replay(deadletter.Files{Path: dir}, deadletter.Plain(s.sink()), &refused).Run(t.Context())
	if err != nil || res.Sent != 2 || !slices.Equal(ids(s.got.Rows()), upTo(2)) {
		t.Errorf("%+v, %v, rows %v", res, err, ids(s.got.Rows()))
	}
}

func TestTypesThatCantBeReadBack(t *testing.T) {
	var c enginetest.Collect[any]
	var refused []deadletter.Letter
	r := replay(deadletter.Files{Path: orders(t, 2)}, deadletter.Plain[any](&c), &refused)
	if _, err := r.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "WL1002") {
		t.Errorf("records of any type: %v", err)
	}
}
