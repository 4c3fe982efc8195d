package deliver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver "mysql"
	"golang.org/x/sync/errgroup"

	"github.com/weirline/weirline/benchmarks/internal/load"
	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/connector/mysql"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/sink"
)

// MariaTable writes the rows of a [Table] into MariaDB or MySQL.
type MariaTable struct {
	DSN     string
	Records int64
	Keys    uint32
}

// Sink is the sink to write with.
func (t *MariaTable) Sink() sink.TwoPhase[Row] {
	return mysql.TxSink[Row]{
		DSN: t.DSN, Table: rows, Columns: columns, Row: func(r Row) ([]any, error) { return r.columns(), nil },
	}
}

// Job writes by a job. Its clock starts when the first row is made.
func (t *MariaTable) Job(ctx context.Context, cfg engine.Config, to sink.TwoPhase[Row]) (Outcome, error) {
	db, err := t.emptied(ctx)
	if err != nil {
		return Outcome{}, err
	}
	defer db.Close()
	w := load.NewWatch(t.Records)
	p := engine.New(cfg)
	engine.ToTx(engine.From(p, "rows", gen.Source[Row]{Fill: load.Timing(w, fillRows(t.Keys)), Count: t.Records}), "table", to)
	if err := p.Run(ctx); err != nil {
		return Outcome{}, err
	}
	o := Outcome{Watch: w, End: time.Now(), Status: p.Status()}
	return o, t.right(ctx, db)
}

// Bare is what the client library takes for the same rows: a connection for each task, INSERT of a batch with the values in its
// text, which is the faster one of the library's two ways, and an XA transaction for each checkpoint.
func (t *MariaTable) Bare(ctx context.Context, cfg engine.Config) (time.Duration, error) {
	db, err := t.emptied(ctx)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	began := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	for task := range cfg.Parallelism {
		g.Go(func() error {
			c, err := db.Conn(gctx)
			if err != nil {
				return err
			}
			defer c.Close()
			return t.bareTask(gctx, c, cfg, task)
		})
	}
	err = g.Wait()
	took := time.Since(began)
	if err != nil {
		return 0, fmt.Errorf("bare client: %w", err)
	}
	return took, t.right(ctx, db)
}

// emptied connects and makes the table anew. The caller closes the connections.
func (t *MariaTable) emptied(ctx context.Context) (*sql.DB, error) {
	joint := "?"
	if strings.Contains(t.DSN, "?") {
		joint = "&"
	}
	db, err := sql.Open("mysql", t.DSN+joint+"interpolateParams=true")
	if err != nil {
		return nil, err
	}
	for _, sql := range []string{
		"drop table if exists " + rows, "create table " + rows + " (id bigint primary key, k varchar(40) not null, v double not null)",
	} {
		if _, err := db.ExecContext(ctx, sql); err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	return db, nil
}

// bareTask inserts every so many rows of all, in transactions that last as long as an epoch.
func (t *MariaTable) bareTask(ctx context.Context, c *sql.Conn, cfg engine.Config, task int) error {
	step := int64(cfg.Parallelism)
	var args []any
	for next, n := int64(task), 0; next < t.Records; n++ {
		gid := fmt.Sprintf("'bare-%d-%d'", task, n)
		if _, err := c.ExecContext(ctx, "xa start "+gid); err != nil {
			return err
		}
		for began := time.Now(); next < t.Records && !due(began, cfg.CheckpointEvery); {
			args = args[:0]
			for ; next < t.Records && len(args) < 3*bareBatch; next += step {
				args = append(args, makeRow(next, t.Keys).columns()...)
			}
			insert := "insert into " + rows + " (id, k, v) values (?, ?, ?)" + strings.Repeat(", (?, ?, ?)", len(args)/3-1)
			if _, err := c.ExecContext(ctx, insert, args...); err != nil {
				return err
			}
		}
		for _, what := range []string{"xa end ", "xa prepare ", "xa commit "} {
			if _, err := c.ExecContext(ctx, what+gid); err != nil {
				return err
			}
		}
	}
	return nil
}

// right compares the table with what it should have.
func (t *MariaTable) right(ctx context.Context, db *sql.DB) error {
	want := sums(t.Records, t.Keys)
	var got [4]int64
	err := db.QueryRowContext(ctx, "select count(*), cast(sum(id) as signed), cast(sum(cast(substr(k, 5) as signed)) as signed), "+
		"cast(sum(v * 1024) as signed) from "+rows).Scan(&got[0], &got[1], &got[2], &got[3])
	if err == nil && got != want {
		err = fmt.Errorf("the table has %d rows with sums of %d; want %d", got[0], got[1:], want)
	}
	return err
}
