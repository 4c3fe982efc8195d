package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
	"github.com/weirline/weirline/sink/sinktest"
)

// quick makes a test's repetitions come soon.
var quick = async.Retry{Base: 5 * time.Millisecond, Max: 50 * time.Millisecond}

// upserts is a plain sink of points; those with the name "gone" are removed.
func upserts(dsn, table string) Sink[point] {
	return Sink[point]{
		DSN: dsn, Table: table, Columns: []string{"id", "name"}, Keys: []string{"id"}, Row: point.row,
		Delete:   func(p point) bool { return p.Name == "gone" },
		Batching: async.Sink[point]{MaxBuffered: 500, Retry: quick},
	}
}

func appends(dsn, table string) Sink[point] {
	s := upserts(dsn, table)
	s.Keys, s.Delete = nil, nil
	return s
}

// numbersOf is a task's metrics, for writers that work in the background.
type numbersOf struct {
	mu sync.Mutex
	m  map[string]int64
}

func (c *numbersOf) Count(name string, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = map[string]int64{}
	}
	c.m[name] += n
}
func (*numbersOf) Gauge(string, float64)   {}
func (*numbersOf) Observe(string, float64) {}

// retries is how many records were sent again, for whichever cause.
func (c *numbersOf) retries() (n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, of := range c.m {
		if strings.HasPrefix(name, "retries") {
			n += of
		}
	}
	return n
}

func (c *numbersOf) of(name string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.m[name]
}

// openPlain makes a writer that ends with the test.
func openPlain[T any](t *testing.T, s Sink[T]) (sink.Writer[T], *numbersOf) {
	t.Helper()
	c := &numbersOf{}
	of := task()
	of.Metrics = c
	w, err := s.Writer(t.Context(), of)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w, c
}

