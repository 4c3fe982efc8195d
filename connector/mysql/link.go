package mysql

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/sqlsink"
	"github.com/weirline/weirline/sink/async"
)

// link is a connection of a plain sink with what a batch needs. One batch at a time uses it.
type link struct {
	o          settings
	s          *session
	lock       string // that the session holds
	count      sqlsink.Count
	room       int // bytes of rows a statement has room for
	head, tail string
	stuck      bool // in a transaction that couldn't be ended
	rows       rows

	// With Keys:
	keys  []keyColumn
	where []byte         // for each record the condition that finds its row
	ops   []op           // what the records do, in their order
	last  map[string]int // of each condition the last op
	exact bool           // rows have the same keys only if their conditions are the same text
}

// keyColumn is one of Keys.
type keyColumn struct {
	name string // quoted
	at   int    // in Columns
	text bool   // a number for it has to be written as text, or other texts would be equal to it
}

// op replaces a row, or removes it.
type op struct {
	row      int // of rows; -1: it removes
	from, to int // its condition, in where
}

// Reset empties it.
func (l *link) Reset() {
	l.rows.reset()
	l.where, l.ops, l.exact = l.where[:0], l.ops[:0], true
}

// Refused says whose row is refused.
func (l *link) Refused(err error) error {
	return fault.Wrap(fault.SinkRejected, err, "row for table %s", l.o.table)
}

// Add encodes the row of the batch's record i.
func (l *link) Add(i int, values []any, gone bool) error {
	if len(l.keys) == 0 {
		return l.rows.add(i, values, l.room)
	}
	if len(values) != len(l.o.columns) {
		return fmt.Errorf("row has %d values for %d columns", len(values), len(l.o.columns))
	}
	o := op{row: -1, from: len(l.where)}
	err := l.condition(values)
	if err == nil && !gone {
		o.row = l.rows.len()
		err = l.rows.add(i, values, l.room)
	}
	if err != nil {
		l.where = l.where[:o.from]
		return err
	}
	o.to = len(l.where)
	l.ops = append(l.ops, o)
	return nil
}

var errNullKey = errors.New("it may not be NULL, as it is one of Keys")

// condition appends what finds the row with the values' keys.
func (l *link) condition(values []any) error {
	for n, k := range l.keys {
		if n > 0 {
			l.where = append(l.where, " and "...)
		}
		l.where = append(append(l.where, k.name...), " = "...)
		at := len(l.where)
		buf, err := l.rows.value(l.where, values[k.at])
		if err == nil && string(buf[at:]) == "null" {
			err = errNullKey
		}
		if err != nil {
			return fmt.Errorf("value of column %s: %w", l.o.columns[k.at], err)
		}
		number := buf[at] != '\'' && buf[at] != '_'
		if k.text && number {
			buf = appendText(buf[:at], string(buf[at:]))
		}
		l.exact = l.exact && !k.text && number && strings.IndexByte(string(buf[at:]), 'e') < 0
		l.where = buf
	}
	return nil
}

// reduce keeps the last op of each key, in their order, as the server's idea of what is equal may be wider than ours.
func (l *link) reduce() {
	if l.last == nil {
		l.last = map[string]int{}
	}
	clear(l.last)
	for i, o := range l.ops {
		l.last[string(l.where[o.from:o.to])] = i
	}
	kept, gone := l.ops[:0], int64(0)
	for i, o := range l.ops {
		if l.last[string(l.where[o.from:o.to])] != i {
			continue
		}
		if o.row < 0 {
			gone++
		}
		kept = append(kept, o)
	}
	l.count("deleted", gone)
	l.count("superseded", int64(len(l.ops)-len(kept)))
	l.ops = kept
}

// send writes what was added, in a transaction.
func (l *link) send(ctx context.Context) error {
	all := l.statements()
	if len(all) == 0 {
		return nil
	}
	if len(all) == 1 {
		return l.s.exec(ctx, all[0])
	}
	err := l.s.exec(ctx, "begin")
	for _, sql := range all {
		if err == nil {
			err = l.s.exec(ctx, sql)
		}
	}
	if err == nil {
		return l.s.exec(ctx, "commit")
	}
	l.stuck = l.s.exec(ctx, "rollback") != nil
	return err
}

// Write sends what was added.
func (l *link) Write(ctx context.Context, records int) (keep bool, err error) {
	if err = l.send(ctx); err == nil {
		return true, nil
	}
	keep = l.keeps(err)
	if ruleOf(err).write == reject {
		return keep, async.Refuse(l.Refused(err))
	}
	return keep, failed(err, "write %d records to table %s", records, l.o.table)
}
