package postgres

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn/txntest"
)

// rejects writes a batch and returns the indices of what was rejected.
func rejects[T any](t *testing.T, w sink.TxWriter[T], batch []T) ([]int, map[int]error) {
	t.Helper()
	err := w.Write(t.Context(), batch)
	if err == nil {
		return nil, nil
	}
	r, ok := errors.AsType[*sink.Rejected](err)
	if !ok {
		t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(r.Errs)), r.Errs
}

// The bad rows of a batch are found, whatever refuses them, and the others stay in.
func TestBadRowsAreFound(t *testing.T) {
	pg := testsvc.Postgres(t)
	parents := table(t, pg, "id int8 primary key")
	if err := pg.Exec(t.Context(), "insert into "+parents+" select generate_series(0, 499) except select unnest('{3,77,78}'::int8[])"); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name, columns string
		keys          []string
		batch         func(rs []point)
		bad           []int
		says          string
	}{
		{"unique", "", nil, func(rs []point) { rs[5].ID, rs[400].ID = 4, 4 }, []int{5, 400}, "Key (id)=(4) already exists"},
		{"deferred unique", "id int8 unique deferrable initially deferred, name text", nil, func(rs []point) { rs[9].ID = 3 }, []int{9}, "23505"},
		{"foreign key, named by no line", "id int8 references " + parents + " deferrable initially deferred, name text", nil, func([]point) {}, []int{3, 77, 78}, "23503"},
		{"check", "id int8 check (id <> 17), name text", nil, func([]point) {}, []int{17}, "23514"},
		{"length", "id int8, name varchar(9)", nil, func(rs []point) { rs[0].Name = "much too long" }, slices.Collect(seq(100, 500, 0)), "22001"},
		{"zero byte", "", nil, func(rs []point) { rs[499].Name = "a\x00b" }, []int{499}, "22021"},
		{"own error", "", nil, func(rs []point) { rs[1].Name = "refuse" }, []int{1}, "refused by Row"},
		{"all", "id int8 check (id < 0), name text", nil, func([]point) {}, slices.Collect(seq(0, 500)), "23514"},
		{"check in an upsert", "id int8 primary key check (id not in (0, 17, 499)), name text", []string{"id"}, func([]point) {}, []int{0, 17, 499}, "23514"},
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			table := table(t, pg, c.columns)
			s := points(pg, table)
			s.Keys = c.keys
			s.Row = func(p point) ([]any, error) {
				if p.Name == "refuse" {
					return nil, errors.New("refused by Row")
				}
				return p.row()
			}
			w, committer := open(t, s)
			if err := w.Begin(t.Context(), txntest.Slot(t, i)); err != nil {
				t.Fatal(err)
			}
			batch := numbered(500)
			c.batch(batch)
			bad, errs := rejects(t, w, batch)
			if !slices.Equal(bad, c.bad) {
				t.Errorf("rejected %v, want %v", bad, c.bad)
			}
			for i, err := range errs {
				if !strings.Contains(err.Error(), c.says) || fault.CodeOf(err) != fault.SinkRejected.ID {
					t.Errorf("record %d: got %v, want %s with %q", i, err, fault.SinkRejected.ID, c.says)
				}
			}
			h, err := w.Prepare(t.Context(), 1)
			if err := errors.Join(err, committer.Commit(t.Context(), []sink.Handle{h})); err != nil {
				t.Fatal(err)
			}
			for _, i := range slices.Backward(bad) {
				batch = slices.Delete(batch, i, i+1)
			}
			wantRows(t, pg, table, batch...)
		})
	}
}

func TestKeysReplaceRows(t *testing.T) {
	pg := testsvc.Postgres(t)
	table := table(t, pg, "")
	s := points(pg, table)
	s.Keys = []string{"id"}
	w, c := open(t, s)
	h1 := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, point{1, "a"}, point{2, "b"}, point{1, "c"})
	if err := c.Commit(t.Context(), []sink.Handle{h1}); err != nil {
		t.Fatal(err)
	}
	wantRows(t, pg, table, point{1, "c"}, point{2, "b"})
	h2 := txntest.Prepare(t, w, txntest.Slot(t, 2), 2, point{2, "d"}, point{3, "e"})
	if err := c.Commit(t.Context(), []sink.Handle{h2}); err != nil {
		t.Fatal(err)
	}
	wantRows(t, pg, table, point{1, "c"}, point{2, "d"}, point{3, "e"})
}

// anything is a row of many types.
type anything []any

