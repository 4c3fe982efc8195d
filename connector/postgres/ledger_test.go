package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/sinktest"
	"github.com/weirline/weirline/txn"
	"github.com/weirline/weirline/txn/txntest"
)

// ledgered is a server as it is when installed, without prepared transactions.
func ledgered(t *testing.T) *testsvc.PostgresServer {
	t.Helper()
	return testsvc.NewPostgres(t, testsvc.PostgresOptions{Prepared: -1})
}

func inLedger(pg *testsvc.PostgresServer, table string, keys ...string) TxSink[point] {
	s := points(pg, table)
	s.Mode, s.Keys = Ledger, keys
	return s
}

// ledgerCase is one of a table on a server; url is where the sink connects.
func ledgerCase(pg *testsvc.PostgresServer, url, table string, keys ...string) txntest.Case[point] {
	s := inLedger(pg, table, keys...)
	s.URL = url
	lossy := s
	lossy.Lost = txn.AcceptLoss
	strike := func(ctx context.Context, h sink.Handle) error {
		return pg.Exec(ctx, fmt.Sprintf("delete from weirline.ledger where token = '%s'", h.Token))
	}
	return txntest.Case[point]{
		TxCase: sinktest.TxCase[point]{
			Sink:    s,
			Make:    func(i int) point { return point{i, fmt.Sprint("record ", i)} },
			Visible: func() ([]point, error) { return read(pg, table) },
			Left:    func(s sink.Slot) ([]string, error) { return unapplied(pg, s) },
		},
		Lossy:    lossy,
		RollBack: strike,
		Forget: func(ctx context.Context, h sink.Handle) (sink.Handle, error) {
			n, err := readNative(h)
			n.Ledger.At -= int64(keepTokens.Seconds()) + 60
			var eerr error
			h.Native, eerr = txn.Encode(nativeVersion, n)
			return h, errors.Join(err, eerr, strike(ctx, h))
		},
		MaxSlot: maxSlot,
	}
}

// What one case leaves in a slot is in the next one's way, so each has a server.
func ledgerContract(t *testing.T) {
	for name, keys := range map[string][]string{"append": nil, "upsert": {"id"}} {
		t.Run(name, func(t *testing.T) {
			pg := ledgered(t)
			c := ledgerCase(pg, pg.URL, table(t, pg, ""), keys...)
			c.Kill, c.Restart = pg.Kill, pg.Restart
			txntest.Run(t, c)
		})
	}
	t.Run("pooled", func(t *testing.T) {
		pg := ledgered(t)
		txntest.Run(t, ledgerCase(pg, testsvc.NewPgBouncer(t, pg, 8), table(t, pg, ""), "id"))
	})
}

// What the table's columns and checks refuse is refused while rows are staged; the message is the server's.
func TestStagingFindsBadRows(t *testing.T) {
	pg := ledgered(t)
	cases := []struct {
		name, columns string
		batch         func(rs []point)
		bad           []int
		says          string
	}{
		{"check", "id int8 check (id <> 17), name text", func([]point) {}, []int{17}, "23514"},
		{"domain", "id int8, name short", func(rs []point) { rs[3].Name = "longer than twenty bytes" }, []int{3}, "23514"},
		{"length", "id int8, name varchar(10)", func(rs []point) { rs[70].Name = "much too long" }, []int{70}, "22001"},
		{"type", "id int2, name text", func(rs []point) { rs[4].ID = 40_000 }, []int{4}, "40000"},
		{"zero byte", "id int8, name text", func(rs []point) { rs[99].Name = "a\x00b" }, []int{99}, "22021"},
		{"defaults and generated columns", "id int8, n serial, i int generated always as identity, g int8 generated always as (id * 2) stored, " +
			"at timestamptz not null default now(), name text not null check (name <> 'record 5'), check (id < 99 or at < now())", func([]point) {}, []int{5}, "23514"},
	}
	if err := pg.Exec(t.Context(), "create domain short as text check (length(value) < 20)"); err != nil {
		t.Fatal(err)
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := inLedger(pg, table(t, pg, c.columns))
			if err := s.Preflight(t.Context()); err != nil {
				t.Fatal(err)
			}
			w, committer := open(t, s)
			if err := w.Begin(t.Context(), txntest.Slot(t, i)); err != nil {
				t.Fatal(err)
			}
			batch := numbered(100)
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
				// The check that needs a column with a default isn't tested before the commit.
				if !strings.Contains(c.name, "defaults") || !strings.Contains(err.Error(), `"id": 99`) {
					t.Fatal(err)
				}
				return
			}
			for _, i := range slices.Backward(bad) {
				batch = slices.Delete(batch, i, i+1)
			}
			wantRows(t, pg, s.Table, batch...)
		})
	}
}

// refusing makes epochs of which the second has rows that only the commit can refuse: what they need is taken by then.
func refusing(t *testing.T, s TxSink[point]) (hs []sink.Handle, second []point) {
	t.Helper()
	w, _ := open(t, s)
	second = numbered(300)
	second[200].Name = "taken"
	hs = append(hs, txntest.Prepare(t, w, txntest.Slot(t, 1), 1, point{3, "first"}, point{1000, "taken"}))
	hs = append(hs, txntest.Prepare(t, w, txntest.Slot(t, 2), 2, second...))
	return append(hs, txntest.Prepare(t, w, txntest.Slot(t, 3), 3, point{5000, "third"})), second
}

