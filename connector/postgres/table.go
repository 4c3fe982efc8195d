package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// column is one the rows have values for.
type column struct {
	name string
	oid  uint32 // of its type; a domain's base type
	key  bool   // it may not be NULL: the row is to be found by it

	// How a statement for many rows has its values, see carriers:
	text  bool   // as text
	cast  string // what makes a value of such a text
	array uint32 // type of the array they are in
}

func quoted(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = pgx.Identifier{n}.Sanitize()
	}
	return strings.Join(out, ", ")
}

// copySQL puts rows into a table and, in the same round trip, makes the savepoint before them and releases it after them.
func copySQL(table pgx.Identifier, columns []string) string {
	return fmt.Sprintf("savepoint batch; copy %s (%s) from stdin binary; release batch", table.Sanitize(), quoted(columns))
}

// insertSQL inserts one row, or replaces it if there are keys.
func (o settings) insertSQL(values string) string {
	return fmt.Sprintf("insert into %s (%s) values (%s)", o.table.Sanitize(), quoted(o.columns), values) + onConflict(o.columns, o.keys)
}

// onConflict ends a statement that inserts: without keys with nothing.
func onConflict(columns, keys []string) string {
	if len(keys) == 0 {
		return ""
	}
	var sets []string
	for _, c := range columns {
		if !slices.Contains(keys, c) {
			q := quoted([]string{c})
			sets = append(sets, q+" = excluded."+q)
		}
	}
	if len(sets) == 0 {
		return fmt.Sprintf(" on conflict (%s) do nothing", quoted(keys))
	}
	return fmt.Sprintf(" on conflict (%s) do update set %s", quoted(keys), strings.Join(sets, ", "))
}

// parameters is "$1, $2" up to the number of columns.
func (o settings) parameters() string {
	out := make([]string, len(o.columns))
	for i := range out {
		out[i] = "$" + strconv.Itoa(i+1)
	}
	return strings.Join(out, ", ")
}

// nulls is a NULL for each column.
func (o settings) nulls() string {
	return strings.TrimSuffix(strings.Repeat("null, ", len(o.columns)), ", ")
}

// describe asks for the columns' types and makes the client know them.
func (s *session) describe(ctx context.Context, o settings) ([]column, error) {
	sql := fmt.Sprintf("select %s from %s", quoted(o.columns), o.table.Sanitize())
	d, err := s.conn.Prepare(ctx, "", sql)
	if err != nil {
		return nil, s.unfit(err, "look at table %s", o.table.Sanitize())
	}
	cols := make([]column, len(d.Fields))
	for i, f := range d.Fields {
		cols[i] = column{name: f.Name, oid: f.DataTypeOID}
		if err := s.learn(ctx, f.DataTypeOID); err != nil {
			return nil, s.unfit(err, "column %s of table %s has a type the client library has no form for", f.Name, o.table.Sanitize())
		}
	}
	return cols, nil
}

// learn registers a type that isn't built in: an enum, a composite, a range, a kind of text, or an array of such.
func (s *session) learn(ctx context.Context, oid uint32) error {
	if _, known := s.conn.TypeMap().TypeForOID(oid); known {
		return nil
	}
	var name, category string
	var element uint32
	err := s.conn.QueryRow(ctx, "select typname::text, typcategory::text, typelem::oid from pg_type where oid = $1", oid).
		Scan(&name, &category, &element)
	if err != nil {
		return err
	}
	if category == "S" {
		s.conn.TypeMap().RegisterType(&pgtype.Type{Name: name, OID: oid, Codec: pgtype.TextCodec{}})
		return nil
	}
	if category == "A" {
		if err := s.learn(ctx, element); err != nil {
			return err
		}
	}
	t, err := s.conn.LoadType(ctx, strconv.FormatUint(uint64(oid), 10))
	if err != nil {
		return fmt.Errorf("load type %s: %w", name, err)
	}
	s.conn.TypeMap().RegisterType(t)
	return nil
}

// literal is a string in SQL.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
