package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// statement writes many rows at once. Each column's values are a parameter, an array.
type statement struct {
	name     string // it is prepared under; none: it is sent with each call
	sql      string
	columns  []int    // of the rows, for each parameter
	arrays   []uint32 // types of the parameters
	elements []uint32 // and of what is in them
}

// textArray is the type text[], and textType that of its elements.
const (
	textType  = 25
	textArray = 1009
)

// carriers finds the types of the arrays that carry columns' values. Arrays, which have none, and composites, which would be
// taken apart, travel as text.
func (s *session) carriers(ctx context.Context, cols []column) error {
	oids := make([]string, len(cols))
	for i, c := range cols {
		oids[i] = strconv.FormatUint(uint64(c.oid), 10)
	}
	results, err := s.exec(ctx, fmt.Sprintf(`select case when t.typtype = 'c' then 0 else t.typarray end::text, format_type(t.oid, -1)
 from unnest('{%s}'::oid[]) with ordinality u(oid, n) join pg_type t on t.oid = u.oid order by u.n`, strings.Join(oids, ",")))
	if err != nil {
		return s.unfit(err, "look at the types of the columns")
	}
	found := results[len(results)-1].Rows
	if len(found) != len(cols) {
		return refused("start the job again", "the types of the columns have just changed")
	}
	for i, r := range found {
		array, err := strconv.ParseUint(string(r[0]), 10, 32)
		if err != nil {
			return fmt.Errorf("read the type of column %s: %w", cols[i].name, err)
		}
		cols[i].array = uint32(array)
		if array == 0 {
			cols[i].text, cols[i].array, cols[i].cast = true, textArray, "::"+string(r[1])
		}
	}
	return nil
}

// over makes a statement whose parameters carry some of the columns. Its text goes on after the list of values.
func over(cols []column, which []int) (st statement, values []string, from string) {
	st.columns = which
	params, aliases := make([]string, len(which)), make([]string, len(which))
	values = make([]string, len(which))
	for p, c := range which {
		element := cols[c].oid
		if cols[c].text {
			element = textType
		}
		st.arrays, st.elements = append(st.arrays, cols[c].array), append(st.elements, element)
		params[p], aliases[p] = "$"+strconv.Itoa(p+1), "a"+strconv.Itoa(p+1)
		values[p] = "u." + aliases[p] + cols[c].cast
	}
	return st, values, fmt.Sprintf("unnest(%s) as u(%s)", strings.Join(params, ", "), strings.Join(aliases, ", "))
}

// upsertMany inserts rows, or replaces those with the same keys.
func (o settings) upsertMany(cols []column) statement {
	all := make([]int, len(cols))
	for i := range cols {
		all[i] = i
	}
	st, values, from := over(cols, all)
	st.name = upsert
	st.sql = fmt.Sprintf("insert into %s (%s) select %s from %s", o.table.Sanitize(), quoted(o.columns), strings.Join(values, ", "), from) +
		onConflict(o.columns, o.keys)
	return st
}

// deleteMany removes the rows with some keys.
func (o settings) deleteMany(cols []column) statement {
	which := make([]int, len(o.keys))
	for i, k := range o.keys {
		which[i] = slices.Index(o.columns, k)
	}
	st, values, from := over(cols, which)
	same := make([]string, len(values))
	for i, v := range values {
		same[i] = "t." + quoted(o.keys[i:i+1]) + " = " + v
	}
	st.name = remove
	st.sql = fmt.Sprintf("delete from %s t using %s where %s", o.table.Sanitize(), from, strings.Join(same, " and "))
	return st
}

// remove is the name of the prepared statement that deletes.
const remove = "weirline_delete"

// ready has the server check a statement, and keep it unless a pooler may give the next call another session.
func (s *session) ready(ctx context.Context, o settings, st *statement) error {
	if st.name == remove && !o.deletes {
		return nil
	}
	if s.pooled {
		st.name = ""
	}
	if _, err := s.conn.PgConn().Prepare(ctx, st.name, st.sql, st.arrays); err != nil {
		return s.unfit(err, "prepare the statement for table %s", o.table.Sanitize())
	}
	return nil
}

var binaryForm = []int16{1}

// run executes a statement in a transaction of its own.
func (s *session) run(ctx context.Context, st *statement, params [][]byte) error {
	if st.name == "" {
		_, err := s.conn.PgConn().ExecParams(ctx, st.sql, params, st.arrays, binaryForm, nil).Close()
		return err
	}
	_, err := s.conn.PgConn().ExecPrepared(ctx, st.name, params, binaryForm, nil).Close()
	return err
}