// apart says if the table doesn't hold exactly the rows, without showing them all.
func apart(t *testing.T, pg *testsvc.PostgresServer, table string, want ...point) {
	t.Helper()
	got, err := read(pg, table)
	slices.SortFunc(want, func(a, b point) int { return a.ID - b.ID })
	if err != nil || len(got) != len(want) {
		t.Fatalf("table has %d rows, want %d; %v", len(got), len(want), err)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("row %d is %v, want %v", i, got[i], want[i])
		}
	}
}

func TestRefusedAtTheCommit(t *testing.T) {
	pg := testsvc.Postgres(t)
	s := inLedger(pg, table(t, pg, "id int8 primary key, name text unique"))
	hs, second := refusing(t, s)
	for range 2 {
		err := finisher(t, s, task()).Commit(t.Context(), hs)
		fails(t, fault.CommitFailed, `The row is {"id": 3, "name": "record 3"}`, err)
		fails(t, fault.CommitFailed, "set Rejects", err)
		fails(t, fault.CommitFailed, "Key (id)=(3) already exists", err)
		if !sink.IsPermanent(err) {
			t.Errorf("%v isn't permanent", err)
		}
		apart(t, pg, s.Table, point{3, "first"}, point{1000, "taken"}) // nothing of the second epoch, nor of what follows
	}
	if err := pg.Exec(t.Context(), "delete from "+s.Table); err != nil {
		t.Fatal(err)
	}
	if err := finisher(t, s, task()).Commit(t.Context(), hs); err != nil {
		t.Fatal(err)
	}
	apart(t, pg, s.Table, append(second, point{5000, "third"})...)
}

func TestRejectsAtTheCommit(t *testing.T) {
	for name, c := range map[string]struct {
		keys    []string
		refused []int
	}{"append": {nil, []int{3, 200}}, "upsert": {[]string{"id"}, []int{200}}} {
		t.Run(name, func(t *testing.T) {
			pg := testsvc.Postgres(t)
			s := inLedger(pg, table(t, pg, "id int8 primary key, name text unique"), c.keys...)
			s.Rejects = s.Table + "_refused"
			if err := s.Preflight(t.Context()); err != nil {
				t.Fatal(err)
			}
			hs, second := refusing(t, s)
			of, counted := task(), counts{}
			of.Metrics = counted
			committer := finisher(t, s, of)
			for range 2 {
				if err := committer.Commit(t.Context(), hs); err != nil {
					t.Fatal(err)
				}
			}
			var refused []string
			for _, i := range slices.Backward(c.refused) {
				row := fmt.Sprintf(`{"id": %d, "name": "%s"}`, second[i].ID, second[i].Name)
				refused = slices.Insert(refused, 0, strings.Join([]string{row, txntest.Slot(t, 2).Name, `"` + s.Table + `"`, "23505", hs[1].Token}, "\t"))
				second = slices.Delete(second, i, i+1)
			}
			got, err := pg.Query(t.Context(), "select row, slot, target, state, token from "+s.Rejects+" order by number")
			if err != nil || !slices.Equal(got, refused) || counted["rejected_at_commit"] != int64(len(refused)) {
				t.Errorf("rejects: %q, counted %d, %v; want %q", got, counted["rejected_at_commit"], err, refused)
			}
			want := append(second, point{1000, "taken"}, point{5000, "third"})
			if c.keys == nil {
				want = append(want, point{3, "first"})
			}
			apart(t, pg, s.Table, want...)
		})
	}
}

// Columns may be called what they like, where rows are moved in pieces too.
func TestNamesOfColumnsWhenRowsAreRefused(t *testing.T) {
	pg := testsvc.Postgres(t)
	for _, keys := range [][]string{nil, {"d"}} {
		s := TxSink[[]any]{
			URL: pg.URL, Table: table(t, pg, `d int8 unique, p int8 unique, r text, s text, at text, "row" text, "the ""s""" text`),
			Columns: []string{"d", "p", "r", "s", "at", "row", `the "s"`}, Keys: keys, Mode: Ledger,
			Row: func(n []any) ([]any, error) { return append(n, "r", "s", "at", "row", "x"), nil },
		}
		s.Rejects = s.Table + "_refused"
		w, c := open(t, s)
		if err := c.Commit(t.Context(), []sink.Handle{txntest.Prepare(t, w, txntest.Slot(t, 1), 1, []any{1, 1}, []any{2, 1}, []any{3, 3})}); err != nil {
			t.Fatal(err)
		}
		got, err := pg.Query(t.Context(), fmt.Sprintf("select string_agg(d::text, ',' order by d), (select string_agg(row::text, ',') from %s) from %s", s.Rejects, s.Table))
		if want := "1,3\t" + `{"d": 2, "p": 1, "r": "r", "s": "s", "at": "at", "row": "row", "the \"s\"": "x"}`; err != nil || got[0] != want {
			t.Errorf("keys %q: got %q, %v; want %q", keys, got, err, want)
		}
	}
}
