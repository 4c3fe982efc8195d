package mysql

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/weirline/weirline/internal/fault"
)

// statementBytes is how much one INSERT holds of a large batch: more gains nothing, and takes memory.
const statementBytes = 1 << 20

// put writes the rows in as many statements as the server's packets make necessary.
func (x *tx) put(ctx context.Context) error {
	for lo := 0; lo < x.rows.len(); {
		hi := x.rows.fit(lo, x.rows.len(), min(x.room, statementBytes))
		if err := x.part(ctx, lo, hi); err != nil {
			return err
		}
		lo = hi
	}
	return nil
}

// part writes rows lo up to hi. A statement that fails for a row's sake leaves nothing behind, and the transaction goes on: what is
// left is cut at the row the server names, or in the middle, until the row is alone.
func (x *tx) part(ctx context.Context, lo, hi int) error {
	for lo < hi {
		err := x.send(ctx, lo, hi)
		if err == nil {
			return nil
		}
		if ruleOf(err).write != reject {
			return failed(err, "write %d rows to table %s", hi-lo, x.o.table)
		}
		if hi-lo == 1 {
			x.refuse(x.rows.index[lo], err)
			return nil
		}
		next := (lo + hi) / 2
		if at := lo + rowOf(err); lo <= at && at < hi {
			if err := x.part(ctx, lo, at); err != nil {
				return err
			}
			lo, next = at, at+1
		}
		if err := x.part(ctx, lo, next); err != nil {
			return err
		}
		lo = next
	}
	return nil
}

func (x *tx) refuse(i int, err error) {
	x.bad[i] = fault.Wrap(fault.SinkRejected, err, "row for table %s", x.o.table)
}

func (x *tx) send(ctx context.Context, lo, hi int) error {
	span := x.rows.span(lo, hi)
	var sql strings.Builder
	sql.Grow(len(x.head) + len(span) + len(x.tail))
	sql.WriteString(x.head)
	sql.Write(span)
	sql.WriteString(x.tail)
	return x.s.exec(ctx, sql.String())
}

// namedRow is how the server says which row of a statement it means.
var namedRow = regexp.MustCompile(`at row (\d+)$`)

// rowOf is the number of the row that err is about, from 0; -1 if it doesn't say.
func rowOf(err error) int {
	e, ok := errors.AsType[*mysql.MySQLError](err)
	if !ok {
		return -1
	}
	found := namedRow.FindStringSubmatch(e.Message)
	if found == nil {
		return -1
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		return -1
	}
	return n - 1
}
