package mysql

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
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
	newTable = sqlsinktest.NewTable
	read     = sqlsinktest.Read[point]
	wantRows = sqlsinktest.WantRows[point]
	numbered = sqlsinktest.Numbered[point]
	newName  = sqlsinktest.NewName
	seq      = sqlsinktest.Seq
	fails    = sqlsinktest.Fails
)

func points(m *testsvc.MariaDBServer, table string) TxSink[point] {
	return TxSink[point]{DSN: m.DSN, Table: table, Columns: []string{"id", "name"}, Row: point.row}
}

// leftovers names what is prepared under a slot.
func leftovers(m *testsvc.MariaDBServer, s sink.Slot) (left []string, err error) {
	found, err := m.Query(context.Background(), "xa recover")
	for _, line := range found { // format, two lengths, name
		name := strings.Split(line, "\t")[3]
		if slot, _, ok := txn.SlotOf(name); ok && slot == s.Name {
			left = append(left, name)
		}
	}
	return left, err
}

// detach ends the session that still has a prepared transaction, as the death of its process would.
func detach(ctx context.Context, m *testsvc.MariaDBServer, n native) error {
	o, err := points(m, "t").settings()
	if err != nil {
		return err
	}
	s, err := o.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	slot, _, _ := txn.SlotOf(n.Name)
	if err := s.fence(ctx, map[string]bool{lockOf(slot, n.Database): true}); err != nil {
		return err
	}
	return pause(ctx, parting)
}

// rollBack does what an administrator can do to a prepared transaction.
func rollBack(ctx context.Context, m *testsvc.MariaDBServer, h sink.Handle) error {
	n, err := readNative(h)
	return errors.Join(err, detach(ctx, m, n), m.Exec(ctx, "xa rollback "+n.xid()))
}

func TestTxContract(t *testing.T) {
	own := testsvc.NewMariaDB(t, testsvc.MariaDBOptions{}) // to be killed
	for name, keys := range map[string][]string{"append": nil, "upsert": {"id"}} {
		t.Run(name, func(t *testing.T) {
			table := newTable(t, own, "")
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
				Lossy:    lossy,
				RollBack: func(ctx context.Context, h sink.Handle) error { return rollBack(ctx, own, h) },
				Forget: func(ctx context.Context, h sink.Handle) (sink.Handle, error) {
					n, err := readNative(h)
					err = errors.Join(err, own.Exec(ctx, fmt.Sprintf("delete from %s where token = '%s'", n.Tokens, h.Token)))
					n.Prepared -= 8 * 24 * 3600
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
