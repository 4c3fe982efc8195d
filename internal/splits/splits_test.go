package splits

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/source"
)

// page is a split.
type page struct {
	Name string
	At   int
}

func (p page) ID() string { return p.Name }

// book deals every split to the reader with the fewest as soon as there is one. It finds what it is told to.
type book struct {
	finds [][]page
	err   error
}

func (b *book) Discover(context.Context) (found []page, done bool, err error) {
	if b.err != nil {
		return nil, false, b.err
	}
	found, b.finds = b.finds[0], b.finds[1:]
	return found, len(b.finds) == 0, nil
}

func (b *book) Assign(_ source.Event[page], to *source.Assignments[page]) {
	for _, p := range to.Unassigned() {
		if r, ok := to.LeastLoaded(); ok {
			to.Give(r, p)
		}
	}
}

func (b *book) Close() error { return nil }

func given(as []Assignment) string {
	var out []string
	for _, a := range as {
		out = append(out, fmt.Sprintf("%s to %d", a.Split.(page).Name, a.Reader))
	}
	return strings.Join(out, ", ")
}

func found(t *testing.T, tab *Table[page]) string {
	t.Helper()
	n, err := tab.Discover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return given(tab.Found(n))
}

func position(t *testing.T, p page) []byte {
	t.Helper()
	b, err := source.EncodeSplit(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestLife follows splits from their discovery to a record, and into another table.
func TestLife(t *testing.T) {
	tab := New[page](&book{finds: [][]page{{{Name: "a"}, {Name: "b"}}, {{Name: "b"}, {Name: "c"}}}})
	if got := found(t, tab); got != "" {
		t.Errorf("without a reader it dealt %s", got)
	}
	if got := given(tab.Event(source.ReaderUp, 0)); got != "a to 0, b to 0" {
		t.Errorf("to the first reader it dealt %s", got)
	}
	if got := given(tab.Event(source.ReaderUp, 1)); got != "" {
		t.Errorf("it dealt twice: %s", got)
	}
	if got := found(t, tab); got != "c to 1" {
		t.Errorf("what was found later went %s", got)
	}
	tab.Finish("a", page{"a", 9}, position(t, page{"a", 9}))
	tab.Finish("a", page{"a", 7}, nil) // told twice by a reader that was restored
	if got, want := tab.State(), (Counts{Discovered: true, Done: true, Unfinished: 2, Last: true}); got != want {
		t.Errorf("counts are %+v, want %+v", got, want)
	}
	row := tab.Snapshot()
	err := tab.Merge(&row, []store.Split{
		{ID: "b", Position: position(t, page{"b", 3}), Started: true, Watermark: 30},
		{ID: "c", Position: position(t, page{"c", 4}), Started: true, Finished: true},
	})
	if err != nil {
		t.Fatal(err)
	}

	again := New[page](&book{})
	if err := again.Restore(row); err != nil {
		t.Fatal(err)
	}
	if got := again.Finished(); !slices.Equal(got, []any{page{"a", 9}, page{"c", 4}}) {
		t.Errorf("finished are %v", got)
	}
	as := again.Event(source.ReaderUp, 5)
	if want := (Assignment{5, page{"b", 3}, 30}); len(as) != 1 || as[0] != want {
		t.Errorf("after the restore it dealt %+v, want %+v", as, want)
	}
}

// TestMisplaced has acks that don't agree with the table: a split must be in exactly one place.
func TestMisplaced(t *testing.T) {
	at := position(t, page{"a", 1})
	for want, acked := range map[string][]store.Split{
		`"a" is with nobody`:               nil,
		`"a" was acked by two readers`:     {{ID: "a", Position: at}, {ID: "a", Position: at}},
		`"x", which the coordinator doesn`: {{ID: "a", Position: at}, {ID: "x", Position: at}},
		`"b" is both with a reader and`:    {{ID: "a", Position: at}, {ID: "b", Position: at}},
	} {
		tab := New[page](&book{finds: [][]page{{{Name: "a"}}, {{Name: "b"}}}})
		found(t, tab)
		tab.Event(source.ReaderUp, 0)
		tab.load = map[int]int{} // the reader is gone; what follows is with nobody
		found(t, tab)
		row := tab.Snapshot()
		if err := tab.Merge(&row, acked); fault.CodeOf(err) != fault.Misplaced.ID || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestErrors passes on what the enumerator says, and refuses positions that aren't any.
func TestErrors(t *testing.T) {
	down := errors.New("the list can't be read")
	if _, err := New[page](&book{err: down}).Discover(t.Context()); !errors.Is(err, down) {
		t.Errorf("got %v", err)
	}
	err := New[page](&book{}).Restore(store.Source{Splits: []store.Split{{ID: "a", Position: []byte{0xff}}}})
	if fault.CodeOf(err) != fault.BadPosition.ID {
		t.Errorf("got %v", err)
	}
}
