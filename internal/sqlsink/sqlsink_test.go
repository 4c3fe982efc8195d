package sqlsink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// memory is a link to a table that is a list.
type memory struct {
	rows, batch []string
	opened      int
	closed      bool
	fails       error // the next Write does
}

func (m *memory) Name() string                          { return "memory" }
func (m *memory) Broken() bool                          { return false }
func (m *memory) Fence(context.Context, []string) error { return nil }
func (m *memory) Close()                                { m.closed = true }
func (m *memory) Reset()                                { m.batch = nil }

func (m *memory) Refused(err error) error {
	return fault.Wrap(fault.SinkRejected, err, "row of memory")
}

func (m *memory) Add(i int, values []any, gone bool) error {
	if values[0] == "odd" {
		return errors.New("no row of memory")
	}
	m.batch = append(m.batch, fmt.Sprint(i, values, gone))
	return nil
}

func (m *memory) Write(_ context.Context, records int) (keep bool, err error) {
	err, m.fails = m.fails, nil
	if err == nil {
		m.rows = append(append(m.rows, fmt.Sprint(records)), m.batch...)
	}
	return err == nil, err
}

func open(t *testing.T, s Sink[string], m *memory) sink.Writer[string] {
	t.Helper()
	of := sink.Task{Job: "job", Operator: "out", Parallelism: 1, Log: slog.New(slog.DiscardHandler), Request: func() {}}
	w, err := s.Writer(t.Context(), of, func(context.Context, Count) (Link, error) {
		m.opened++
		return m, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func TestWriter(t *testing.T) {
	m := &memory{}
	s := Sink[string]{
		Target: Target{Server: Server{Name: "memory", Space: "head"}, Table: "t", Columns: []string{"name"}, Keys: []string{"name"}},
		Row: func(v string) ([]any, error) {
			if v == "bad" {
				return nil, errors.New("no row")
			}
			return []any{v}, nil
		},
		Delete: func(v string) bool { return v == "gone" },
		Rows:   10,
	}
	if err := s.Validate(nil); err != nil {
		t.Fatal(err)
	}
	w := open(t, s, m)
	if err := errors.Join(w.Write(t.Context(), []string{"a", "bad", "gone", "odd", "b"}), w.Flush(t.Context())); err != nil {
		t.Error(err)
	}
	if want := []string{"3", "0 [a] false", "2 [gone] true", "4 [b] false"}; !slices.Equal(m.rows, want) {
		t.Errorf("wrote %q, want %q", m.rows, want)
	}
	r, _ := sink.As[sink.Rejecter](w)
	if bad := r.Rejects(); len(bad) != 2 || bad[0].Value != "bad" || bad[1].Value != "odd" || fault.CodeOf(bad[1].Err) != fault.SinkRejected.ID {
		t.Errorf("refused %v", bad)
	}
	m.fails = sink.Permanent(errors.New("no table"))
	if err := errors.Join(w.Write(t.Context(), []string{"c"}), w.Flush(t.Context())); !sink.IsPermanent(err) || m.opened != 1 || !m.closed {
		t.Errorf("got %v; opened %d times, closed: %v; want one link, given up", err, m.opened, m.closed)
	}
}

// The links end with the writer, which is closed twice here.
func TestClose(t *testing.T) {
	m := &memory{}
	s := Sink[string]{Target: Target{Table: "t", Columns: []string{"name"}}, Row: func(v string) ([]any, error) { return []any{v}, nil }, Rows: 10}
	w := open(t, s, m)
	if err := errors.Join(w.Write(t.Context(), []string{"a"}), w.Flush(t.Context())); err != nil || m.closed {
		t.Errorf("got %v, closed: %v", err, m.closed)
	}
	if err := w.Close(); err != nil || !m.closed {
		t.Errorf("got %v, closed: %v", err, m.closed)
	}
}
