package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/weirline/weirline/internal/fault"
)

// oldest is the first server version with pg_current_xact_id.
const oldest = 130000

func (o settings) preflight(ctx context.Context) error {
	s, err := o.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	if s.version < oldest {
		return refused("use PostgreSQL 13 or newer", "the server's version is %d", s.version)
	}
	if s.replica {
		return refused("give URL the address of the primary", "the server is a replica, which takes no writes")
	}
	if err := s.allows(o, 1); err != nil {
		return err
	}
	if err := s.checkTable(ctx, o); err != nil {
		return err
	}
	cols, err := s.describe(ctx, o)
	if err != nil {
		return err
	}
	if err := s.checkNotNull(ctx, o); err != nil {
		return err
	}
	// Rights, generated columns and the keys' index are checked by the server itself when it plans the statement.
	if _, err := s.exec(ctx, "explain "+o.insertSQL(o.nulls())); err != nil {
		return s.unfit(err, "check the statement for table %s", o.table.Sanitize())
	}
	if err := s.checkKeys(ctx, o); err != nil {
		return err
	}
	switch {
	case o.mode == Ledger:
		return s.checkLedger(ctx, o)
	case o.mode == plain && len(o.keys) > 0:
		return s.checkMany(ctx, o, cols)
	}
	return nil
}

// checkKeys refuses a unique index that is tested only at the end of a transaction: rows can't be replaced by it, which shows when
// the first is to be. A missing one has shown before.
func (s *session) checkKeys(ctx context.Context, o settings) error {
	if len(o.keys) == 0 {
		return nil
	}
	keys := make([]string, len(o.keys))
	for i, k := range o.keys {
		keys[i] = literal(k)
	}
	late, err := s.column(ctx, fmt.Sprintf(`select indexrelid::regclass::text from pg_index where indrelid = to_regclass(%s) and indisunique and not indimmediate
 and (select array_agg(attname::text order by attname::text) from pg_attribute where attrelid = indrelid and attnum = any(indkey))
 = (select array_agg(k order by k) from unnest(array[%s]) k)`, literal(o.table.Sanitize()), strings.Join(keys, ", ")))
	if err != nil {
		return s.unfit(err, "look at the indexes of table %s", o.table.Sanitize())
	}
	if len(late) > 0 {
		return refused("make a unique index on Keys that isn't deferrable", "the unique constraint %s of table %s is deferrable, and rows can't be replaced by it",
			late[0], o.table.Sanitize())
	}
	return nil
}

// checkMany has the server check the statements for many rows.
func (s *session) checkMany(ctx context.Context, o settings, cols []column) error {
	if err := s.carriers(ctx, cols); err != nil {
		return err
	}
	for _, st := range []statement{o.upsertMany(cols), o.deleteMany(cols)} {
		if err := s.ready(ctx, o, &st); err != nil {
			return err
		}
	}
	if !o.deletes {
		return nil
	}
	sql := fmt.Sprintf("explain delete from %s where %s = null", o.table.Sanitize(), quoted(o.keys[:1]))
	if _, err := s.exec(ctx, sql); err != nil {
		return s.unfit(err, "check the statement that deletes from table %s", o.table.Sanitize())
	}
	return nil
}

func refused(fix, what string, args ...any) error {
	return fault.New(fault.Preflight, "postgres: "+what, args...).WithFix("%s", fix)
}

// checkTable refuses what can't take part in the transaction, or loses rows in a crash. A table that doesn't exist is
// left to describe.
func (s *session) checkTable(ctx context.Context, o settings) error {
	kinds, err := s.column(ctx, fmt.Sprintf("select relpersistence::text || relkind::text from pg_class where oid = to_regclass(%s)", literal(o.table.Sanitize())))
	if err != nil {
		return s.unfit(err, "look at table %s", o.table.Sanitize())
	}
	if len(kinds) == 0 {
		return nil
	}
	name := o.table.Sanitize()
	switch kinds[0][:1] {
	case "t":
		return refused("use an ordinary table", "table %s is temporary, and other sessions don't see it", name)
	case "u":
		return refused(fmt.Sprintf("alter table %s set logged", name), "table %s is unlogged: a crash of the server empties it", name)
	}
	switch kinds[0][1:] {
	case "r", "p":
		return nil
	case "f":
		return refused("connect to the server that has the table", "table %s is a foreign table, whose server has transactions of its own", name)
	}
	return refused("set Table to a table's name", "%s isn't a table", name)
}

// checkNotNull looks for columns that every row would be rejected for.
func (s *session) checkNotNull(ctx context.Context, o settings) error {
	needed, err := s.column(ctx, fmt.Sprintf(`select attname::text from pg_attribute where attrelid = to_regclass(%s)
 and attnum > 0 and attnotnull and not atthasdef and attidentity = '' and not attisdropped order by attnum`, literal(o.table.Sanitize())))
	if err != nil {
		return s.unfit(err, "look at table %s", o.table.Sanitize())
	}
	have := map[string]bool{}
	for _, c := range o.columns {
		have[c] = true
	}
	for _, c := range needed {
		if !have[c] {
			return refused("add it to Columns, or give it a default", "column %s of table %s may not be null, has no default, and isn't one of Columns",
				c, o.table.Sanitize())
		}
	}
	return nil
}
