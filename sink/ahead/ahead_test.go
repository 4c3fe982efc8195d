package ahead_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/ahead"
	"github.com/weirline/weirline/sink/sinktest"
	"github.com/weirline/weirline/txn"
	"github.com/weirline/weirline/txn/txntest"
)

// lines is a destination without transactions: a file that lines are appended to. Refuse makes it refuse lines, fail makes it
// fail as a whole.
type lines struct {
	path   string
	refuse func(line string) error
	fail   func() error
}

func (l lines) Writer(context.Context, sink.Task) (sink.Writer[string], error) {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return &appender{l, f, bufio.NewWriter(f)}, nil
}

type appender struct {
	lines
	f   *os.File
	buf *bufio.Writer
}

func (a *appender) Write(_ context.Context, batch []string) error {
	if a.fail != nil {
		if err := a.fail(); err != nil {
			return err
		}
	}
	bad := map[int]error{}
	for i, line := range batch {
		if a.refuse != nil {
			if bad[i] = a.refuse(line); bad[i] != nil {
				continue
			}
			delete(bad, i)
		}
		if _, err := a.buf.WriteString(line + "\n"); err != nil {
			return err
		}
	}
	if len(bad) > 0 {
		return &sink.Rejected{Errs: bad}
	}
	return nil
}

func (a *appender) Flush(context.Context) error {
	if a.fail != nil {
		if err := a.fail(); err != nil {
			return err
		}
	}
	return errors.Join(a.buf.Flush(), a.f.Sync())
}

func (a *appender) Close() error {
	if err := a.f.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

func (l lines) read() ([]string, error) {
	b, err := os.ReadFile(l.path)
	if len(b) == 0 && (err == nil || errors.Is(err, os.ErrNotExist)) {
		return nil, nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n"), err
}

// left names what waits of a slot.
func left(dir string, s sink.Slot) (names []string, err error) {
	all, err := os.ReadDir(dir)
	for _, e := range all {
		base, _, _ := strings.Cut(e.Name(), ".open")
		if i := strings.LastIndex(base, ".0"); i > 0 {
			base = base[:i]
		}
		if slot, _, ok := txn.SlotOf(base); ok && slot == s.Name {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// remove takes away the files of a transaction.
func remove(dir string, h sink.Handle) error {
	all, err := filepath.Glob(filepath.Join(dir, txn.NameOf(h.Slot.Name, h.Token)+"*"))
	for _, name := range all {
		err = errors.Join(err, os.Remove(name))
	}
	if len(all) == 0 {
		err = errors.New("it has no files")
	}
	return err
}

func TestContract(t *testing.T) {
	dir := t.TempDir()
	to := lines{path: filepath.Join(dir, "out")}
	s := ahead.Sink[string]{To: to, Dir: filepath.Join(dir, "ahead"), Batch: 3}
	lossy := s
	lossy.Lost = txn.AcceptLoss
	txntest.Run(t, txntest.Case[string]{
		TxCase: sinktest.TxCase[string]{
			Sink: s, Make: func(i int) string { return fmt.Sprint("line ", i) }, Visible: to.read,
			Left: func(slot sink.Slot) ([]string, error) { return left(s.Dir, slot) },
		},
		Lossy:    lossy,
		RollBack: func(_ context.Context, h sink.Handle) error { return remove(s.Dir, h) },
		Forget: func(_ context.Context, h sink.Handle) (sink.Handle, error) {
			return h, os.Remove(filepath.Join(s.Dir, h.Slot.Name+".applied"))
		},
		MaxSlot: 208,
	})
}

// bench is a sink with its writer and what its tasks have counted.
type bench struct {
	ahead.Sink[string]
	*counts
	w sink.TxWriter[string]
	c sink.Committer
	n int
}

type counts struct {
	mu sync.Mutex
	of map[string]int64
}

func (c *counts) Count(name string, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of[name] += n
}

func (*counts) Gauge(string, float64)   {}
func (*counts) Observe(string, float64) {}

func open(t *testing.T, s ahead.Sink[string]) *bench {
	t.Helper()
	b := &bench{Sink: s, counts: &counts{of: map[string]int64{}}}
	b.again(t)
	return b
}

func (b *bench) task() sink.Task {
	return sink.Task{Job: "job", Operator: "out", Log: slog.New(slog.DiscardHandler), Metrics: b.counts, Request: func() {}}
}

// again makes writer and committer anew, as another process has them.
func (b *bench) again(t *testing.T) {
	t.Helper()
	w, err := b.TxWriter(t.Context(), b.task())
	c, cerr := b.Committer(t.Context(), b.task())
	if err := errors.Join(err, cerr); err != nil {
		t.Fatal(err)
	}
	b.w, b.c = w, c
	t.Cleanup(func() {
		if err := errors.Join(w.Close(), c.Close()); err != nil {
			t.Error(err)
		}
	})
}

// prepare makes one transaction of the rows, in a slot of its own.
func (b *bench) prepare(t *testing.T, rows ...string) sink.Handle {
	t.Helper()
	b.n++
	slot := sink.Slot{ID: b.n, Name: fmt.Sprint("job-out-", b.n)}
	if err := errors.Join(b.w.Begin(t.Context(), slot), b.w.Write(t.Context(), rows)); err != nil {
		t.Fatal(err)
	}
	h, err := b.w.Prepare(t.Context(), uint64(b.n))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func wantLines(t *testing.T, l lines, want ...string) {
	t.Helper()
	got, err := l.read()
	if err != nil || strings.Join(got, ",") != strings.Join(want, ",") {
		t.Errorf("the destination has %d lines %.200q, %v; want %d %.200q", len(got), got, err, len(want), want)
	}
}

// wantFault wants a code, and the words in the message with its fix.
func wantFault(t *testing.T, err error, code fault.Code, words ...string) {
	t.Helper()
	if fault.CodeOf(err) != code.ID {
		t.Errorf("got %v, want %s", err, code.ID)
	}
	for _, w := range words {
		if !strings.Contains(fmt.Sprint(err), w) {
			t.Errorf("%v lacks %q", err, w)
		}
	}
}
