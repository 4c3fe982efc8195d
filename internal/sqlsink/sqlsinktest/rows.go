package sqlsinktest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/sinktest"
)

// Contract runs sinktest with and without keys, each by some ways to the server: what their subtests' names end with, and URLs.
func (k Kit) Contract(t *testing.T, s Server, ways map[string]string) {
	for way, url := range ways {
		for name, o := range map[string]Settings{
			"upsert": k.upserts(url, NewTable(t, s, "")), "append": k.appends(url, NewTable(t, s, "id int8 not null, name text not null")),
		} {
			t.Run(name+way, func(t *testing.T) {
				sinktest.Run(t, sinktest.Case[Point]{
					Sink:  k.Sink(o),
					Make:  func(i int) Point { return Point{i, fmt.Sprint("record ", i)} },
					Read:  func() ([]Point, error) { return Read[Point](s, o.Table) },
					Block: func() func() { return k.hold(t, s, fmt.Sprintf(k.Lock, o.Table)).Release },
				})
			})
		}
	}
}

// BadRows makes some rows of a batch of 500 bad.
type BadRows struct {
	Name, Columns string
	Keys          []string
	Change        func(rs []Point)
	Bad           []int
	Says          string
}

// FindsBadRows checks that the bad rows of a batch are found, whatever refuses them, and the others are written.
func (k Kit) FindsBadRows(t *testing.T, more ...BadRows) {
	s := k.Share(t)
	fifth := func(rs []Point) {
		for i := 0; i < len(rs); i += 100 {
			rs[i].Name = "refused"
		}
	}
	every100, id := []int{0, 100, 200, 300, 400}, []string{"id"}
	for _, c := range append(more, []BadRows{
		{"check", "id int8 primary key, name text check (name <> 'refused')", id, fifth, every100, k.Says["check"]},
		{"check, appended", "id int8 primary key, name text check (name <> 'refused')", nil, fifth, every100, k.Says["check"]},
		{"unique, appended", "id int8 primary key, name text", nil, func(rs []Point) { rs[7].ID = 3 }, []int{7}, k.Says["unique"]},
		{"length", "id int8 primary key, name varchar(10)", id, func(rs []Point) { rs[99].Name = "longer than that" }, []int{99}, k.Says["length"]},
		{"own error", "", id, func(rs []Point) { rs[1].Name = "never" }, []int{1}, "refused by Row"},
		{"no key", "id int8 unique, name text", id, func(rs []Point) { rs[2].Name = "keyless" }, []int{2}, "column id: it may not be NULL"},
		{"all", "id int8 primary key check (id < 0), name text", id, func([]Point) {}, slices.Collect(Seq(0, 500)), k.Says["check"]},
	}...) {
		t.Run(c.Name, func(t *testing.T) { k.findsBadRows(t, s, c) })
	}
}

func (k Kit) findsBadRows(t *testing.T, s Server, c BadRows) {
	o := k.upserts(k.URL(s, ""), NewTable(t, s, c.Columns))
	o.Keys, o.Delete = c.Keys, nil
	o.Row = func(p Point) ([]any, error) {
		switch p.Name {
		case "never":
			return nil, errors.New("refused by Row")
		case "keyless":
			return []any{nil, p.Name}, nil
		}
		return p.Row()
	}
	w, _ := k.open(t, o)
	batch := Numbered[Point](500)
	c.Change(batch)
	Write(t, w, batch...)
	bad := map[Point]bool{}
	for _, r := range Flush(t, w) {
		bad[r.Value.(Point)] = true
		Fails(t, fault.SinkRejected, c.Says, r.Err)
	}
	var fine []Point
	for i, p := range batch {
		if bad[p] != slices.Contains(c.Bad, i) {
			t.Errorf("record %d is refused: %v, want %v", i, bad[p], !bad[p])
		}
		if !slices.Contains(c.Bad, i) {
			fine = append(fine, p)
		}
	}
	slices.SortFunc(fine, func(a, b Point) int { return a.ID - b.ID })
	WantRows(t, s, o.Table, fine...)
}

