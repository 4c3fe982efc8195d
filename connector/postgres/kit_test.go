package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/weirline/weirline/internal/sqlsink/sqlsinktest"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/sinktest"
	"github.com/weirline/weirline/txn"
	"github.com/weirline/weirline/txn/txntest"
)

// point is the record of these tests.
type point struct {
	ID   int
	Name string
}

func (p point) row() ([]any, error) { return []any{p.ID, p.Name}, nil }

// What tests of a package of its own share with these.
var (
	table    = sqlsinktest.NewTable
	read     = sqlsinktest.Read[point]
	wantRows = sqlsinktest.WantRows[point]
	numbered = sqlsinktest.Numbered[point]
	newName  = sqlsinktest.NewName
	seq      = sqlsinktest.Seq
	fails    = sqlsinktest.Fails
)

func points(pg *testsvc.PostgresServer, table string) TxSink[point] {
	return TxSink[point]{URL: pg.URL, Table: table, Columns: []string{"id", "name"}, Row: point.row}
}

// leftovers names what is prepared under a slot.
func leftovers(pg *testsvc.PostgresServer, s sink.Slot) (left []string, err error) {
	found, err := pg.Query(context.Background(), "select gid from pg_prepared_xacts")
	for _, gid := range found {
		if slot, _, ok := txn.SlotOf(gid); ok && slot == s.Name {
			left = append(left, gid)
		}
	}
	return left, err
}

// unapplied are leftovers of a ledger: transactions that wait, and rows in a slot's staging table.
func unapplied(pg *testsvc.PostgresServer, s sink.Slot) ([]string, error) {
	left, err := pg.Query(context.Background(), fmt.Sprintf("select token from weirline.ledger where slot = '%s' and applied is null", s.Name))
	stage := settings{}.plan(s.Name).Stage
	there, terr := pg.Query(context.Background(), fmt.Sprintf(`select to_regclass('weirline."%s"')`, stage))
	if err := errors.Join(err, terr); err != nil || there[0] == "" {
		return left, err
	}
	n, err := pg.Query(context.Background(), fmt.Sprintf(`select count(*) from weirline."%s" having count(*) > 0`, stage))
	return append(left, n...), err
}

func TestTxContract(t *testing.T) {
	t.Run("ledger", ledgerContract)
	own := testsvc.NewPostgres(t, testsvc.PostgresOptions{}) // to be killed
	for name, keys := range map[string][]string{"append": nil, "upsert": {"id"}} {
		t.Run(name, func(t *testing.T) {
			table := table(t, own, "")
			s := points(own, table)
			s.Keys = keys
			lossy := s
			lossy.Lost = txn.AcceptLoss
			txntest.Run(t, txntest.Case[point]{
				TxCase: sinktest.TxCase[point]{
					Sink:    s,
					Make:    func(i int) point { return point{i, fmt.Sprint("record ", i)} },
					Visible: func() ([]point, error) { return read(own, table) },
					Left:    func(s sink.Slot) ([]string, error) { return leftovers(own, s) },
				},
				Lossy: lossy,
				RollBack: func(ctx context.Context, h sink.Handle) error {
					return own.Exec(ctx, fmt.Sprintf("rollback prepared '%s'", txn.NameOf(h.Slot.Name, h.Token)))
				},
				Forget: func(_ context.Context, h sink.Handle) (sink.Handle, error) {
					n, err := readNative(h)
					n.Timeline = "00000009" // a failover came in between
					var eerr error
					h.Native, eerr = txn.Encode(nativeVersion, n)
					return h, errors.Join(err, eerr)
				},
				MaxSlot: maxSlot,
				Kill:    own.Kill,
				Restart: own.Restart,
			})
		})
	}
}

// counts is a task's metrics.
type counts map[string]int64

func (c counts) Count(name string, n int64) { c[name] += n }
func (counts) Gauge(string, float64)        {}
func (counts) Observe(string, float64)      {}

func task() sink.Task {
	return sink.Task{
		Job: "job", Operator: "out", Parallelism: 1, Log: slog.New(slog.DiscardHandler), Metrics: counts{}, Request: func() {},
	}
}

// open makes a writer and a committer that end with the test.
func open[T any](t *testing.T, s TxSink[T]) (sink.TxWriter[T], sink.Committer) {
	t.Helper()
	w, err := s.TxWriter(t.Context(), task())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w, finisher(t, s, task())
}

// finisher makes a committer that ends with the test.
func finisher[T any](t *testing.T, s TxSink[T], of sink.Task) sink.Committer {
	t.Helper()
	c, err := s.Committer(t.Context(), of)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}
