package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// closeLimit bounds the farewell to the server.
const closeLimit = 5 * time.Second

// session is one connection, and what is known of the server behind it.
type session struct {
	conn     *pgx.Conn
	id       identity
	prepared int  // max_prepared_transactions
	version  int  // 150018 is 15.18
	replica  bool // takes no writes
	pooled   bool // a pooler is in between, which may give each transaction another session of the server
}

// identity says which database a transaction's id belongs to.
type identity struct {
	System   string `json:"system"`   // of the server's data, made by initdb
	Timeline string `json:"timeline"` // changes when a replica takes over, or a backup is restored
	OID      string `json:"oid"`      // of the database
	Database string `json:"database"` // its name, for the eyes
}

func (o settings) config() (*pgx.ConnConfig, error) {
	c, err := pgx.ParseConfig(o.url)
	if err != nil {
		return nil, fault.Wrap(fault.BadPipeline, err, "postgres sink: URL can't be used").
			WithFix("set URL to postgres://user@host:port/database")
	}
	if _, ok := c.RuntimeParams["application_name"]; !ok {
		c.RuntimeParams["application_name"] = "weirline"
	}
	if o.mode != XA { // a pooler may give each statement another session, which knows no prepared ones
		c.DefaultQueryExecMode, c.StatementCacheCapacity, c.DescriptionCacheCapacity = pgx.QueryExecModeExec, 0, 0
	}
	return c, nil
}

// lasting keeps the server from ending what it takes for idle. It is for sessions that are ours alone.
const lasting = `select set_config(name, '0', false) from pg_settings
 where name in ('statement_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout');
select set_config('lock_timeout', '%d', false);`

// who asks which server it is.
const who = `select (select system_identifier::text from pg_control_system()),
 case when pg_is_in_recovery() then '' else left(pg_walfile_name(pg_current_wal_lsn()), 8) end,
 (select oid::text from pg_database where datname = current_database()), current_database()::text,
 current_setting('max_prepared_transactions'), current_setting('server_version_num'), pg_is_in_recovery()::text, pg_backend_pid()::text`

// connect opens a session.
func (o settings) connect(ctx context.Context) (*session, error) {
	c, err := o.config()
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, connectFault(err, c)
	}
	s := &session{conn: conn}
	sql := who
	if o.mode == XA {
		sql = fmt.Sprintf(lasting, max(0, o.locks.Milliseconds())) + who
	}
	results, err := s.exec(ctx, sql)
	if err == nil {
		err = s.read(results[len(results)-1].Rows)
	}
	if err != nil {
		s.close()
		return nil, connectFault(err, c)
	}
	return s, nil
}

func (s *session) read(rows [][][]byte) error {
	if len(rows) != 1 || len(rows[0]) != 8 {
		return errors.New("the server didn't say who it is")
	}
	r := rows[0]
	s.id = identity{System: string(r[0]), Timeline: string(r[1]), OID: string(r[2]), Database: string(r[3])}
	var err, verr error
	s.prepared, err = strconv.Atoi(string(r[4]))
	s.version, verr = strconv.Atoi(string(r[5]))
	s.replica = string(r[6]) == "true"
	s.pooled = string(r[7]) != strconv.FormatUint(uint64(s.conn.PgConn().PID()), 10)
	return errors.Join(err, verr)
}

// connectFault explains why there is no session.
func connectFault(err error, c *pgx.ConnConfig) error {
	where := fmt.Sprintf("%s:%d", c.Host, c.Port)
	pg, answered := errors.AsType[*pgconn.PgError](err)
	switch {
	case answered && classOf(pg.Code) == "28":
		return sink.Permanent(fault.Wrap(fault.AuthFailed, err, "log in to postgres server %s as user %q", where, c.User).
			WithFix("check user and password in URL, and the server's pg_hba.conf"))
	case answered && pg.Code == "3D000":
		return sink.Permanent(fault.Wrap(fault.Preflight, err, "postgres server %s", where).
			WithFix("create the database, or correct its name in URL"))
	}
	return fault.Wrap(fault.Unreachable, err, "reach postgres server %s", where).
		WithFix("check host and port in URL, and that the server is up and takes connections")
}

// exec runs statements, separated by semicolons, in one round trip.
func (s *session) exec(ctx context.Context, sql string) ([]*pgconn.Result, error) {
	return s.conn.PgConn().Exec(ctx, sql).ReadAll()
}

// column returns the first value of each row that a statement gives, "" for NULL.
func (s *session) column(ctx context.Context, sql string) ([]string, error) {
	results, err := s.exec(ctx, sql)
	if err != nil || len(results) == 0 {
		return nil, err
	}
	rows := results[len(results)-1].Rows
	out := make([]string, len(rows))
	for i, r := range rows {
		out[i] = string(r[0])
	}
	return out, nil
}

// close ends the session, an open transaction first. The server does the same when it notices that the client has gone; this way
// its locks are free when close returns.
func (s *session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	if !s.conn.IsClosed() && s.conn.PgConn().TxStatus() != 'I' {
		_, _ = s.exec(ctx, "rollback") // if it fails, the end of the session does it
	}
	_ = s.conn.Close(ctx) // nothing is left that could be lost
	select {
	case <-s.conn.PgConn().CleanupDone():
	case <-ctx.Done():
	}
}
