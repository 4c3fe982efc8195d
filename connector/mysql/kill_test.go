package mysql_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/connector/mysql"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/txn/txntest"
)

const killRecords = 40_000

// numbers is the job: generated numbers into a table, exactly once.
func numbers(c *txntest.Child) error {
	rate := 1_000.0 // slow enough that there is input left in the epoch in which it dies, on a busy machine too
	if c.Step == "" {
		rate = 40_000
	}
	p := engine.New(engine.Config{
		Name: "kill", Dir: c.Args["dir"], Store: c.Store(c.Args["dir"]), Parallelism: c.Parallelism, CheckpointEvery: 10 * time.Millisecond,
	})
	s := engine.From(p, "numbers", gen.Source[int64]{
		Make: func(seq int64) int64 { return seq }, Count: killRecords, PerSecond: rate, Splits: 4,
	})
	engine.ToTx(s, "out", txntest.Wrap(c, mysql.TxSink[int64]{
		DSN: c.Args["dsn"], Table: "numbers", Columns: []string{"n"}, Row: func(v int64) ([]any, error) { return []any{v}, nil },
	}))
	return p.Run(context.Background())
}

func TestMain(m *testing.M) {
	txntest.Main(numbers)
	os.Exit(testsvc.Main(m))
}

// numbersTable is a server of its own. There is no unique index: it would hide what comes twice.
func numbersTable(t *testing.T) *testsvc.MariaDBServer {
	t.Helper()
	m := testsvc.NewMariaDB(t, testsvc.MariaDBOptions{})
	if err := m.Exec(t.Context(), "create table numbers (n bigint not null)"); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestKilledAtEachStep counts after each death: no number is in the table twice, and at the end each is there, and nothing is
// left prepared.
func TestKilledAtEachStep(t *testing.T) {
	m := numbersTable(t)
	txntest.Kills{
		Args:  map[string]string{"dsn": m.DSN, "dir": t.TempDir()},
		Check: func(over bool) error { return tally(m, over) },
	}.Run(t)
}

// TestServerDiesWhileTheJobRuns kills the server under a running job, which restarts its tasks until the server is back.
func TestServerDiesWhileTheJobRuns(t *testing.T) {
	m := numbersTable(t)
	done := make(chan error, 1)
	go func() {
		done <- numbers(&txntest.Child{Args: map[string]string{"dsn": m.DSN, "dir": t.TempDir()}, Parallelism: 3})
	}()
	for rows := range 3 {
		waitForRows(t, m, 1+rows*killRecords/5)
		m.Kill()
		if err := m.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := tally(m, true); err != nil {
		t.Error(err)
	}
}

func waitForRows(t *testing.T, m *testsvc.MariaDBServer, n int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		got, err := m.Query(t.Context(), fmt.Sprintf("select count(*) >= %d from numbers", n))
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("wait for %d rows: %q, %v", n, got, err)
		}
		if got[0] == "1" {
			return
		}
	}
}

// tally says if a number is in the table twice, and when all is over, if one is missing or something is still prepared.
func tally(m *testsvc.MariaDBServer, over bool) error {
	got, err := m.Query(context.Background(), "select count(*) - count(distinct n), count(*), min(n), max(n) from numbers")
	left, lerr := m.Query(context.Background(), "xa recover")
	if err := errors.Join(err, lerr); err != nil || len(got) != 1 {
		return fmt.Errorf("count rows: %q, %w", got, err)
	}
	want := fmt.Sprintf("0\t%d\t0\t%d", killRecords, killRecords-1)
	if got[0] != want && (over || !strings.HasPrefix(got[0], "0\t")) || over && len(left) > 0 {
		return fmt.Errorf("repetitions, rows, lowest, highest: got %q, want %q; prepared: %q", got[0], want, left)
	}
	return nil
}
