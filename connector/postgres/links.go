package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/weirline/weirline/internal/sqlsink"
	"github.com/weirline/weirline/txn"
)

// Name is that of the session's lock. Behind a pooler a session isn't the client's own, and holds none.
func (l *link) Name() string {
	if l.s.pooled {
		return ""
	}
	return l.name
}

// Broken says whether the client has lost the connection.
func (l *link) Broken() bool { return l.s.conn.IsClosed() }

// Fence ends other sessions.
func (l *link) Fence(ctx context.Context, names []string) error {
	if err := l.s.fence(ctx, names); err != nil {
		return failed(err, "end sessions that broke")
	}
	return nil
}

// Close ends the session.
func (l *link) Close() { l.s.close() }

// keeps says whether a link goes on after a statement failed. One on which something else than rows was refused is given up: the
// next one learns anew what the table and the server are like.
func keeps(err error) bool {
	return err == nil || classOf(stateOf(err)) == "40" || ruleFor(err).write == reject
}

// checkEach is how often the server looks whether the client of a running statement is still there.
const checkEach = 2 * time.Second

// openLink connects and learns the table's types.
func openLink(ctx context.Context, o settings, count sqlsink.Count) (sqlsink.Link, error) {
	s, err := o.connect(ctx)
	if err != nil {
		return nil, err
	}
	l := &link{o: o, s: s, name: txn.NewToken(), count: count}
	if err := l.open(ctx); err != nil {
		s.close()
		return nil, err
	}
	count("connections", 1)
	return l, nil
}

func (l *link) open(ctx context.Context) error {
	if !l.s.pooled {
		// The lock is what fence finds the session by.
		sql := fmt.Sprintf(lasting+" select set_config('statement_timeout', '%d', false); select pg_advisory_lock(%d)",
			0, l.o.timeout.Milliseconds(), lockKey(l.name))
		if _, err := l.s.exec(ctx, sql); err != nil {
			return failed(err, "set up the session")
		}
		check := fmt.Sprintf("select set_config(name, '%d', false) from pg_settings where name = 'client_connection_check_interval'", checkEach.Milliseconds())
		if _, err := l.s.exec(ctx, check); err != nil && stateOf(err) == "" { // not every system can do that
			return failed(err, "set up the session")
		}
	}
	cols, err := l.s.describe(ctx, l.o)
	if err != nil {
		return err
	}
	l.rows = rows{types: l.s.conn.TypeMap(), cols: cols}
	if len(l.o.keys) == 0 {
		return nil
	}
	if err := l.s.carriers(ctx, cols); err != nil {
		return err
	}
	l.upsert = l.o.upsertMany(cols)
	l.remove = l.o.deleteMany(cols)
	for _, k := range l.remove.columns {
		cols[k].key = true
	}
	for _, st := range []*statement{&l.upsert, &l.remove} {
		if err := l.s.ready(ctx, l.o, st); err != nil {
			return err
		}
	}
	return nil
}
