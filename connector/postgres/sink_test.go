package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
	"github.com/weirline/weirline/sink/sinktest"
)

// quick makes a test's repetitions come soon.
var quick = async.Retry{Base: 5 * time.Millisecond, Max: 50 * time.Millisecond}

// upserts is a plain sink of points; those with the name "gone" are removed.
func upserts(url, table string) Sink[point] {
	return Sink[point]{
		URL: url, Table: table, Columns: []string{"id", "name"}, Keys: []string{"id"}, Row: point.row,
		Delete:   func(p point) bool { return p.Name == "gone" },
		Batching: async.Sink[point]{MaxBuffered: 500, Retry: quick},
	}
}

func appends(url, table string) Sink[point] {
	s := upserts(url, table)
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
func hold(t *testing.T, pg *testsvc.PostgresServer, sql string) (release func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pg.URL)
	if err == nil {
		_, err = conn.Exec(t.Context(), "begin; "+sql)
	}
	if err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

func TestSinkContract(t *testing.T) {
	pg := testsvc.Postgres(t)
	pooler := testsvc.NewPgBouncer(t, pg, 4)
	keyless := table(t, pg, "id int8 not null, name text not null")
	for name, s := range map[string]Sink[point]{
		"upsert": upserts(pg.URL, table(t, pg, "")), "append": appends(pg.URL, keyless),
		"upsert behind a pooler": upserts(pooler, table(t, pg, "")), "append behind a pooler": appends(pooler, table(t, pg, "id int8, name text")),
	} {
		t.Run(name, func(t *testing.T) {
			sinktest.Run(t, sinktest.Case[point]{
				Sink: s,
				Make: func(i int) point { return point{i, fmt.Sprint("record ", i)} },
				Read: func() ([]point, error) { return read(pg, s.Table) },
				Block: func() func() {
					return hold(t, pg, "lock table "+s.Table+" in exclusive mode")
				},
			})
		})
	}
}

// The bad rows of a batch are found, whatever refuses them, and the others are written.
func TestSinkFindsBadRows(t *testing.T) {
	pg := testsvc.Postgres(t)
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
		{"check", "id int8 primary key, name text check (name <> 'refused')", []string{"id"}, fifth, every100, "23514"},
		{"check, appended", "id int8 primary key, name text check (name <> 'refused')", nil, fifth, every100, "23514"},
		{"unique", "id int8 primary key, name text unique", []string{"id"}, func(rs []point) { rs[7].Name = rs[3].Name }, []int{7}, "already exists"},
		{"unique, appended", "id int8 primary key, name text", nil, func(rs []point) { rs[7].ID = 3 }, []int{7}, "Key (id)=(3) already exists"},
		{"length", "id int8 primary key, name varchar(10)", []string{"id"}, func(rs []point) { rs[99].Name = "longer than that" }, []int{99}, "22001"},
		{"zero byte", "", []string{"id"}, func(rs []point) { rs[499].Name = "a\x00b" }, []int{499}, "22021"},
		{"own error", "", []string{"id"}, func(rs []point) { rs[1].Name = "never" }, []int{1}, "refused by Row"},
		{"no key", "id int8 unique, name text", []string{"id"}, func(rs []point) { rs[2].Name = "keyless" }, []int{2}, "column id: it may not be NULL"},
		{"all", "id int8 primary key check (id < 0), name text", []string{"id"}, func([]point) {}, slices.Collect(seq(0, 500)), "23514"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := upserts(pg.URL, table(t, pg, c.columns))
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
			wantRows(t, pg, s.Table, fine...)
		})
	}
}

// Of the rows of one key the last one counts, in a batch as well as over several.
func TestSinkLastOfAKeyWins(t *testing.T) {
	pg := testsvc.Postgres(t)
	s := upserts(pg.URL, table(t, pg, ""))
	w, n := openPlain(t, s)
	write(t, w, point{1, "a"}, point{2, "b"}, point{1, "c"}, point{3, "gone"}, point{1, "d"}, point{4, "e"}, point{4, "gone"}, point{5, "gone"}, point{5, "f"})
	flush(t, w)
	wantRows(t, pg, s.Table, point{1, "d"}, point{2, "b"}, point{5, "f"})
	if n.of("superseded") != 4 || n.of("deleted") != 2 || n.of("sent") != 9 || n.of("connections") != 1 {
		t.Errorf("counted %v", n.m)
	}
	write(t, w, point{2, "gone"}, point{1, "g"})
	flush(t, w)
	wantRows(t, pg, s.Table, point{1, "g"}, point{5, "f"})

	many := upserts(pg.URL, table(t, pg, ""))
	many.Batching.Key, many.Batching.MaxBatch = func(p point) string { return fmt.Sprint(p.ID) }, 7
	w, n = openPlain(t, many)
	want := make([]point, 20)
	for i := range 2000 {
		want[i%20] = point{i % 20, fmt.Sprint("value ", i)}
		write(t, w, want[i%20])
	}
	flush(t, w)
	wantRows(t, pg, many.Table, want...)
	if n.retries() > 0 {
		t.Errorf("%d records were sent again", n.retries())
	}
}

