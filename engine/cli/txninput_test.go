package cli

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/internal/testsvc"
)

// TestBadInput gives a two-phase sink what its users will give it some day. Each time the binary ends with one error that has a code,
// names what is at fault, and says what to do.
func TestBadInput(t *testing.T) {
	for name, c := range map[string]struct {
		args func(t *testing.T) []string
		exit int
		code string
		says []string
	}{
		"prepared-off": {func(t *testing.T) []string {
			return tableArgs(t, testsvc.NewPostgres(t, testsvc.PostgresOptions{Prepared: -1}), "n int8")
		}, exitUsage, "WL1109", []string{"max_prepared_transactions", "postgres.Ledger"}},
		"timeout-too-long": {func(t *testing.T) []string {
			k := testsvc.NewKafka(t, testsvc.KafkaOptions{Properties: map[string]string{"transaction.max.timeout.ms": "60000"}})
			return append(kafkaBooks(t, k, "input-timeout").args, "-tx-timeout", "2m", "-down", "-1s")
		}, exitUsage, "WL1109", []string{"Timeout is 2m0s", "1m0s", "transaction.max.timeout.ms"}},
		"timeout-too-short": {func(t *testing.T) []string {
			return append(kafkaBooks(t, testsvc.Kafka(t), "input-short").args, "-tx-timeout", "1m")
		}, exitUsage, "WL1109", []string{"Timeout is 1m0s", "10m0s until it is complete", "MaxDowntime"}},
		"table-missing/postgres": {func(t *testing.T) []string {
			return []string{"-url", testsvc.Postgres(t).URL, "-table", "nowhere"}
		}, exitUsage, "WL1109", []string{`"nowhere"`, "create the table"}},
		"table-missing/mysql": {func(t *testing.T) []string {
			return []string{"-dsn", testsvc.MariaDB(t).DSN, "-table", "nowhere"}
		}, exitUsage, "WL1109", []string{"nowhere", "create the table"}},
		"table-missing/kafka": {func(t *testing.T) []string {
			return []string{"-broker", testsvc.Kafka(t).Addr, "-topic", "nowhere"}
		}, exitFailed, "WL1206", []string{`"nowhere"`}},
		"right-missing/postgres": {func(t *testing.T) []string {
			pg := testsvc.Postgres(t)
			args := tableArgs(t, pg, "n int8")
			if err := pg.Exec(t.Context(), "drop role if exists clerk; create role clerk login"); err != nil {
				t.Fatal(err)
			}
			args[1] = strings.Replace(args[1], "test@", "clerk@", 1)
			return args
		}, exitUsage, "WL1109", []string{"permission denied", "grant the user"}},
		"right-missing/mysql": {func(t *testing.T) []string {
			m := testsvc.MariaDB(t)
			args := mariaArgs(t, m, "n bigint")
			if err := m.Exec(t.Context(), "create user clerk@'127.0.0.1'; grant select on test.* to clerk@'127.0.0.1'"); err != nil {
				t.Fatal(err)
			}
			args[1] = m.For("clerk", "test")
			return args
		}, exitUsage, "WL1109", []string{"denied", "grant the user"}},
		"column-type/postgres": {func(t *testing.T) []string {
			return tableArgs(t, testsvc.Postgres(t), "n date")
		}, exitFailed, "WL1302", []string{"column n"}},
		"column-type/ledger": {func(t *testing.T) []string {
			return append(tableArgs(t, testsvc.Postgres(t), "n date"), "-ledger")
		}, exitFailed, "WL1302", []string{"column n"}},
		"column-type/mysql": {func(t *testing.T) []string {
			return mariaArgs(t, testsvc.MariaDB(t), "n date")
		}, exitFailed, "WL1302", []string{"Incorrect date value", "`n`"}},
		"unique-violation/postgres": {func(t *testing.T) []string {
			return taken(t, tableArgs(t, testsvc.Postgres(t), "n int8 primary key"))
		}, exitFailed, "WL1302", []string{"(n)=(17) already exists"}},
		"unique-violation/ledger": {func(t *testing.T) []string {
			return append(taken(t, tableArgs(t, testsvc.Postgres(t), "n int8 primary key")), "-ledger")
		}, exitFailed, "WL1303", []string{"(n)=(17) already exists", "Rejects"}},
		"unique-violation/mysql": {func(t *testing.T) []string {
			return mariaArgs(t, testsvc.MariaDB(t), "n bigint primary key) as select 17 as n from (select 1) x where (1 = 1")
		}, exitFailed, "WL1302", []string{"Duplicate entry '17'"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBooks(t, append(c.args(t), "-attempts", "1")...)
			_, said := b.run(c.exit)
			i := strings.LastIndex(said, "error: ")
			if i < 0 {
				t.Fatalf("no error in:\n%s", said)
			}
			for _, w := range append(c.says, c.code, "; fix: ") {
				if !strings.Contains(said[i:], w) {
					t.Errorf("the error lacks %q: %s", w, said[i:])
				}
			}
		})
	}
}

// tableArgs makes a table and returns the flags to write there.
func tableArgs(t *testing.T, pg *testsvc.PostgresServer, columns string) []string {
	t.Helper()
	table := tableOf(t)
	if err := pg.Exec(t.Context(), fmt.Sprintf("drop table if exists %[1]s; create table %[1]s (%[2]s)", table, columns)); err != nil {
		t.Fatal(err)
	}
	return []string{"-url", pg.URL, "-table", table}
}

// taken puts a row into the table whose key the job writes too.
func taken(t *testing.T, args []string) []string {
	t.Helper()
	if err := testsvc.Postgres(t).Exec(t.Context(), "insert into "+args[3]+" values (17)"); err != nil {
		t.Fatal(err)
	}
	return args
}