func TestTypes(t *testing.T) {
	pg := testsvc.NewPostgres(t, testsvc.PostgresOptions{})
	err := pg.Exec(t.Context(), "create type mood as enum ('sad', 'happy'); create domain small as int check (value < 10); create schema \"Odd\"")
	if err != nil {
		t.Fatal(err)
	}
	if err := pg.Exec(t.Context(), `create table "Odd"."Name's" (n serial, i int, s small, num numeric, t text, b bytea, j jsonb, u uuid, ts timestamptz, `+
		`a text[], m mood, ms mood[], d date, f float8, "a b" bool)`); err != nil {
		t.Fatal(err)
	}
	s := TxSink[anything]{
		URL: pg.URL, Table: "Odd.Name's", Columns: []string{"i", "s", "num", "t", "b", "j", "u", "ts", "a", "m", "ms", "d", "f", "a b"},
		Row: func(a anything) ([]any, error) { return a, nil },
	}
	if err := s.Preflight(t.Context()); err != nil {
		t.Fatal(err)
	}
	w, c := open(t, s)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	h := txntest.Prepare(t, w, txntest.Slot(t, 1), 1,
		anything{
			1, int64(9), "12.50", "x\ty",
			[]byte{0, 1},
			map[string]int{"k": 1},
			"b5e6a0f0-0000-4000-8000-000000000001", at,
			[]string{"a", "b"},
			"happy",
			[]string{"sad"},
			at, 1.5, true,
		},
		anything{nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil},
		anything{"42", "3", 1.25, "", []byte{}, `{"k": 2}`, [16]byte{15: 2}, "2026-01-02 03:04:05Z", []string{}, "sad", nil, "2026-01-02", float32(2), false})
	if err := c.Commit(t.Context(), []sink.Handle{h}); err != nil {
		t.Fatal(err)
	}
	got, err := pg.Query(t.Context(), `set time zone 'UTC'; select format('%s', x) from "Odd"."Name's" x order by n`)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`(1,1,9,12.50,"x	y","\\x0001","{""k"": 1}",b5e6a0f0-0000-4000-8000-000000000001,"2026-01-02 03:04:05+00","{a,b}",happy,{sad},2026-01-02,1.5,t)`,
		`(2,,,,,,,,,,,,,,)`,
		`(3,42,3,1.25,"","\\x","{""k"": 2}",00000000-0000-0000-0000-000000000002,"2026-01-02 03:04:05+00",{},sad,,2026-01-02,2,f)`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
	if err := w.Begin(t.Context(), txntest.Slot(t, 2)); err != nil {
		t.Fatal(err)
	}
	bad, errs := rejects(t, w, []anything{{1}, {"no number", nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil}})
	if !slices.Equal(bad, []int{0, 1}) || !strings.Contains(errs[0].Error(), "1 values for 14 columns") || !strings.Contains(errs[1].Error(), "column i") {
		t.Errorf("rejected %v: %v", bad, errs)
	}
}

func TestSlotsOfOtherSessionsAreRefused(t *testing.T) {
	pg := testsvc.Postgres(t)
	s := points(pg, table(t, pg, ""))
	w, c := open(t, s)
	other, _ := open(t, s)
	if err := other.Begin(t.Context(), txntest.Slot(t, 1)); err != nil {
		t.Fatal(err)
	}
	if err := w.Begin(t.Context(), txntest.Slot(t, 1)); !strings.Contains(fmt.Sprint(err), "stop the other copy") {
		t.Errorf("slot in use: %v", err)
	}
	// What a dead process has left open is ended by recovery, and so can prepare nothing later.
	if err := c.Recover(t.Context(), nil, []sink.Slot{txntest.Slot(t, 1)}); err != nil {
		t.Fatal(err)
	}
	if err := w.Begin(t.Context(), txntest.Slot(t, 1)); err != nil {
		t.Errorf("slot after recovery: %v", err)
	}
	if _, err := other.Prepare(t.Context(), 1); err == nil {
		t.Error("a session that recovery ended can prepare")
	}
}

func TestLocksEndTheTask(t *testing.T) {
	pg := testsvc.Postgres(t)
	table := table(t, pg, "")
	s := points(pg, table)
	s.LockTimeout = 50 * time.Millisecond
	a, c := open(t, s)
	b, _ := open(t, s)
	h := txntest.Prepare(t, a, txntest.Slot(t, 1), 1, point{1, "a"})
	if err := b.Begin(t.Context(), txntest.Slot(t, 2)); err != nil {
		t.Fatal(err)
	}
	err := b.Write(t.Context(), []point{{1, "b"}})
	if err == nil || sink.IsPermanent(err) || !strings.Contains(err.Error(), "key the stream") {
		t.Errorf("row that a prepared transaction holds: %v", err)
	}
	if err := c.Commit(t.Context(), []sink.Handle{h}); err != nil {
		t.Error(err)
	}
}

func TestMisuse(t *testing.T) {
	pg := testsvc.Postgres(t)
	w, c := open(t, points(pg, table(t, pg, "")))
	if _, err := w.Prepare(t.Context(), 1); !errors.Is(err, errNotBegun) {
		t.Errorf("Prepare without Begin: %v", err)
	}
	if err := w.Write(t.Context(), numbered(1)); !errors.Is(err, errNotBegun) {
		t.Errorf("Write without Begin: %v", err)
	}
	if err := w.Begin(t.Context(), txntest.Slot(t, 2)); err != nil {
		t.Fatal(err)
	}
	if err := w.Begin(t.Context(), txntest.Slot(t, 1)); !strings.Contains(fmt.Sprint(err), "still open") {
		t.Errorf("second Begin: %v", err)
	}
	h, err := w.Prepare(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Recover(t.Context(), nil, []sink.Slot{h.Slot}), w.Close()); err != nil {
		t.Fatal(err)
	}
	if err := w.Begin(t.Context(), txntest.Slot(t, 1)); err == nil {
		t.Error("Begin after Close was taken")
	}
}
