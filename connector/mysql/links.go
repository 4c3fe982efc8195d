package mysql

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/sqlsink"
	"github.com/weirline/weirline/txn"
)

// Name is that of the session's lock.
func (l *link) Name() string { return l.lock }

// Broken says whether the client has lost the connection.
func (l *link) Broken() bool { return l.s.broken() }

// Fence ends other sessions.
func (l *link) Fence(ctx context.Context, names []string) error {
	locks := map[string]bool{}
	for _, name := range names {
		locks[name] = true
	}
	if err := l.s.fence(ctx, locks); err != nil {
		return fault.Wrap(fault.SinkFailed, err, "mysql: end sessions that broke")
	}
	return nil
}

// Close ends the session.
func (l *link) Close() { l.s.close() }

const (
	lockTimeout = 1205
	deadlock    = 1213
)

// keeps says whether a link goes on after a statement failed. One on which something else than rows was refused is given up: the
// next one learns anew what the table and the server are like.
func (l *link) keeps(err error) bool {
	n := numberOf(err)
	return !l.stuck && (err == nil || n == lockTimeout || n == deadlock || ruleOf(err).write == reject)
}

// openLink connects and learns what the table and the server are like.
func openLink(ctx context.Context, o settings, count sqlsink.Count) (sqlsink.Link, error) {
	s, err := o.connect(ctx)
	if err != nil {
		return nil, err
	}
	l := &link{o: o, s: s, lock: lockOf(txn.NewToken(), o.database), count: count}
	if err := l.open(ctx); err != nil {
		s.close()
		return nil, err
	}
	count("connections", 1)
	return l, nil
}

func (l *link) open(ctx context.Context) error {
	v, err := l.s.look(ctx)
	if err != nil {
		return unfit(err, "look at the server's settings")
	}
	sql := fmt.Sprintf("do get_lock('%s', 0)", l.lock) // what fence finds the session by
	if v.maria && l.o.locks > 0 {
		sql += fmt.Sprintf("; set max_statement_time = %f", l.o.locks.Seconds())
	}
	if err := l.s.exec(ctx, sql); err != nil {
		return failed(err, "set up the session")
	}
	l.head, l.tail = l.o.insertSQL()
	l.room = v.packet - len(l.head) - len(l.tail) - spare
	l.rows = rows{columns: l.o.columns, check: l.s.conn}
	if len(l.o.keys) == 0 {
		return nil
	}
	columns, err := l.s.columns(ctx, l.o.table)
	if err != nil {
		return err
	}
	for _, name := range l.o.keys {
		text := slices.ContainsFunc(columns, func(c columnOf) bool { return c.text && strings.EqualFold(c.name, name) })
		l.keys = append(l.keys, keyColumn{name: quoted(name), at: slices.Index(l.o.columns, name), text: text})
	}
	return nil
}
