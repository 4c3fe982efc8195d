package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/sqlsink"
	"github.com/weirline/weirline/sink/async"
)

// link is a connection of a plain sink with what a batch needs. One batch at a time uses it.
type link struct {
	o     settings
	s     *session
	name  string // of the session, by its lock
	count sqlsink.Count
	rows  rows

	// With Keys:
	upsert, remove statement
	gone           []bool   // of each of rows: it removes a row
	values         []any    // scratch of add
	cells          [][]byte // the values of all rows
	order          []int    // rows by key
	live, dead     []int    // of each key the last one, by key
	params         [][]byte
}

// Reset empties it.
func (l *link) Reset() {
	l.rows.reset()
	l.gone = l.gone[:0]
}

// Refused says whose row is refused.
func (l *link) Refused(err error) error {
	return fault.Wrap(fault.SinkRejected, err, "row for table %s", l.o.table.Sanitize())
}

// Add encodes the row of the batch's record i.
func (l *link) Add(i int, values []any, gone bool) error {
	if gone && len(values) == len(l.rows.cols) {
		l.values = append(l.values[:0], make([]any, len(values))...)
		for _, k := range l.remove.columns {
			l.values[k] = values[k]
		}
		values = l.values
	}
	if err := l.rows.add(i, values); err != nil {
		return err
	}
	l.gone = append(l.gone, gone)
	return nil
}

// send writes what was added. An error is the server's, of whichever statement; repeating all of them with Keys changes nothing.
// Removals and replacements are of different keys, so they are transactions of their own, which lock rows in the order of their keys.
func (l *link) send(ctx context.Context) error {
	if l.rows.len() == 0 {
		return nil
	}
	if len(l.o.keys) == 0 {
		sql := fmt.Sprintf("copy %s (%s) from stdin binary", l.o.table.Sanitize(), quoted(l.o.columns))
		_, err := l.s.conn.PgConn().CopyFrom(ctx, bytes.NewReader(l.rows.buf), sql)
		return err
	}
	l.reduce()
	if err := l.exec(ctx, &l.remove, l.dead); err != nil {
		return err
	}
	return l.exec(ctx, &l.upsert, l.live)
}

// reduce keeps the last row of each key: a statement can't replace a row twice.
func (l *link) reduce() {
	l.cells, l.order, l.live, l.dead = l.cells[:0], l.order[:0], l.live[:0], l.dead[:0]
	for i := range l.rows.len() {
		l.cells = fields(l.rows.span(i, i+1), l.cells)
		l.order = append(l.order, i)
	}
	slices.SortFunc(l.order, func(a, b int) int {
		if c := l.compare(a, b); c != 0 {
			return c
		}
		return a - b
	})
	for n, i := range l.order {
		switch {
		case n+1 < len(l.order) && l.compare(i, l.order[n+1]) == 0:
		case l.gone[i]:
			l.dead = append(l.dead, i)
		default:
			l.live = append(l.live, i)
		}
	}
	l.count("deleted", int64(len(l.dead)))
	l.count("superseded", int64(len(l.order)-len(l.live)-len(l.dead)))
}

// cell is the value of a row's column.
func (l *link) cell(row, column int) []byte { return l.cells[row*len(l.rows.cols)+column] }

// compare orders rows by their keys' bytes. Any order will do that is the same in all writers.
func (l *link) compare(a, b int) int {
	for _, k := range l.remove.columns {
		if c := bytes.Compare(l.cell(a, k), l.cell(b, k)); c != 0 {
			return c
		}
	}
	return 0
}

// statementBytes bounds the values of one statement, which the server takes no more than 1 GiB of.
const statementBytes = 64 << 20

// exec runs a statement with rows, or several times if they are large.
func (l *link) exec(ctx context.Context, st *statement, rows []int) error {
	for len(rows) > 0 {
		n, size := 0, 0
		for n < len(rows) && (n == 0 || size < statementBytes) {
			size += len(l.rows.span(rows[n], rows[n]+1))
			n++
		}
		l.bind(st, rows[:n])
		if err := l.s.run(ctx, st, l.params); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// bind makes the parameters: for each column an array of its values in the binary form.
func (l *link) bind(st *statement, rows []int) {
	if len(l.params) < len(l.rows.cols) {
		l.params = make([][]byte, len(l.rows.cols))
	}
	l.params = l.params[:cap(l.params)]
	for p, c := range st.columns {
		buf := l.params[p][:0]
		for _, head := range [...]uint32{1, 0, st.elements[p], uint32(len(rows)), 1} { // dimensions, NULLs, type; length and lower bound
			buf = binary.BigEndian.AppendUint32(buf, head)
		}
		for _, i := range rows {
			v := l.cell(i, c)
			if v == nil {
				buf[7] = 1
				buf = append(buf, 0xff, 0xff, 0xff, 0xff)
				continue
			}
			buf = append(binary.BigEndian.AppendUint32(buf, uint32(len(v))), v...)
		}
		l.params[p] = buf
	}
	l.params = l.params[:len(st.columns)]
}

// Write sends what was added.
func (l *link) Write(ctx context.Context, records int) (keep bool, err error) {
	if err = l.send(ctx); err == nil {
		return true, nil
	}
	if ruleFor(err).write == reject {
		return keeps(err), async.Refuse(l.Refused(spoken(err)))
	}
	return keeps(err), failed(err, "write %d records to table %s", records, l.o.table.Sanitize())
}
