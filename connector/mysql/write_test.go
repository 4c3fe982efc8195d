package mysql

import (
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
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
	m := testsvc.MariaDB(t)
	parents := newTable(t, m, "id bigint primary key")
	err := m.Exec(t.Context(), "insert into "+parents+" select seq from seq_0_to_499 where seq not in (3, 77, 78)")
	trigger := newTable(t, m, "id bigint, name text")
	if err := errors.Join(err, m.Exec(t.Context(), "create trigger "+trigger+"_no before insert on "+trigger+
		" for each row if new.id = 250 then signal sqlstate '45000' set message_text = 'never 250'; end if")); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name, columns string
		keys          []string
		batch         func(rs []point)
		bad           []int
		says          string
	}{
		{"unique", "", nil, func(rs []point) { rs[5].ID, rs[400].ID = 4, 4 }, []int{5, 400}, "Duplicate entry '4'"},
		{"foreign key", "id bigint, name text, foreign key (id) references " + parents + " (id)", nil, func([]point) {}, []int{3, 77, 78}, "1452"},
		{"check", "id bigint check (id <> 17), name text", nil, func([]point) {}, []int{17}, "4025"},
		{"length", "id bigint, name varchar(9)", nil, func(rs []point) { rs[0].Name = "much too long" }, slices.Collect(seq(100, 500, 0)), "1406"},
		{"range", "id tinyint, name text", nil, func([]point) {}, slices.Collect(seq(128, 500)), "1264"},
		{"no UTF-8", "", nil, func(rs []point) { rs[499].Name = "a\xffb" }, []int{499}, "1366"},
		{"null", "", nil, func(rs []point) { rs[7].Name = "null" }, []int{7}, "1048"},
		{"trigger", trigger, nil, func([]point) {}, []int{250}, "never 250"},
		{"own error", "", nil, func(rs []point) { rs[1].Name = "refuse" }, []int{1}, "refused by Row"},
		{"all", "id bigint check (id < 0), name text", nil, func([]point) {}, slices.Collect(seq(0, 500)), "4025"},
		{"check in an upsert", "id bigint primary key check (id not in (0, 17, 499)), name text", []string{"id"}, func([]point) {}, []int{0, 17, 499}, "4025"},
		{"too long for a packet", "", nil, func(rs []point) { rs[3].Name = strings.Repeat("x", 17<<20) }, []int{3}, "max_allowed_packet"},
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			table := c.columns
			if table != trigger {
				table = newTable(t, m, c.columns)
			}
			s := points(m, table)
			s.Keys = c.keys
			s.Row = func(p point) ([]any, error) {
				if p.Name == "refuse" {
					return nil, errors.New("refused by Row")
				}
				if p.Name == "null" {
					return []any{p.ID, nil}, nil
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
			wantRows(t, m, table, batch...)
		})
	}
}

func TestKeysReplaceRows(t *testing.T) {
	m := testsvc.MariaDB(t)
	table := newTable(t, m, "")
	s := points(m, table)
	s.Keys = []string{"id"}
	w, c := open(t, s)
	h1 := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, point{1, "a"}, point{2, "b"}, point{1, "c"})
	if err := c.Commit(t.Context(), []sink.Handle{h1}); err != nil {
		t.Fatal(err)
	}
	wantRows(t, m, table, point{1, "c"}, point{2, "b"})
	h2 := txntest.Prepare(t, w, txntest.Slot(t, 2), 2, point{2, "d"}, point{3, "e"})
	if err := c.Commit(t.Context(), []sink.Handle{h2}); err != nil {
		t.Fatal(err)
	}
	wantRows(t, m, table, point{1, "c"}, point{2, "d"}, point{3, "e"})
}

// A table of keys alone takes each once.
func TestOnlyKeys(t *testing.T) {
	m := testsvc.MariaDB(t)
	table := newTable(t, m, "id bigint, name varchar(9), primary key (name, id)")
	s := points(m, table)
	s.Keys = []string{"id", "name"}
	if err := s.Preflight(t.Context()); err != nil {
		t.Fatal(err)
	}
	w, c := open(t, s)
	for i := range 2 {
		h := txntest.Prepare(t, w, txntest.Slot(t, i), 1, point{1, "a"}, point{2, "b"}, point{1, "a"})
		if err := c.Commit(t.Context(), []sink.Handle{h}); err != nil {
			t.Fatal(err)
		}
	}
	wantRows(t, m, table, point{1, "a"}, point{2, "b"})
}

// anything is a row of many types.
type anything []any

// own is a type that knows its own form.
type own struct{ n int }

func (o own) Value() (driver.Value, error) { return int64(o.n), nil }

