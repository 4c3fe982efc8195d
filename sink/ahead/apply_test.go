package ahead_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/ahead"
	"github.com/weirline/weirline/sink/async"
)

var errOdd = errors.New("odd lines aren't wanted")

func refuseOdd(line string) error {
	if strings.HasPrefix(line, "odd") {
		return errOdd
	}
	return nil
}

// TestRefusedRows are refused while a batch is written, or, by a writer that works in the background, when it is flushed.
func TestRefusedRows(t *testing.T) {
	for name, of := range map[string]func(to lines) sink.Sink[string]{
		"at once": func(to lines) sink.Sink[string] { to.refuse = refuseOdd; return to },
		"in the background": func(to lines) sink.Sink[string] {
			return async.Sink[string]{Key: func(string) string { return "" }, Send: func(ctx context.Context, batch []string) error {
				to.refuse = refuseOdd
				w, err := to.Writer(ctx, sink.Task{})
				if err != nil {
					return err
				}
				err = w.Write(ctx, batch)
				return errors.Join(w.Flush(ctx), w.Close(), err)
			}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			to := lines{path: filepath.Join(dir, "out")}
			b := open(t, ahead.Sink[string]{To: of(to), Dir: filepath.Join(dir, "ahead"), Batch: 2})
			h := b.prepare(t, "1", "odd 2", "3", "4", "odd 5")
			err := b.c.Commit(t.Context(), []sink.Handle{h})
			if wantFault(t, err, fault.SinkRejected, "odd 2", errOdd.Error(), "set Rejects"); !sink.IsPermanent(err) {
				t.Errorf("%v isn't permanent", err)
			}
			apart := lines{path: filepath.Join(dir, "rejects")}
			b.Rejects = rejects{apart}
			b.again(t)
			if err := b.c.Commit(t.Context(), []sink.Handle{h}); err != nil {
				t.Fatal(err)
			}
			wantLines(t, apart, fmt.Sprint("odd 2 ", errOdd, " 1 ", h.Token), fmt.Sprint("odd 5 ", errOdd, " 1 ", h.Token))
			got, err := to.read()
			slices.Sort(got)
			if got = slices.Compact(got); err != nil || !slices.Equal(got, []string{"1", "3", "4"}) || b.of["rejected_rows"] != 2 {
				t.Errorf("the destination has %q, %v; rejected_rows is %d", got, err, b.of["rejected_rows"])
			}
			if rest, err := left(b.Dir, h.Slot); err != nil || len(rest) > 0 {
				t.Errorf("left: %q, %v", rest, err)
			}
			b.Rejects = rejects{lines{path: apart.path, refuse: refuseOdd}}
			b.again(t)
			wantFault(t, b.c.Commit(t.Context(), []sink.Handle{b.prepare(t, "odd 6")}), fault.SinkRejected, "the sink for rejected rows refuses one itself")
		})
	}
}

// rejects writes rows that were refused as lines.
type rejects struct{ to lines }

func (r rejects) Writer(ctx context.Context, t sink.Task) (sink.Writer[ahead.Reject[string]], error) {
	w, err := r.to.Writer(ctx, t)
	return rejectWriter{w}, err
}

type rejectWriter struct{ sink.Writer[string] }

func (w rejectWriter) Write(ctx context.Context, batch []ahead.Reject[string]) error {
	for _, r := range batch {
		if err := w.Writer.Write(ctx, []string{fmt.Sprint(r.Row, " ", r.Reason, " ", r.Epoch, " ", r.Token)}); err != nil {
			return err
		}
	}
	return nil
}

// TestDestinationAway fails for a while, which is tried again, and then for longer than Patience, which stops the job.
func TestDestinationAway(t *testing.T) {
	dir := t.TempDir()
	var away atomic.Bool
	errAway := errors.New("the destination is away")
	to := lines{path: filepath.Join(dir, "out"), fail: func() error {
		if away.Load() {
			return sink.RetryAfter(errAway, time.Minute)
		}
		return nil
	}}
	b := open(t, ahead.Sink[string]{To: to, Dir: filepath.Join(dir, "ahead"), Patience: time.Millisecond})
	h := b.prepare(t, "a", "b")
	away.Store(true)
	began := time.Now()
	err := b.c.Commit(t.Context(), []sink.Handle{h})
	if d, ok := sink.RetryDelay(err); sink.IsPermanent(err) || !errors.Is(err, errAway) || !ok || d != time.Minute {
		t.Errorf("the first failure: %v (again after %v), want the destination's own error", err, d)
	}
	for !sink.IsPermanent(err) && time.Since(began) < 10*time.Second {
		err = b.c.Commit(t.Context(), []sink.Handle{h})
	}
	if wantFault(t, err, fault.CommitFailed, "as long as Patience allows", "start the job again"); !sink.IsPermanent(err) {
		t.Errorf("%v isn't permanent", err)
	}
	away.Store(false)
	if err := b.c.Commit(t.Context(), []sink.Handle{h}); err != nil {
		t.Fatal(err)
	}
	wantLines(t, to, "a", "b")
}