// A row with several keys, only keys, or none but defaults beside them.
func TestSinkKeys(t *testing.T) {
	pg := testsvc.Postgres(t)
	s := Sink[point]{
		URL: pg.URL, Table: table(t, pg, "name text, id int8, n serial, primary key (id, name)"), Columns: []string{"name", "id"}, Keys: []string{"id", "name"},
		Row:    func(p point) ([]any, error) { return []any{strings.TrimPrefix(p.Name, "-"), p.ID}, nil },
		Delete: func(p point) bool { return strings.HasPrefix(p.Name, "-") },
	}
	if err := s.Preflight(t.Context()); err != nil {
		t.Fatal(err)
	}
	w, _ := openPlain(t, s)
	write(t, w, point{1, "a"}, point{1, "b"}, point{2, "a"}, point{1, "a"}, point{2, "-a"}, point{3, "-a"})
	flush(t, w)
	write(t, w, point{1, "-b"}, point{1, "a"}, point{2, "b"})
	flush(t, w)
	wantRows(t, pg, s.Table, point{1, "a"}, point{2, "b"})
}

func TestSinkTypes(t *testing.T) {
	pg := testsvc.NewPostgres(t, testsvc.PostgresOptions{})
	const all = "i int, s small, num numeric, t text, c char(3), b bytea, j jsonb, u uuid, ts timestamptz, a text[], m mood, ms mood[], d date, f float8, \"a b\" bool, p pair"
	if err := pg.Exec(t.Context(), `create type mood as enum ('sad', 'happy'); create domain small as int check (value < 10); `+
		`create type pair as (x int, y text); create schema "Odd"; create table "Odd"."Name's" (`+all+`, n serial, primary key (i))`); err != nil {
		t.Fatal(err)
	}
	for name, url := range map[string]string{"direct": pg.URL, "pooled": testsvc.NewPgBouncer(t, pg, 2)} {
		t.Run(name, func(t *testing.T) {
			s := Sink[anything]{
				URL: url, Table: "Odd.Name's", Keys: []string{"i"},
				Columns: []string{"i", "s", "num", "t", "c", "b", "j", "u", "ts", "a", "m", "ms", "d", "f", "a b", "p"},
				Row:     func(a anything) ([]any, error) { return a, nil },
				Batching: async.Sink[anything]{
					Encode: func(dst []byte, _ anything) ([]byte, error) { return dst, nil }, Decode: func([]byte) (anything, error) { return nil, nil },
				},
			}
			if err := s.Preflight(t.Context()); err != nil {
				t.Fatal(err)
			}
			w, _ := openPlain(t, s)
			at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			write(t, w,
				anything{
					1, int64(9), "12.50", "x\ty", "abc",
					[]byte{0, 1},
					map[string]int{"k": 1},
					"b5e6a0f0-0000-4000-8000-000000000001", at,
					[]string{"a", "b,c"},
					"happy",
					[]string{"sad"},
					at, 1.5, true, "(1,one)",
				},
				append(anything{2}, make([]any, 15)...),
				anything{
					"42", "3", 1.25, "", "d",
					[]byte{},
					`{"k": 2}`,
					[16]byte{15: 2},
					"2026-01-02 03:04:05Z",
					[]string{},
					"sad", nil, "2026-01-02",
					float32(2), false, nil,
				})
			if bad := flush(t, w); len(bad) > 0 {
				t.Fatal(bad[0].Err)
			}
			got, err := pg.Query(t.Context(), `set time zone 'UTC'; select i, s, num, t, c, b, j, u, ts, a, m, ms, d, f, "a b", p from "Odd"."Name's" order by i`)
			if err != nil {
				t.Fatal(err)
			}
			want := []string{
				"1\t9\t12.50\tx\ty\tabc\t\\x0001\t{\"k\": 1}\tb5e6a0f0-0000-4000-8000-000000000001\t2026-01-02 03:04:05+00\t{a,\"b,c\"}\thappy\t{sad}\t2026-01-02\t1.5\tt\t(1,one)",
				"2" + strings.Repeat("\t", 15),
				"42\t3\t1.25\t\td  \t\\x\t{\"k\": 2}\t00000000-0000-0000-0000-000000000002\t2026-01-02 03:04:05+00\t{}\tsad\t\t2026-01-02\t2\tf\t",
			}
			if !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
			write(t, w, anything{1}, append(anything{"no number"}, make([]any, 15)...))
			if bad := flush(t, w); len(bad) != 2 || !strings.Contains(bad[0].Err.Error(), "1 values for 16 columns") || !strings.Contains(bad[1].Err.Error(), "column i") {
				t.Errorf("refused %v", bad)
			}
		})
	}
}