func write[T any](t *testing.T, w sink.Writer[T], batch ...T) {
	t.Helper()
	if err := w.Write(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
}

// flush waits until all is written or refused, and returns what is refused.
func flush[T any](t *testing.T, w sink.Writer[T]) []sink.RejectedRecord {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := w.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	r, ok := sink.As[sink.Rejecter](w)
	if !ok {
		t.Fatal("the writer has no Rejects")
	}
	return r.Rejects()
}

// hold locks something until release is called.
func hold(t *testing.T, m *testsvc.MariaDBServer, statements ...string) (conn *sql.Conn, release func()) {
	t.Helper()
	db, err := sql.Open("mysql", m.DSN)
	if err == nil {
		conn, err = db.Conn(t.Context())
	}
	for _, s := range statements {
		if err == nil {
			_, err = conn.ExecContext(t.Context(), s)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return conn, sync.OnceFunc(func() {
		if err := errors.Join(conn.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
}

func TestSinkContract(t *testing.T) {
	m := testsvc.MariaDB(t)
	for name, s := range map[string]Sink[point]{
		"upsert": upserts(m.DSN, newTable(t, m, "")), "append": appends(m.DSN, newTable(t, m, "id bigint not null, name text not null")),
	} {
		t.Run(name, func(t *testing.T) {
			sinktest.Run(t, sinktest.Case[point]{
				Sink: s,
				Make: func(i int) point { return point{i, fmt.Sprint("record ", i)} },
				Read: func() ([]point, error) { return read(m, s.Table) },
				Block: func() func() {
					_, release := hold(t, m, "lock tables "+s.Table+" read")
					return release
				},
			})
		})
	}
}

// The bad rows of a batch are found, whatever refuses them, and the others are written.
func TestSinkFindsBadRows(t *testing.T) {
	m := testsvc.MariaDB(t)
	fifth := func(rs []point) {
		for i := 0; i < len(rs); i += 100 {
			rs[i].Name = "refused"
		}
	}
	every100 := []int{0, 100, 200, 300, 400}
	cases := []struct {
		name, columns string
		keys          []string
		batch         func(rs []point)
		bad           []int
		says          string
	}{
		{"check", "id bigint primary key, name varchar(99) check (name <> 'refused')", []string{"id"}, fifth, every100, "4025"},
		{"check, appended", "id bigint primary key, name varchar(99) check (name <> 'refused')", nil, fifth, every100, "4025"},
		{"unique, appended", "id bigint primary key, name text", nil, func(rs []point) { rs[7].ID = 3 }, []int{7}, "Duplicate entry '3'"},
		{"length", "id bigint primary key, name varchar(10)", []string{"id"}, func(rs []point) { rs[99].Name = "longer than that" }, []int{99}, "1406"},
		{"own error", "", []string{"id"}, func(rs []point) { rs[1].Name = "never" }, []int{1}, "refused by Row"},
		{"no key", "id bigint unique, name text", []string{"id"}, func(rs []point) { rs[2].Name = "keyless" }, []int{2}, "column id: it may not be NULL"},
		{"all", "id bigint primary key check (id < 0), name text", []string{"id"}, func([]point) {}, slices.Collect(seq(0, 500)), "4025"},
		{"larger than a packet", "id bigint primary key, name longtext", []string{"id"}, func(rs []point) { rs[50].Name = strings.Repeat("x", 17<<20) }, []int{50}, "max_allowed_packet"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := upserts(m.DSN, newTable(t, m, c.columns))
			s.Keys, s.Delete = c.keys, nil
			s.Row = func(p point) ([]any, error) {
				switch p.Name {
				case "never":
					return nil, errors.New("refused by Row")
				case "keyless":
					return []any{nil, p.Name}, nil
				}
				return p.row()
			}
			w, _ := openPlain(t, s)
			batch := numbered(500)
			c.batch(batch)
			write(t, w, batch...)
			bad := map[point]error{}
			for _, r := range flush(t, w) {
				bad[r.Value.(point)] = r.Err
				if !strings.Contains(r.Err.Error(), c.says) || fault.CodeOf(r.Err) != fault.SinkRejected.ID {
					t.Errorf("record %v: got %v, want %s with %q", r.Value, r.Err, fault.SinkRejected.ID, c.says)
				}
			}
			var fine []point
			for i, p := range batch {
				if _, refused := bad[p]; refused != slices.Contains(c.bad, i) {
					t.Errorf("record %d is refused: %v, want %v", i, refused, !refused)
				}
				if !slices.Contains(c.bad, i) {
					fine = append(fine, p)
				}
			}
			slices.SortFunc(fine, func(a, b point) int { return a.ID - b.ID })
			wantRows(t, m, s.Table, fine...)
		})
	}
}

// Of the rows of one key the last one counts, in a batch as well as over several.
func TestSinkLastOfAKeyWins(t *testing.T) {
	m := testsvc.MariaDB(t)
	s := upserts(m.DSN, newTable(t, m, ""))
	w, n := openPlain(t, s)
	write(t, w, point{1, "a"}, point{2, "b"}, point{1, "c"}, point{3, "gone"}, point{1, "d"}, point{4, "e"}, point{4, "gone"}, point{5, "gone"}, point{5, "f"})
	flush(t, w)
	wantRows(t, m, s.Table, point{1, "d"}, point{2, "b"}, point{5, "f"})
	if n.of("superseded") != 4 || n.of("deleted") != 2 || n.of("sent") != 9 || n.of("connections") != 1 {
		t.Errorf("counted %v", n.m)
	}
	write(t, w, point{2, "gone"}, point{1, "g"})
	flush(t, w)
	wantRows(t, m, s.Table, point{1, "g"}, point{5, "f"})

	many := upserts(m.DSN, newTable(t, m, ""))
	many.Batching.Key, many.Batching.MaxBatch = func(p point) string { return fmt.Sprint(p.ID) }, 7
	w, n = openPlain(t, many)
	want := make([]point, 20)
	for i := range 2000 {
		want[i%20] = point{i % 20, fmt.Sprint("value ", i)}
		write(t, w, want[i%20])
	}
	flush(t, w)
	wantRows(t, m, many.Table, want...)
	if n.retries() > 0 {
		t.Errorf("%d records were sent again", n.retries())
	}
}

const nowhere = "root@tcp(127.0.0.1:1)/test"

func TestSinkSettings(t *testing.T) {
	if err := upserts(nowhere, "t").Validate(); err != nil {
		t.Error(err)
	}
	cases := map[string]func(s *Sink[point]){
		"Row is missing":                   func(s *Sink[point]) { s.Row = nil },
		`Table is ""`:                      func(s *Sink[point]) { s.Table = "" },
		`key "x" isn't one of Columns`:     func(s *Sink[point]) { s.Keys = []string{"x"} },
		"Delete is set, and Keys isn't":    func(s *Sink[point]) { s.Keys = nil },
		"Batching.Send is set":             func(s *Sink[point]) { s.Batching.Send = func(context.Context, []point) error { return nil } },
		"names no database":                func(s *Sink[point]) { s.DSN = "root@tcp(h:1)/" },
		"only one of Encode and Decode is": func(s *Sink[point]) { s.Batching.Encode = func(b []byte, _ point) ([]byte, error) { return b, nil } },
	}
	for says, change := range cases {
		s := upserts(nowhere, "t")
		change(&s)
		_, err := s.Writer(t.Context(), task())
		fails(t, fault.BadPipeline, says, s.Validate(), err, s.Preflight(t.Context()))
	}
	if p, why, fix := appends(nowhere, "t").Promise(); p != sink.AtLeastOnce || why == "" || !strings.Contains(fix, "Keys") {
		t.Errorf("without keys: %s, %s, %s", p, why, fix)
	}
	if p, _, _ := upserts(nowhere, "t").Promise(); p != sink.Repeatable || !upserts(nowhere, "t").Idempotent() || appends(nowhere, "t").Idempotent() {
		t.Errorf("with keys: %s", p)
	}
}

// Rows are told apart, and removed, by what the server takes for equal, in the order of the records.
func TestSinkKeys(t *testing.T) {
	m := testsvc.MariaDB(t)
	type record struct {
		A    any
		B    int
		Name string
		Gone bool
	}
	cases := []struct {
		name, columns string
		keys          []string
		records       []record
		want          string
	}{
		{"text", "a varchar(20), b int, name text, primary key (a)", []string{"a"}, []record{
			{"x", 1, "1", false}, {"X", 2, "2", false}, {"y", 3, "3", false}, {"Y", 0, "", true}, {"x", 4, "4", false}, {"Z", 0, "", true}, {"z", 5, "5", false},
		}, "x:4:4 z:5:5"},
		{"numbers in text", "a varchar(20), b int, name text, primary key (a)", []string{"a"}, []record{
			{"5a", 1, "1", false}, {5, 2, "2", false}, {"6a", 3, "3", false}, {6, 0, "", true}, {5, 0, "", true},
		}, "5a:1:1 6a:3:3"},
		{"two columns", "a varchar(20), b int, name text, primary key (b, a)", []string{"a", "b"}, []record{
			{"o'x", 1, "1", false}, {"o'x", 2, "2", false}, {"b", 1, "3", false}, {"o'x", 1, "", true}, {"b", 1, "4", false}, {"b", 3, "", true},
		}, "b:1:4 o'x:2:2"},
		{"only keys", "a int, b int, name text, primary key (a, b)", []string{"a", "b"}, []record{
			{1, 1, "", false}, {1, 2, "", false}, {1, 1, "", false}, {2, 2, "", true}, {1, 2, "", true},
		}, "1:1:"},
		{"decimals", "a decimal(5,2), b int, name text, primary key (a)", []string{"a"}, []record{
			{"1.0", 1, "1", false}, {1, 2, "2", false}, {"2", 3, "3", false}, {2.0, 0, "", true},
		}, "1.00:2:2"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			table := newTable(t, m, c.columns)
			s := Sink[record]{
				DSN: m.DSN, Table: table, Columns: []string{"a", "b", "name"}, Keys: c.keys,
				Row:      func(r record) ([]any, error) { return []any{r.A, r.B, r.Name}, nil },
				Delete:   func(r record) bool { return r.Gone },
				Batching: async.Sink[record]{Encode: func(b []byte, _ record) ([]byte, error) { return b, nil }, Decode: func([]byte) (r record, err error) { return r, nil }},
			}
			if err := s.Preflight(t.Context()); err != nil {
				t.Fatal(err)
			}
			w, _ := openPlain(t, s)
			for range 2 { // the second time rows are there
				write(t, w, c.records...)
				if bad := flush(t, w); len(bad) > 0 {
					t.Fatal(bad[0].Err)
				}
				got, err := m.Query(t.Context(), "select concat(a, ':', b, ':', name) from "+table+" order by a, b")
				if err != nil || strings.ToLower(strings.Join(got, " ")) != c.want {
					t.Errorf("got %q, %v, want %q", got, err, c.want)
				}
			}
		})
	}
}

// A batch that takes several statements is one transaction, whatever packets the server takes.
func TestSinkPackets(t *testing.T) {
	m := testsvc.NewMariaDB(t, testsvc.MariaDBOptions{Args: []string{"--max-allowed-packet=64K"}})
	for name, s := range map[string]Sink[point]{
		"upsert": upserts(m.DSN, newTable(t, m, "id bigint primary key, name text")),
		"append": appends(m.DSN, newTable(t, m, "id bigint, name text check (name <> 'no')")),
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := openPlain(t, s)
			batch := numbered(100)
			for i := range batch {
				batch[i].Name = strings.Repeat("x", 3000)
			}
			if name == "append" {
				batch[98].Name = "no"
			}
			write(t, w, batch...)
			bad := flush(t, w)
			want := len(batch) - len(bad)
			got, err := m.Query(t.Context(), "select count(*), count(distinct id) from "+s.Table)
			if err != nil || got[0] != fmt.Sprintf("%d\t%d", want, want) || (len(bad) > 0) != (name == "append") {
				t.Errorf("rows, different ones: %q, %v, %d refused", got, err, len(bad))
			}
		})
	}
}

func TestSinkPreflight(t *testing.T) {
	m := testsvc.NewMariaDB(t, testsvc.MariaDBOptions{})
	if err := m.Exec(t.Context(), "create table fine (id bigint primary key, name text); create table keyless (id bigint, name text); "+
		"create table other (id bigint primary key, name varchar(9) unique); create table myisam (id bigint primary key, name text) engine=MyISAM; "+
		"create user writer; grant select, insert, update on test.fine to writer; create user reader; grant select on test.* to reader"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, says string
		change     func(s *Sink[point])
	}{
		{"no table", "create the table", func(s *Sink[point]) { s.Table = "nothing" }},
		{"no unique index", "make a unique index", func(s *Sink[point]) { s.Table = "keyless" }},
		{"another unique index", "drop that index", func(s *Sink[point]) { s.Table = "other" }},
		{"engine", "engine = InnoDB", func(s *Sink[point]) { s.Table = "myisam" }},
		{"no right", "grant the user", func(s *Sink[point]) { s.DSN = m.For("reader", "test") }},
		{"no right to delete", "deletes from table", func(s *Sink[point]) { s.DSN = m.For("writer", "test") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := upserts(m.DSN, "fine")
			c.change(&s)
			fails(t, fault.Preflight, c.says, s.Preflight(t.Context()))
		})
	}
	s := upserts(m.For("writer", "test"), "fine")
	s.Delete = nil
	if err := errors.Join(s.Preflight(t.Context()), appends(m.DSN, "keyless").Preflight(t.Context())); err != nil {
		t.Error(err)
	}
	if left, err := m.Query(t.Context(), "show tables like 'weirline%'"); err != nil || len(left) > 0 {
		t.Errorf("it made tables: %q, %v", left, err)
	}
}

// last is what a table of points should hold after so many rounds.
func lastRound(keys, rounds int) []point {
	out := make([]point, keys)
	for k := range out {
		out[k] = point{k, fmt.Sprint("round ", rounds-1)}
	}
	return out
}