// LastOfAKeyWins checks that of the rows of one key the last one counts, in a batch as well as over several.
func (k Kit) LastOfAKeyWins(t *testing.T) {
	s := k.Share(t)
	o := k.fresh(t, s)
	w, n := k.open(t, o)
	Write(t, w, Point{1, "a"}, Point{2, "b"}, Point{1, "c"}, Point{3, "gone"}, Point{1, "d"}, Point{4, "e"}, Point{4, "gone"}, Point{5, "gone"}, Point{5, "f"})
	Flush(t, w)
	WantRows(t, s, o.Table, Point{1, "d"}, Point{2, "b"}, Point{5, "f"})
	if n.Of("superseded") != 4 || n.Of("deleted") != 2 || n.Of("sent") != 9 || n.Of("connections") != 1 {
		t.Errorf("counted %v", n)
	}
	Write(t, w, Point{2, "gone"}, Point{1, "g"})
	Flush(t, w)
	WantRows(t, s, o.Table, Point{1, "g"}, Point{5, "f"})

	many := k.fresh(t, s)
	many.Batching.Key, many.Batching.MaxBatch = func(p Point) string { return fmt.Sprint(p.ID) }, 7
	w, n = k.open(t, many)
	want := make([]Point, 20)
	for i := range 2000 {
		want[i%20] = Point{i % 20, fmt.Sprint("value ", i)}
		Write(t, w, want[i%20])
	}
	Flush(t, w)
	WantRows(t, s, many.Table, want...)
	if n.Retries() > 0 {
		t.Errorf("%d records were sent again", n.Retries())
	}
}

// Settings checks what is said about settings.
func (k Kit) Settings(t *testing.T) {
	with, without := k.Sink(k.upserts(k.Nowhere, "t")), k.Sink(k.appends(k.Nowhere, "t"))
	if err := errors.Join(with.Validate(), without.Validate()); err != nil {
		t.Error(err)
	}
	for says, change := range map[string]func(o *Settings){
		"Row is missing":                   func(o *Settings) { o.Row = nil },
		`Table is ""`:                      func(o *Settings) { o.Table = "" },
		`key "x" isn't one of Columns`:     func(o *Settings) { o.Keys = []string{"x"} },
		"Delete is set, and Keys isn't":    func(o *Settings) { o.Keys = nil },
		"Batching.Send is set":             func(o *Settings) { o.Batching.Send = func(context.Context, []Point) error { return nil } },
		k.BadURL[1]:                        func(o *Settings) { o.URL = k.BadURL[0] },
		"only one of Encode and Decode is": func(o *Settings) { o.Batching.Encode = func(b []byte, _ Point) ([]byte, error) { return b, nil } },
	} {
		o := k.upserts(k.Nowhere, "t")
		change(&o)
		s := k.Sink(o)
		_, err := s.Writer(t.Context(), task(nil))
		Fails(t, fault.BadPipeline, says, s.Validate(), err, s.Preflight(t.Context()))
	}
	if p, why, fix := without.Promise(); p != sink.AtLeastOnce || why == "" || !strings.Contains(fix, "Keys") || without.Idempotent() {
		t.Errorf("without keys: %s, %s, %s", p, why, fix)
	}
	if p, _, _ := with.Promise(); p != sink.Repeatable || !with.Idempotent() {
		t.Errorf("with keys: %s", p)
	}
}

// Preflight checks what Preflight says of tables and users, and that it doesn't speak of what only two-phase sinks need. More are
// tables of the server and what is said of them.
func (k Kit) Preflight(t *testing.T, s Server, never string, more map[string]string) {
	if err := s.Exec(t.Context(), "create table fine (id int8 primary key, name text); create table keyless (id int8, name text); "+
		"create user reader; create user writer; grant select on fine to reader; grant select, insert, update on fine to writer"); err != nil {
		t.Fatal(err)
	}
	cases := []struct{ name, table, user, says string }{
		{"no table", "nothing", "", "create the table"},
		{"no unique index", "keyless", "", "make a unique index"},
		{"no right", "fine", "reader", "grant the user"},
		{"no right to delete", "fine", "writer", "deletes from table"},
	}
	for table, says := range more {
		cases = append(cases, struct{ name, table, user, says string }{table, table, "", says})
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := k.Sink(k.upserts(k.URL(s, c.user), c.table)).Preflight(t.Context())
			Fails(t, fault.Preflight, c.says, err)
			if strings.Contains(fmt.Sprint(err), never) {
				t.Errorf("%v speaks of %s", err, never)
			}
		})
	}
	o := k.upserts(k.URL(s, "writer"), "fine")
	o.Delete = nil
	if err := errors.Join(k.Sink(o).Preflight(t.Context()), k.Sink(k.appends(k.URL(s, ""), "keyless")).Preflight(t.Context())); err != nil {
		t.Error(err)
	}
}