func mariaArgs(t *testing.T, m *testsvc.MariaDBServer, columns string) []string {
	t.Helper()
	table := tableOf(t)
	if err := m.Exec(t.Context(), "create table "+table+" ("+columns+")"); err != nil {
		t.Fatal(err)
	}
	return []string{"-dsn", m.DSN, "-table", table}
}

// TestServerRestarted kills the server while what is prepared waits for its commit. The job goes on by itself, and each number is
// there once.
func TestServerRestarted(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) (b books, kill func(), restart func(ctx context.Context) error){
		"postgres": func(t *testing.T) (books, func(), func(context.Context) error) {
			pg := testsvc.NewPostgres(t, testsvc.PostgresOptions{})
			return postgresBooks(t, pg, "select count(*) from pg_prepared_xacts"), pg.Kill, pg.Restart
		},
		"ledger": func(t *testing.T) (books, func(), func(context.Context) error) {
			pg := testsvc.NewPostgres(t, testsvc.PostgresOptions{})
			return postgresBooks(t, pg, "select count(*) from weirline.ledger where applied is null", "-ledger"), pg.Kill, pg.Restart
		},
		"mysql": func(t *testing.T) (books, func(), func(context.Context) error) {
			m := testsvc.NewMariaDB(t, testsvc.MariaDBOptions{})
			return mariaBooks(t, m), m.Kill, m.Restart
		},
		"kafka": func(t *testing.T) (books, func(), func(context.Context) error) {
			k := testsvc.NewKafka(t, testsvc.KafkaOptions{})
			return kafkaBooks(t, k, "restarted"), k.Kill, k.Restart
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, kill, restart := open(t)
			gate := filepath.Join(t.TempDir(), "gate")
			job := start(t, []string{childVar + "=books"}, append(b.args, "-gate", gate, "-rate", "2000")...)
			job.await("commit failed; it is retried")
			kill()
			if err := restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(gate, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			job.end(exitDone)
			if bad := b.clear(); bad != "" {
				t.Errorf("%s\n%s", bad, job.said())
			}
		})
	}
}

// TestNameTaken starts another job under the same name, with a state of its own, while a transaction of the first one waits. The
// other can't tell it from what a dead job left, and rolls it back. The first one says so, and doesn't take it for committed.
func TestNameTaken(t *testing.T) {
	all := destinations()
	all["kafka"] = func(t *testing.T) books { return kafkaBooks(t, testsvc.Kafka(t), "name-taken") }
	delete(all, "files") // where leftovers are those of a directory
	for name, open := range all {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			gate := filepath.Join(t.TempDir(), "gate")
			job := start(t, []string{childVar + "=books"}, append(b.args, "-gate", gate, "-rate", "1000")...)
			job.await("commit failed; it is retried")
			other := books{t: t, args: append(b.args, "-state", filepath.Join(t.TempDir(), "other"))}
			other.run(exitDone)
			if err := os.WriteFile(gate, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			_, said := job.end(exitFailed)
			for _, w := range []string{"WL1305", "books-out-", "fix: find out who rolled it back", "another job under the same name"} {
				if i := strings.LastIndex(said, "error: "); i < 0 || !strings.Contains(said[i:], w) {
					t.Errorf("the first job doesn't end with %q:\n%s", w, said)
				}
			}
		})
	}
}

// TestDeadRows has two rows among many that the table refuses. They become dead letters, and the epochs they were in lose nothing else.
func TestDeadRows(t *testing.T) {
	const columns = "n bigint not null, check (n not in (17, 2500))"
	for name, args := range map[string]func(t *testing.T) []string{
		"postgres": func(t *testing.T) []string { return tableArgs(t, testsvc.Postgres(t), columns) },
		"ledger":   func(t *testing.T) []string { return append(tableArgs(t, testsvc.Postgres(t), columns), "-ledger") },
		"mysql":    func(t *testing.T) []string { return mariaArgs(t, testsvc.MariaDB(t), columns) },
	} {
		t.Run(name, func(t *testing.T) {
			var to destination
			fs := flag.NewFlagSet(name, flag.ContinueOnError)
			to.declare(fs)
			if err := fs.Parse(args(t)); err != nil {
				t.Fatal(err)
			}
			p := engine.New(engine.Config{
				Name: "dead", Dir: t.TempDir(), Parallelism: 2, CheckpointEvery: 20 * time.Millisecond, Poison: engine.Poison{Policy: engine.PoisonDeadLetter},
			})
			engine.ToTx(engine.From(p, "numbers", gen.Source[int64]{
				Make: func(n int64) int64 { return n }, Count: txnRecords, PerSecond: 20_000,
			}), "out", to.sink())
			var dead enginetest.Collect[engine.DeadLetter]
			p.DeadLetters(&dead)
			if err := p.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			var values []string
			for _, d := range dead.Rows() {
				values = append(values, d.Value)
				if d.Operator != "out" || d.Epoch == 0 || !strings.Contains(d.Cause, "WL1302") {
					t.Errorf("dead letter %+v", d)
				}
			}
			slices.Sort(values)
			if !slices.Equal(values, []string{"17", "2500"}) {
				t.Errorf("dead letters of %q", values)
			}
			query := testsvc.Postgres(t).Query
			if to.dsn != "" {
				query = testsvc.MariaDB(t).Query
			}
			got, err := query(t.Context(), "select count(*), count(distinct n) from "+to.table)
			if want := fmt.Sprintf("%d\t%[1]d", txnRecords-2); err != nil || len(got) != 1 || got[0] != want {
				t.Errorf("rows, different ones: %q, %v; want %q", got, err, want)
			}
		})
	}
}