// TestDestinationThatDoesNotAnswer keeps a call waiting: for Patience, or until the committer's context ends.
func TestDestinationThatDoesNotAnswer(t *testing.T) {
	var called atomic.Bool
	hang := async.Sink[string]{Send: func(ctx context.Context, _ []string) error {
		called.Store(true)
		<-ctx.Done()
		return ctx.Err()
	}}
	b := open(t, ahead.Sink[string]{To: hang, Dir: t.TempDir(), Patience: 20 * time.Millisecond})
	h := b.prepare(t, "a")
	err := b.c.Commit(t.Context(), []sink.Handle{h})
	if wantFault(t, err, fault.CommitFailed, "didn't answer"); !sink.IsPermanent(err) || !called.Load() {
		t.Errorf("%v isn't permanent, or the destination wasn't asked", err)
	}
	b.Patience = -1
	b.again(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := b.c.Commit(ctx, []sink.Handle{h}); err == nil || sink.IsPermanent(err) {
		t.Errorf("a cancelled commit: %v, want an error that is tried again", err)
	}
}

func TestOrderOfEpochs(t *testing.T) {
	dir := t.TempDir()
	to := lines{path: filepath.Join(dir, "out")}
	b := open(t, ahead.Sink[string]{To: to, Dir: filepath.Join(dir, "ahead"), Batch: 2})
	var hs []sink.Handle
	var want []string
	for epoch := range 4 {
		rows := []string{fmt.Sprint(epoch, " a"), fmt.Sprint(epoch, " b"), fmt.Sprint(epoch, " c")}
		hs, want = append(hs, b.prepare(t, rows...)), append(want, rows...)
	}
	if err := errors.Join(b.c.Commit(t.Context(), hs[:2]), b.c.Commit(t.Context(), hs)); err != nil {
		t.Fatal(err)
	}
	wantLines(t, to, want...)
}

func TestBadRows(t *testing.T) {
	errBad := errors.New("no form for it")
	dir := t.TempDir()
	to := lines{path: filepath.Join(dir, "out")}
	b := open(t, ahead.Sink[string]{
		To: to, Dir: filepath.Join(dir, "ahead"),
		Encode: func(dst []byte, v string) ([]byte, error) {
			if v == "bad" {
				return nil, errBad
			}
			return append(dst, v...), nil
		},
		Decode: func(data []byte) (string, error) {
			if string(data) == "unreadable" {
				return "", errBad
			}
			return string(data), nil
		},
	})
	if err := b.w.Begin(t.Context(), sink.Slot{Name: "s"}); err != nil {
		t.Fatal(err)
	}
	err := b.w.Write(t.Context(), []string{"a", "bad", "b"})
	if r, ok := errors.AsType[*sink.Rejected](err); !ok || len(r.Errs) != 1 || !errors.Is(r.Errs[1], errBad) {
		t.Errorf("got %v, want row 1 rejected", err)
	}
	h, err := b.w.Prepare(t.Context(), 1)
	if err := errors.Join(err, b.c.Commit(t.Context(), []sink.Handle{h})); err != nil {
		t.Fatal(err)
	}
	wantLines(t, to, "a", "b")
	wantFault(t, b.c.Commit(t.Context(), []sink.Handle{b.prepare(t, "unreadable")}), fault.CommitFailed, "decode a row of epoch 1", "a binary that has the type")
}

func TestSettings(t *testing.T) {
	good := ahead.Sink[string]{To: lines{}, Dir: "x"}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for says, change := range map[string]func(s *ahead.Sink[string]){
		"To is missing":        func(s *ahead.Sink[string]) { s.To = nil },
		"one of Dir and Place": func(s *ahead.Sink[string]) { s.Dir = "" },
		"Dir and Place is":     func(s *ahead.Sink[string]) { s.Place = ahead.Directory("y") },
		"Batch is negative":    func(s *ahead.Sink[string]) { s.Batch = -1 },
		"only one of Encode":   func(s *ahead.Sink[string]) { s.Decode = func([]byte) (string, error) { return "", nil } },
		"use txn.FailOnLoss":   func(s *ahead.Sink[string]) { s.Lost = 7 },
		"Send is missing":      func(s *ahead.Sink[string]) { s.To = async.Sink[string]{} },
	} {
		s := good
		change(&s)
		_, werr := s.TxWriter(t.Context(), sink.Task{})
		_, cerr := s.Committer(t.Context(), sink.Task{})
		for _, err := range []error{s.Validate(), werr, cerr, s.Preflight(t.Context())} {
			wantFault(t, err, fault.BadPipeline, says)
		}
	}
	wantFault(t, ahead.Sink[func()]{To: async.Sink[func()]{}, Dir: "x"}.Validate(), fault.BadType, "can't be stored with an epoch")
}

// upserts is a destination that says it is idempotent.
type upserts struct{ lines }

func (upserts) Idempotent() bool { return true }

// unable can be asked for its settings, which are wrong.
type unable struct{ lines }

var errUnable = errors.New("nobody is there")

func (unable) Preflight(context.Context) error { return errUnable }

func TestPromiseIsTheDestinations(t *testing.T) {
	for want, to := range map[string]sink.Sink[string]{sink.AtLeastOnce: lines{}, sink.Repeatable: upserts{}, sink.ExactlyOnce: &ledger{}} {
		promise, why, fix := ahead.Sink[string]{To: to}.Promise()
		if promise != want || why == "" || (fix == "") != (want != sink.AtLeastOnce) {
			t.Errorf("%T: promised is %q since %q, and to mend it %q; want %q", to, promise, why, fix, want)
		}
	}
	if err := (ahead.Sink[string]{To: unable{}, Dir: t.TempDir()}).Preflight(t.Context()); !errors.Is(err, errUnable) {
		t.Errorf("got %v, want that of the destination", err)
	}
}
