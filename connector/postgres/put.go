package postgres

import (
	"bytes"
	"context"
	"errors"
	"io"
	"regexp"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weirline/weirline/internal/fault"
)

// upsert is the name of the prepared statement.
const upsert = "weirline_upsert"

// put writes rows lo up to hi under a savepoint. If the server refuses them for a row's sake, the part is rolled back, and
// what is left is cut at the row the server names, or in the middle, until the row is alone.
func (x *tx) put(ctx context.Context, lo, hi int) error {
	for lo < hi {
		at, err := x.send(ctx, lo, hi)
		if err == nil {
			x.written += int64(hi - lo)
			return nil
		}
		if ruleOf(stateOf(err)).write != reject {
			return failed(err, "write %d rows to table %s", hi-lo, x.o.table.Sanitize())
		}
		if _, rerr := x.s.exec(ctx, "rollback to batch; release batch"); rerr != nil {
			return failed(rerr, "go back to the savepoint before %d rows", hi-lo)
		}
		if hi-lo == 1 {
			x.refuse(x.rows.index[lo], spoken(err))
			return nil
		}
		next := (lo + hi) / 2
		if lo <= at && at < hi {
			if err := x.put(ctx, lo, at); err != nil {
				return err
			}
			lo, next = at, at+1
		}
		if err := x.put(ctx, lo, next); err != nil {
			return err
		}
		lo = next
	}
	return nil
}

func (x *tx) refuse(i int, err error) {
	x.bad[i] = fault.Wrap(fault.SinkRejected, err, "row for table %s", x.o.table.Sanitize())
}

// send writes rows in one round trip. With an error it says which row the server named, -1 if none.
func (x *tx) send(ctx context.Context, lo, hi int) (at int, err error) {
	if x.o.upserts() {
		return x.upsert(ctx, lo, hi)
	}
	var data io.Reader = bytes.NewReader(x.rows.buf)
	if lo > 0 || hi < x.rows.len() {
		data = io.MultiReader(bytes.NewReader([]byte(copyHeader)), bytes.NewReader(x.rows.span(lo, hi)))
	}
	if _, err = x.s.conn.PgConn().CopyFrom(ctx, data, x.copy); err != nil {
		return lo + lineOf(err), err
	}
	return 0, nil
}

// copyLine is how the server says in which row of a COPY it was.
var copyLine = regexp.MustCompile(`(?m)^COPY .*, line (\d+)`)

// lineOf is the number of the row that err was met in, from 0; far outside any batch if it doesn't say.
func lineOf(err error) int {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return unnamed
	}
	found := copyLine.FindAllStringSubmatch(pg.Where, -1)
	if len(found) == 0 {
		return unnamed
	}
	n, err := strconv.Atoi(found[len(found)-1][1])
	if err != nil {
		return unnamed
	}
	return n - 1
}

// unnamed is no row.
const unnamed = -1 << 30

// upsert sends a statement for each row, all at once. The first that fails is the one without a result.
func (x *tx) upsert(ctx context.Context, lo, hi int) (at int, err error) {
	var b pgconn.Batch
	b.ExecParams("savepoint batch", nil, nil, nil, nil)
	binary := []int16{1}
	values := make([][]byte, 0, len(x.rows.cols))
	for i := lo; i < hi; i++ {
		values = fields(x.rows.span(i, i+1), values[:0])
		b.ExecPrepared(upsert, values, binary, nil)
	}
	b.ExecParams("release batch", nil, nil, nil, nil)
	results, err := x.s.conn.PgConn().ExecBatch(ctx, &b).ReadAll()
	if err != nil {
		return lo + len(results) - 1, err
	}
	return 0, nil
}