func TestSinkSettings(t *testing.T) {
	if err := upserts("", "t").Validate(); err != nil {
		t.Error(err)
	}
	cases := map[string]func(s *Sink[point]){
		"Row is missing":                   func(s *Sink[point]) { s.Row = nil },
		`Table is ""`:                      func(s *Sink[point]) { s.Table = "" },
		`key "x" isn't one of Columns`:     func(s *Sink[point]) { s.Keys = []string{"x"} },
		"Delete is set, and Keys isn't":    func(s *Sink[point]) { s.Keys = nil },
		"Batching.Send is set":             func(s *Sink[point]) { s.Batching.Send = func(context.Context, []point) error { return nil } },
		"URL":                              func(s *Sink[point]) { s.URL = "postgres://u:secret@h:port/" },
		"only one of Encode and Decode is": func(s *Sink[point]) { s.Batching.Encode = func(b []byte, _ point) ([]byte, error) { return b, nil } },
	}
	for says, change := range cases {
		s := upserts("", "t")
		change(&s)
		_, err := s.Writer(t.Context(), task())
		fails(t, fault.BadPipeline, says, s.Validate(), err, s.Preflight(t.Context()))
	}
	if p, why, fix := appends("", "t").Promise(); p != sink.AtLeastOnce || why == "" || !strings.Contains(fix, "Keys") {
		t.Errorf("without keys: %s, %s, %s", p, why, fix)
	}
	if p, _, _ := upserts("", "t").Promise(); p != sink.Repeatable || !upserts("", "t").Idempotent() || appends("", "t").Idempotent() {
		t.Errorf("with keys: %s", p)
	}
}

func TestSinkPreflight(t *testing.T) {
	pg := testsvc.NewPostgres(t, testsvc.PostgresOptions{Prepared: -1})
	if err := pg.Exec(t.Context(), `create role reader login; create role writer login; create table keyless (id int8, name text); `+
		`create unlogged table unlogged (id int8 primary key, name text); create table late (id int8 unique deferrable, name text); `+
		`create table fine (id int8 primary key, name text); grant select, insert, update on fine to writer`); err != nil {
		t.Fatal(err)
	}
	as := func(user string) string { return strings.Replace(pg.URL, "test@", user+"@", 1) }
	for _, c := range []struct {
		name, says string
		change     func(s *Sink[point])
	}{
		{"no table", "create the table", func(s *Sink[point]) { s.Table = "nothing" }},
		{"no unique index", "make a unique index", func(s *Sink[point]) { s.Table = "keyless" }},
		{"unlogged", "set logged", func(s *Sink[point]) { s.Table = "unlogged" }},
		{"deferrable", "deferrable", func(s *Sink[point]) { s.Table = "late" }},
		{"no right", "grant the user", func(s *Sink[point]) { s.URL = as("reader") }},
		{"no right to delete", "deletes from table", func(s *Sink[point]) { s.URL = as("writer") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := upserts(pg.URL, "fine")
			c.change(&s)
			err := s.Preflight(t.Context())
			fails(t, fault.Preflight, c.says, err)
			if strings.Contains(fmt.Sprint(err), "max_prepared_transactions") {
				t.Errorf("%v speaks of prepared transactions", err)
			}
		})
	}
	s := upserts(as("writer"), "fine")
	s.Delete = nil
	if err := errors.Join(s.Preflight(t.Context()), appends(pg.URL, "keyless").Preflight(t.Context())); err != nil {
		t.Error(err)
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
