package postgres_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/connector/postgres"
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
	out := postgres.TxSink[int64]{
		URL: c.Args["url"], Table: "numbers", Columns: []string{"n"}, Row: func(v int64) ([]any, error) { return []any{v}, nil },
	}
	if c.Args["ledger"] != "" {
		out.Mode = postgres.Ledger
	}
	engine.ToTx(s, "out", txntest.Wrap(c, out))
	return p.Run(context.Background())
}

func TestMain(m *testing.M) {
	txntest.Main(numbers)
	os.Exit(testsvc.Main(m))
}

// inModes runs a test in some modes of the sink, with a server of its own: by a ledger where the server has no prepared
// transactions, and that behind a pooler. There is no unique index: it would hide what comes twice.
func inModes(t *testing.T, modes []string, test func(t *testing.T, pg *testsvc.PostgresServer, args map[string]string)) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			o, args := testsvc.PostgresOptions{}, map[string]string{"dir": t.TempDir()}
			if mode != "xa" {
				o.Prepared, args["ledger"] = -1, "yes"
			}
			pg := testsvc.NewPostgres(t, o)
			if err := pg.Exec(t.Context(), "create table numbers (n int8 not null)"); err != nil {
				t.Fatal(err)
			}
			args["url"] = pg.URL
			if mode == "pooled ledger" {
				args["url"] = testsvc.NewPgBouncer(t, pg, 8)
			}
			test(t, pg, args)
		})
	}
}

// TestKilledAtEachStep counts after each death: no number is in the table twice, and at the end each is there, and nothing is
// left prepared or staged.
func TestKilledAtEachStep(t *testing.T) {
	inModes(t, []string{"xa", "ledger", "pooled ledger"}, func(t *testing.T, pg *testsvc.PostgresServer, args map[string]string) {
		txntest.Kills{Args: args, Check: func(over bool) error { return tally(pg, args["ledger"] != "", over) }}.Run(t)
	})
}

// TestServerDiesWhileTheJobRuns kills the server under a running job, which restarts its tasks until the server is back.
func TestServerDiesWhileTheJobRuns(t *testing.T) {
	inModes(t, []string{"xa", "ledger"}, func(t *testing.T, pg *testsvc.PostgresServer, args map[string]string) {
		done := make(chan error, 1)
		go func() { done <- numbers(&txntest.Child{Args: args, Parallelism: 3}) }()
		for rows := range 3 {
			waitForRows(t, pg, 1+rows*killRecords/5, done)
			pg.Kill()
			if err := pg.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if err := tally(pg, args["ledger"] != "", true); err != nil {
			t.Error(err)
		}
	})
}

// waitForRows returns when there are n rows. It fails if the job ends before.
func waitForRows(t *testing.T, pg *testsvc.PostgresServer, n int, job chan error) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		got, err := pg.Query(t.Context(), fmt.Sprintf("select count(*) >= %d from numbers", n))
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("wait for %d rows: %q, %v", n, got, err)
		}
		if got[0] == "t" {
			return
		}
		select {
		case err := <-job:
			t.Fatalf("the job ended before it wrote %d rows: %v", n, err)
		default:
		}
	}
}

// tally says if a number is in the table twice, and when all is over, if one is missing or something is still prepared or staged.
func tally(pg *testsvc.PostgresServer, ledger, over bool) error {
	waits := "(select count(*) from pg_prepared_xacts)"
	if ledger && over {
		waits = "(select count(*) from weirline.ledger where applied is null)"
	}
	got, err := pg.Query(context.Background(), "select count(*) - count(distinct n), count(*), min(n), max(n), "+waits+" from numbers")
	if err != nil || len(got) != 1 {
		return fmt.Errorf("count rows: %q, %v", got, err)
	}
	want := fmt.Sprintf("0\t%d\t0\t%d\t0", killRecords, killRecords-1)
	if got[0] != want && (over || !strings.HasPrefix(got[0], "0\t")) {
		return fmt.Errorf("repetitions, rows, lowest, highest, transactions that wait: got %q, want %q", got[0], want)
	}
	if ledger && over {
		return stagesEmpty(pg)
	}
	return nil
}

// stagesEmpty says if rows lie in a staging table.
func stagesEmpty(pg *testsvc.PostgresServer) error {
	stages, err := pg.Query(context.Background(), "select format('%I', relname) from pg_class where relname like 'stage\\_%'")
	if err != nil || len(stages) == 0 {
		return fmt.Errorf("list staging tables: %q, %v", stages, err)
	}
	for _, s := range stages {
		if n, err := pg.Query(context.Background(), "select count(*) from weirline."+s); err != nil || n[0] != "0" {
			return fmt.Errorf("staging table %s has %q rows, %v", s, n, err)
		}
	}
	return nil
}
