package mysql

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/weirline/weirline/internal/sqlsink/sqlsinktest"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink/async"
)

var kit = sqlsinktest.Kit{
	Start: func(t *testing.T) sqlsinktest.Server { return testsvc.NewMariaDB(t, testsvc.MariaDBOptions{}) },
	Share: func(t *testing.T) sqlsinktest.Server { return testsvc.MariaDB(t) },
	URL: func(s sqlsinktest.Server, user string) string {
		m := s.(*testsvc.MariaDBServer)
		if user == "" {
			return m.DSN
		}
		return m.For(user, "test")
	},
	Sink: func(o sqlsinktest.Settings) sqlsinktest.Sink {
		return Sink[sqlsinktest.Point]{
			DSN: o.URL, Table: o.Table, Columns: o.Columns, Keys: o.Keys, Row: o.Row, Delete: o.Delete, Batching: o.Batching,
		}
	},
	Hold:     begin,
	Lock:     "lock tables %s read",
	Waiting:  "select id from information_schema.processlist where info like 'insert into%'",
	ReadOnly: map[bool]string{true: "set global read_only = 1", false: "set global read_only = 0"},
	Says:     map[string]string{"check": "4025", "unique": "Duplicate entry '3'", "length": "1406"},
	BadURL:   [2]string{"root@tcp(h:1)/", "names no database"},
	Nowhere:  "root@tcp(127.0.0.1:1)/test",
}

func begin(t *testing.T, s sqlsinktest.Server) *sqlsinktest.Session {
	t.Helper()
	db, err := sql.Open("mysql", s.(*testsvc.MariaDBServer).DSN)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.ExecContext(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec("begin")
	return &sqlsinktest.Session{Exec: exec, Release: sync.OnceFunc(func() {
		if err := errors.Join(conn.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})}
}

func TestSinkContract(t *testing.T) {
	m := testsvc.MariaDB(t)
	kit.Contract(t, m, map[string]string{"": m.DSN})
}

func TestSinkFindsBadRows(t *testing.T) {
	kit.FindsBadRows(t, sqlsinktest.BadRows{
		Name: "larger than a packet", Columns: "id bigint primary key, name longtext", Keys: []string{"id"},
		Change: func(rs []sqlsinktest.Point) { rs[50].Name = strings.Repeat("x", 17<<20) }, Bad: []int{50}, Says: "max_allowed_packet",
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

// Writers wait for each other in circles here.
func TestSinkWritersOverlap(t *testing.T) { kit.WritersOverlap(t, testsvc.MariaDB(t)) }

func TestSinkWaits(t *testing.T) {
	kit.Waits(t, testsvc.NewMariaDB(t, testsvc.MariaDBOptions{Args: []string{"--max-connections=10"}}), 10)
}

func TestSinkPreflight(t *testing.T) {
	m := testsvc.NewMariaDB(t, testsvc.MariaDBOptions{})
	if err := m.Exec(t.Context(), "create table other (id bigint primary key, name varchar(9) unique); "+
		"create table myisam (id bigint primary key, name text) engine=MyISAM"); err != nil {
		t.Fatal(err)
	}
	kit.Preflight(t, m, "weirline_tokens", map[string]string{"other": "drop that index", "myisam": "engine = InnoDB"})
	if left, err := m.Query(t.Context(), "show tables like 'weirline%'"); err != nil || len(left) > 0 {
		t.Errorf("it made tables: %q, %v", left, err)
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
			w, _ := sqlsinktest.Open(t, s)
			for range 2 { // the second time rows are there
				sqlsinktest.Write(t, w, c.records...)
				if bad := sqlsinktest.Flush(t, w); len(bad) > 0 {
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
		"upsert": {Table: newTable(t, m, ""), Keys: []string{"id"}},
		"append": {Table: newTable(t, m, "id bigint, name text check (name <> 'no')")},
	} {
		s.DSN, s.Columns, s.Row = m.DSN, []string{"id", "name"}, point.row
		t.Run(name, func(t *testing.T) {
			w, _ := sqlsinktest.Open(t, s)
			batch := numbered(100)
			for i := range batch {
				batch[i].Name = strings.Repeat("x", 3000)
			}
			if name == "append" {
				batch[98].Name = "no"
			}
			sqlsinktest.Write(t, w, batch...)
			bad := sqlsinktest.Flush(t, w)
			want := len(batch) - len(bad)
			got, err := m.Query(t.Context(), "select count(*), count(distinct id) from "+s.Table)
			if err != nil || got[0] != fmt.Sprintf("%d\t%d", want, want) || (len(bad) > 0) != (name == "append") {
				t.Errorf("rows, different ones: %q, %v, %d refused", got, err, len(bad))
			}
		})
	}
}