func TestTypes(t *testing.T) {
	m := testsvc.MariaDB(t)
	err := m.Exec(t.Context(), "create database if not exists `Odd`; create table `Odd`.`Na``me's` (n int auto_increment primary key, i bigint, u bigint unsigned, "+
		"num decimal(10,2), t text, b blob, j json, ts timestamp(6) null, dt datetime, d date, f double, r float, `a b` bool, e enum('sad','happy'), o int)")
	if err != nil {
		t.Fatal(err)
	}
	s := TxSink[anything]{
		DSN: m.DSN, Table: "Odd.Na`me's", Columns: []string{"i", "u", "num", "t", "b", "j", "ts", "dt", "d", "f", "r", "a b", "e", "o"},
		Row: func(a anything) ([]any, error) { return a, nil },
	}
	if err := s.Preflight(t.Context()); err != nil {
		t.Fatal(err)
	}
	w, c := open(t, s)
	at := time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.FixedZone("", 3600))
	nothing := make(anything, 14)
	h := txntest.Prepare(
		t, w, txntest.Slot(t, 1), 1,
		anything{1, uint64(math.MaxUint64), "12.50", "x\ty'\\\"\x00\n\x1a%", []byte("\x00\xff'\\"), json.RawMessage(`{"k": 1}`), at, at, at, 1.1, float32(1.5), true, "happy", own{7}},
		nothing,
		anything{"42", int8(3), 1.25, "ä€😀", []byte{}, `{"k": "a\"b"}`, "2026-01-02 03:04:05", "2026-01-02 03:04:05", "2026-01-02", math.MaxFloat64, 2, false, 1, new(5)},
	)
	if err := c.Commit(t.Context(), []sink.Handle{h}); err != nil {
		t.Fatal(err)
	}
	got, err := m.Query(t.Context(), "select n, i, u, num, hex(t), hex(b), j, cast(ts as char), cast(dt as char), cast(d as char), f, r, `a b`, e, o from `Odd`.`Na``me's` order by n")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"1\t1\t18446744073709551615\t12.50\t" + "780979275C22000A1A25" + "\t" + "00FF275C" + "\t" + `{"k": 1}` +
			"\t2026-01-02 02:04:05.678901\t2026-01-02 02:04:05\t2026-01-02\t1.1\t1.5\t1\thappy\t7",
		"2" + strings.Repeat("\tNULL", 14),
		"3\t42\t3\t1.25\t" + "C3A4E282ACF09F9880" + "\t\t" + `{"k": "a\"b"}` + "\t2026-01-02 03:04:05.000000\t2026-01-02 03:04:05\t2026-01-02\t1.7976931348623157e+308\t2\t0\tsad\t5",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if err := w.Begin(t.Context(), txntest.Slot(t, 2)); err != nil {
		t.Fatal(err)
	}
	odd := func(i int, v any) anything {
		a := slices.Clone(nothing)
		a[i] = v
		return a
	}
	bad, errs := rejects(t, w, []anything{{1}, odd(0, "no number"), odd(9, math.NaN()), odd(3, make(chan int)), odd(7, "2026-13-01"), odd(5, "{")})
	for i, says := range []string{"1 values for 14 columns", "Incorrect integer value", "column f: the server has no NaN", "column t", "Incorrect datetime", "4025"} {
		if !slices.Contains(bad, i) || !strings.Contains(fmt.Sprint(errs[i]), says) {
			t.Errorf("record %d: %v, want a rejection with %q", i, errs[i], says)
		}
	}
}

// A batch larger than a packet of the server goes in several statements.
func TestSmallPackets(t *testing.T) {
	m := testsvc.NewMariaDB(t, testsvc.MariaDBOptions{Args: []string{"--max-allowed-packet=16384"}})
	table := newTable(t, m, "id bigint primary key, name varchar(100) not null")
	w, c := open(t, points(m, table))
	batch := numbered(3000)
	batch[10].Name, batch[20].Name = strings.Repeat("x", 20_000), strings.Repeat("y", 101) // one for the packet, one for the column
	if err := w.Begin(t.Context(), txntest.Slot(t, 1)); err != nil {
		t.Fatal(err)
	}
	if bad, errs := rejects(t, w, batch); !slices.Equal(bad, []int{10, 20}) {
		t.Errorf("rejected %v: %v", bad, errs)
	}
	h, err := w.Prepare(t.Context(), 1)
	if err := errors.Join(err, c.Commit(t.Context(), []sink.Handle{h})); err != nil {
		t.Fatal(err)
	}
	wantRows(t, m, table, slices.Delete(slices.Delete(batch, 20, 21), 10, 11)...)
}

func TestSlotsOfOtherSessionsAreRefused(t *testing.T) {
	m := testsvc.MariaDB(t)
	s := points(m, newTable(t, m, ""))
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
	m := testsvc.MariaDB(t)
	table := newTable(t, m, "")
	s := points(m, table)
	s.LockTimeout = 50 * time.Millisecond // a second, for the server
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
	m := testsvc.MariaDB(t)
	w, c := open(t, points(m, newTable(t, m, "")))
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
