package postgres

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirline/weirline/internal/sqlsink/sqlsinktest"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink/async"
)

var kit = sqlsinktest.Kit{
	Start: func(t *testing.T) sqlsinktest.Server { return testsvc.NewPostgres(t, testsvc.PostgresOptions{}) },
	Share: func(t *testing.T) sqlsinktest.Server { return testsvc.Postgres(t) },
	URL: func(s sqlsinktest.Server, user string) string {
		url := s.(*testsvc.PostgresServer).URL
		if user == "" {
			return url
		}
		return strings.Replace(url, "test@", user+"@", 1)
	},
	Sink: func(o sqlsinktest.Settings) sqlsinktest.Sink {
		return Sink[sqlsinktest.Point]{
			URL: o.URL, Table: o.Table, Columns: o.Columns, Keys: o.Keys, Row: o.Row, Delete: o.Delete, Batching: o.Batching,
		}
	},
	Hold:    begin,
	Lock:    "lock table %s in exclusive mode",
	Waiting: "select pid from pg_stat_activity where application_name = 'weirline' and wait_event_type = 'Lock' and wait_event <> 'advisory'",
	ReadOnly: map[bool]string{
		true:  "alter database postgres set default_transaction_read_only = on",
		false: "begin read write; alter database postgres set default_transaction_read_only = off; commit",
	},
	Says:   map[string]string{"check": "23514", "unique": "Key (id)=(3) already exists", "length": "22001"},
	BadURL: [2]string{"postgres://u:secret@h:port/", "URL"},
}

func begin(t *testing.T, s sqlsinktest.Server) *sqlsinktest.Session {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.(*testsvc.PostgresServer).URL)
	if err != nil {
		t.Fatal(err)
	}
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec("set deadlock_timeout = '20s'; begin")
	return &sqlsinktest.Session{Exec: exec, Release: sync.OnceFunc(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})}
}

func TestSinkContract(t *testing.T) {
	pg := testsvc.Postgres(t)
	kit.Contract(t, pg, map[string]string{"": pg.URL, " behind a pooler": testsvc.NewPgBouncer(t, pg, 4)})
}

func TestSinkFindsBadRows(t *testing.T) {
	id := []string{"id"}
	kit.FindsBadRows(t, sqlsinktest.BadRows{
		Name: "unique", Columns: "id int8 primary key, name text unique", Keys: id,
		Change: func(rs []sqlsinktest.Point) { rs[7].Name = rs[3].Name }, Bad: []int{7}, Says: "already exists",
	}, sqlsinktest.BadRows{
		Name: "zero byte", Keys: id, Change: func(rs []sqlsinktest.Point) { rs[499].Name = "a\x00b" }, Bad: []int{499}, Says: "22021",
	})
}

func TestSinkLastOfAKeyWins(t *testing.T) { kit.LastOfAKeyWins(t) }

func TestSinkSettings(t *testing.T) { kit.Settings(t) }

func TestSinkServerDies(t *testing.T) { kit.ServerDies(t) }

func TestSinkBadNetwork(t *testing.T) { kit.BadNetwork(t) }

func TestSinkEndsWhatBroke(t *testing.T) { kit.EndsWhatBroke(t) }

func TestSinkDeadlock(t *testing.T) { kit.Deadlock(t) }

func TestSinkStops(t *testing.T) { kit.Stops(t) }

func TestSinkSnapshotWhileDown(t *testing.T) { kit.SnapshotWhileDown(t) }

// Rows are locked in the order of their keys, so nobody waits in a circle.
func TestSinkWritersOverlap(t *testing.T) {
	pg := testsvc.NewPostgres(t, testsvc.PostgresOptions{Args: []string{"-c", "deadlock_timeout=10ms"}})
	if n := kit.WritersOverlap(t, pg); n > 0 {
		t.Errorf("%d records were sent again", n)
	}
}

func TestSinkWaits(t *testing.T) {
	kit.Waits(t, testsvc.NewPostgres(t, testsvc.PostgresOptions{Args: []string{"-c", "max_connections=6", "-c", "superuser_reserved_connections=0"}}), 6)
}

func TestSinkPreflight(t *testing.T) {
	pg := testsvc.NewPostgres(t, testsvc.PostgresOptions{Prepared: -1})
	if err := pg.Exec(t.Context(), "create unlogged table unlogged (id int8 primary key, name text); "+
		"create table late (id int8 unique deferrable, name text)"); err != nil {
		t.Fatal(err)
	}
	kit.Preflight(t, pg, "max_prepared_transactions", map[string]string{"unlogged": "set logged", "late": "deferrable"})
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
	w, _ := sqlsinktest.Open(t, s)
	sqlsinktest.Write(t, w, point{1, "a"}, point{1, "b"}, point{2, "a"}, point{1, "a"}, point{2, "-a"}, point{3, "-a"})
	sqlsinktest.Flush(t, w)
	sqlsinktest.Write(t, w, point{1, "-b"}, point{1, "a"}, point{2, "b"})
	sqlsinktest.Flush(t, w)
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
			w, _ := sqlsinktest.Open(t, s)
			at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			sqlsinktest.Write(t, w,
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
			if bad := sqlsinktest.Flush(t, w); len(bad) > 0 {
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
			sqlsinktest.Write(t, w, anything{1}, append(anything{"no number"}, make([]any, 15)...))
			if bad := sqlsinktest.Flush(t, w); len(bad) != 2 || !strings.Contains(bad[0].Err.Error(), "1 values for 16 columns") || !strings.Contains(bad[1].Err.Error(), "column i") {
				t.Errorf("refused %v", bad)
			}
		})
	}
}

// TestSinkColumnChanges has a column's type changed under a writer, which learns it.
func TestSinkColumnChanges(t *testing.T) {
	pg := testsvc.Postgres(t)
	s := Sink[point]{
		URL: pg.URL, Table: table(t, pg, "id int4 primary key, name text"), Columns: []string{"id", "name"}, Keys: []string{"id"}, Row: point.row,
	}
	w, _ := sqlsinktest.Open(t, s)
	sqlsinktest.Write(t, w, point{1, "a"})
	sqlsinktest.Flush(t, w)
	if err := pg.Exec(t.Context(), "alter table "+s.Table+" alter id type int8"); err != nil {
		t.Fatal(err)
	}
	sqlsinktest.Write(t, w, point{2, "b"})
	sqlsinktest.Flush(t, w)
	wantRows(t, pg, s.Table, point{1, "a"}, point{2, "b"})
}
