package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// closeLimit bounds the farewell to the server.
const closeLimit = 5 * time.Second

// session is one connection. The client library is used without database/sql, whose pool would give a transaction's
// connection to others.
type session struct{ conn conn }

// conn is what the client library's connections can do.
type conn interface {
	driver.Conn
	driver.ExecerContext
	driver.QueryerContext
	driver.NamedValueChecker
	driver.Validator
}

// setup makes the session's settings independent of the server's: nothing is changed silently to fit a column, times are UTC, and
// nobody ends what is taken for idle. Read committed locks the rows that are written, and no gaps between them.
const setup = `set session autocommit = 1, time_zone = '+00:00', unique_checks = 1, foreign_key_checks = 1,
 sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO',
 wait_timeout = 2147483, innodb_lock_wait_timeout = %d, lock_wait_timeout = %d
 /*M!100301 , max_statement_time = 0, idle_transaction_timeout = 0, idle_write_transaction_timeout = 0 */;
set names utf8mb4;
set session transaction isolation level read committed, read write`

func (o settings) setup() string {
	row, meta := 100_000_000, 31_536_000 // the server's maxima
	if o.locks >= 0 {
		seconds := int((o.locks + time.Second - 1) / time.Second)
		row, meta = max(1, min(row, seconds)), max(1, min(meta, seconds))
	}
	return fmt.Sprintf(setup, row, meta)
}

// connect opens a session.
func (o settings) connect(ctx context.Context) (*session, error) {
	c, err := mysql.NewConnector(o.config)
	if err != nil {
		return nil, badDSN(err)
	}
	raw, err := c.Connect(ctx)
	if err != nil {
		return nil, o.connectFault(err)
	}
	s := &session{raw.(conn)}
	if err := s.exec(ctx, o.setup()); err != nil {
		s.close()
		return nil, o.connectFault(err)
	}
	return s, nil
}

func badDSN(err error) error {
	return fault.Wrap(fault.BadPipeline, err, "mysql sink: DSN can't be used").WithFix("set DSN to user:password@tcp(host:port)/database")
}

// connectFault explains why there is no session.
func (o settings) connectFault(err error) error {
	where := o.config.Addr
	switch numberOf(err) {
	case 1044, 1045, 1130, 1698:
		return sink.Permanent(fault.Wrap(fault.AuthFailed, err, "log in to mysql server %s as user %q", where, o.config.User).
			WithFix("check user and password in DSN, and what the server grants that user from this host"))
	case 1049:
		return sink.Permanent(fault.Wrap(fault.Preflight, err, "mysql server %s", where).WithFix("create the database, or correct its name in DSN"))
	}
	return fault.Wrap(fault.Unreachable, err, "reach mysql server %s", where).
		WithFix("check host and port in DSN, and that the server is up and takes connections")
}

// exec runs statements, separated by semicolons, in one round trip. Those after one that fails aren't run.
func (s *session) exec(ctx context.Context, sql string) error {
	_, err := s.conn.ExecContext(ctx, sql, nil)
	return answered(ctx, err)
}

// query is exec for statements that give rows: those of all of them, NULL as "".
func (s *session) query(ctx context.Context, sql string) (out [][]string, err error) {
	rows, err := s.conn.QueryContext(ctx, sql, nil)
	if err != nil {
		return nil, answered(ctx, err)
	}
	for err == nil {
		if out, err = readRows(out, rows); err != nil {
			break
		}
		err = io.EOF
		if next := rows.(driver.RowsNextResultSet); next.HasNextResultSet() {
			err = next.NextResultSet()
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if cerr := rows.Close(); err == nil {
		err = cerr
	}
	return out, answered(ctx, err)
}

func readRows(out [][]string, rows driver.Rows) ([][]string, error) {
	values := make([]driver.Value, len(rows.Columns()))
	for {
		if err := rows.Next(values); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return out, err
		}
		row := make([]string, len(values))
		for i, v := range values {
			switch v := v.(type) {
			case nil:
			case []byte:
				row[i] = string(v)
			default:
				row[i] = fmt.Sprint(v)
			}
		}
		out = append(out, row)
	}
}

// answered gives the caller's own reason if the call was cut short by it: the library then says that the connection is bad.
func answered(ctx context.Context, err error) error {
	if err != nil && numberOf(err) == 0 && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

// one is query for a statement that gives one row of one value.
func (s *session) one(ctx context.Context, sql string) (string, error) {
	rows, err := s.query(ctx, sql)
	if err != nil {
		return "", err
	}
	if len(rows) != 1 || len(rows[0]) != 1 {
		return "", fmt.Errorf("%d rows instead of one value", len(rows))
	}
	return rows[0][0], nil
}

// broken says that nothing can be asked on the session any more.
func (s *session) broken() bool { return !s.conn.IsValid() }

// close ends the session. Of a transaction that isn't prepared nothing is left when it returns, and no lock.
func (s *session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	if !s.broken() {
		_ = s.exec(ctx, "do release_all_locks()") // if it fails, the end of the session does it
	}
	s.drop()
}

// drop ends the connection. What is prepared on it is kept by the server, which parts the two before it frees the locks.
func (s *session) drop() {
	_ = s.conn.Close() // nothing is left that could be lost
}
