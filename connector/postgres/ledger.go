package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// keepTokens is how long the ledger remembers that rows were applied, at least.
const keepTokens = 7 * 24 * time.Hour

// books are the ledger's tables, made by whoever needs them first. A row of ledger is a transaction: with applied unset its
// rows lie in the staging table of its slot, afterwards it proves that they were moved.
const books = `select pg_advisory_xact_lock(%[2]d); %[3]s
create sequence if not exists %[1]s.turns;
create table if not exists %[1]s.fences (slot text primary key, turn int8 not null);
create table if not exists %[1]s.stages (slot text primary key, shape text not null, plan text not null);
create table if not exists %[1]s.ledger (token text primary key, slot text not null, epoch int8 not null, rows int8 not null,
 staged timestamptz not null default clock_timestamp(), applied timestamptz);
create unique index if not exists ledger_staged on %[1]s.ledger (slot) where applied is null;
create index if not exists ledger_applied on %[1]s.ledger (slot, applied)`

// book returns the name of one of the ledger's tables.
func (o settings) book(name string) string { return pgx.Identifier{o.schema, name}.Sanitize() }

// hasBooks says whether the ledger's tables are there, for this user to write.
func (s *session) hasBooks(ctx context.Context, o settings) (bool, error) {
	there, err := s.column(ctx, fmt.Sprintf(`select 1 from pg_class c join pg_namespace n on n.oid = relnamespace where nspname = %s
 and relname = 'ledger' and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'delete')`, literal(o.schema)))
	if err != nil {
		return false, uncommitted(err, "look for the ledger's tables in schema %s", o.schema)
	}
	return len(there) > 0, nil
}

// keepBooks makes the ledger's tables if they aren't there.
func (s *session) keepBooks(ctx context.Context, o settings) error {
	there, err := s.hasBooks(ctx, o)
	if err != nil || there {
		return err
	}
	schema, create := pgx.Identifier{o.schema}.Sanitize(), ""
	found, err := s.column(ctx, "select 1 from pg_namespace where nspname = "+literal(o.schema))
	if err == nil && len(found) == 0 { // with a schema that is there, it would take the right to make one
		create = "create schema if not exists " + schema + ";"
	}
	if err == nil {
		_, err = s.exec(ctx, fmt.Sprintf(books, schema, lockKey(".books"), create))
	}
	if err == nil {
		return nil
	}
	if stateOf(err) == noRight {
		return faultOf(fault.Preflight, rule{fix: fmt.Sprintf("let an administrator make it: create schema %s authorization <the user of URL>", schema)},
			true, err, "make the ledger's tables in schema "+o.schema)
	}
	return s.unfit(err, "make the ledger's tables in schema %s", o.schema)
}

// plan is how staged rows get into their table.
type plan struct {
	Stage   string   `json:"stage"` // name of the staging table, in the ledger's schema
	Table   []string `json:"table"`
	Columns []string `json:"columns"`
	Keys    []string `json:"keys,omitempty"`
}

// rowColumn numbers the rows of a staging table, so that the last of several with the same keys is known.
const rowColumn = "weirline_row"

// plan is that of a slot. A name has 63 bytes at most: slots that are longer are told apart by the hash.
func (o settings) plan(slot string) plan {
	h := fnv.New64a()
	_, _ = h.Write([]byte(slot)) // never fails
	return plan{
		Stage: fmt.Sprintf("stage_%s_%016x", slot[:min(len(slot), 40)], h.Sum64()), Table: o.table, Columns: o.columns, Keys: o.keys,
	}
}

func (p plan) String() string {
	b, _ := json.Marshal(p) // strings only
	return string(b)
}

// into begins the statement that puts rows into the table.
func (p plan) into() string {
	return fmt.Sprintf("insert into %s (%s) select %s from ", pgx.Identifier(p.Table).Sanitize(), quoted(p.Columns), quoted(p.Columns))
}

// move puts all staged rows into the table at once. Of those with the same keys it takes the last; those with a key that is
// NULL are different rows.
func (p plan) move(stage string) string {
	if len(p.Keys) == 0 {
		return p.into() + stage
	}
	keys, first := quoted(p.Keys), make([]string, len(p.Keys))
	for i, k := range p.Keys {
		first[i] = quoted([]string{k}) + " is null"
	}
	each := fmt.Sprintf("%s, case when %s then %s end", keys, strings.Join(first, " or "), rowColumn)
	return p.into() + fmt.Sprintf("(select distinct on (%[1]s) * from %[2]s order by %[1]s, %[3]s desc) s", each, stage, rowColumn) + p.conflict()
}

func (p plan) conflict() string { return onConflict(p.Columns, p.Keys) }

// prelude opens a transaction of the ledger, which keeps its settings to itself: the session behind it may be another's next.
func (s *session) prelude(o settings) string {
	sql := fmt.Sprintf(`begin isolation level read committed read write; set local lock_timeout = %d; set local statement_timeout = 0;
 set local idle_in_transaction_session_timeout = 0; set constraints all immediate;
 select set_config('synchronous_commit', 'on', true) where current_setting('synchronous_commit') = 'off'; `, max(0, o.locks.Milliseconds()))
	if s.version >= 170000 {
		sql += "set local transaction_timeout = 0; "
	}
	return sql
}

// abandon rolls back after an error, which it returns.
func (s *session) abandon(ctx context.Context, err error) error {
	if !s.conn.IsClosed() {
		_, _ = s.exec(ctx, "rollback") // if it fails, the end of the session does it
	}
	return err
}

// slotList is the slots' names as an array in SQL.
func slotList(slots []sink.Slot) string {
	names := make([]string, len(slots))
	for i, s := range slots {
		names[i] = `"` + s.Name + `"`
	}
	return literal("{"+strings.Join(names, ",")+"}") + "::text[]"
}
