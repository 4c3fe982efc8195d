package sqlsinktest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// Point is the record of these tests.
type Point struct {
	ID   int
	Name string
}

// Row is what a table has of it.
func (p Point) Row() ([]any, error) { return []any{p.ID, p.Name}, nil }

// Like is a test's own Point.
type Like interface {
	~struct {
		ID   int
		Name string
	}
}

// Numbered are points 0 up to n.
func Numbered[P Like](n int) []P {
	out := make([]P, n)
	for i := range out {
		out[i] = P(Point{i, fmt.Sprint("record ", i)})
	}
	return out
}

// Seq goes over some numbers and then over those from lo up to hi.
func Seq(lo, hi int, first ...int) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for _, n := range first {
			if !yield(n) {
				return
			}
		}
		for n := lo; n < hi; n++ {
			if !yield(n) {
				return
			}
		}
	}
}

var names atomic.Int64

// NewName is a name that nothing in a server has yet.
func NewName(prefix string) string { return fmt.Sprint(prefix, names.Add(1)) }

// NewTable makes a table of its own for a test; columns are those of create table. Unset: those of Point.
func NewTable(t *testing.T, s Server, columns string) string {
	t.Helper()
	if columns == "" {
		columns = "id int8 primary key, name text not null"
	}
	name := NewName("t")
	if err := s.Exec(t.Context(), fmt.Sprintf("create table %s (%s)", name, columns)); err != nil {
		t.Fatal(err)
	}
	return name
}

// Read returns the rows of a table of points.
func Read[P Like](s Server, table string) ([]P, error) {
	lines, err := s.Query(context.Background(), "select id, name from "+table+" order by id")
	var out []P
	for _, l := range lines {
		id, name, _ := strings.Cut(l, "\t")
		n, aerr := strconv.Atoi(id)
		err = errors.Join(err, aerr)
		out = append(out, P(Point{n, name}))
	}
	return out, err
}

// WantRows compares a table of points.
func WantRows[P Like](t *testing.T, s Server, table string, want ...P) {
	t.Helper()
	got, err := Read[P](s, table)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("table holds %v, want %v", got, want)
	}
}

// Fails checks errors.
func Fails(t *testing.T, code fault.Code, says string, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if fault.CodeOf(err) != code.ID || !strings.Contains(fmt.Sprint(err), says) {
			t.Errorf("got %v, want %s with %q", err, code.ID, says)
		}
	}
}

func task(m sink.Metrics) sink.Task {
	return sink.Task{Job: "job", Operator: "out", Parallelism: 1, Log: slog.New(slog.DiscardHandler), Metrics: m, Request: func() {}}
}
