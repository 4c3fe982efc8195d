package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// stager is what a writer knows of the ledger.
type stager struct {
	turn  string // a number that recovery's are higher than, once it has taken this writer for dead
	shape string // of the table and of what goes into it
}

// shapeOf gives a turn, and a hash of what a staging table is made from: it is made anew when that has changed.
const shapeOf = `select nextval(%[3]s)::text || ' ' || md5(concat_ws(';', %[2]s, to_regclass(%[1]s)::oid::text,
 (select string_agg(concat_ws(',', attname, atttypid::text, atttypmod::text, attcollation::text, attnotnull::text), ';' order by attnum)
 from pg_attribute where attrelid = to_regclass(%[1]s) and attnum > 0 and not attisdropped),
 (select string_agg(pg_get_constraintdef(oid), ';' order by conname) from pg_constraint where conrelid = to_regclass(%[1]s) and contype = 'c')))`

// enlist makes the ledger's tables, if need be, and takes a number.
func (x *tx) enlist(ctx context.Context) error {
	if err := x.s.keepBooks(ctx, x.o); err != nil {
		return err
	}
	answer, err := x.s.column(ctx, fmt.Sprintf(shapeOf, literal(x.o.table.Sanitize()), literal(x.o.plan("").String()), literal(x.o.book("turns"))))
	if err != nil {
		return x.s.unfit(err, "look at table %s and sequence %s", x.o.table.Sanitize(), x.o.book("turns"))
	}
	x.turn, x.shape, _ = strings.Cut(strings.Join(answer, ""), " ")
	x.rows.count = len(x.o.keys) > 0
	return nil
}

// beginStaged opens a transaction in which rows go into the slot's staging table. Its lock keeps others out of the slot; what
// is asked after it sees what they did before.
func (x *tx) beginStaged(ctx context.Context, s sink.Slot) error {
	p := x.o.plan(s.Name)
	stage := pgx.Identifier{x.o.schema, p.Stage}
	ask := x.s.prelude(x.o) + fmt.Sprintf(`select pg_try_advisory_xact_lock(%[1]d)::text;
 select coalesce((select turn > %[2]s from %[3]s where slot = %[6]s), false)::text,
 exists(select from %[4]s where slot = %[6]s and applied is null)::text,
 (select shape from %[5]s where slot = %[6]s and to_regclass(%[7]s) is not null)`, lockKey(s.Name), x.turn, x.o.book("fences"),
		x.o.book("ledger"), x.o.book("stages"), literal(s.Name), literal(stage.Sanitize()))
	results, err := x.s.exec(ctx, ask)
	if err != nil {
		return x.s.abandon(ctx, failed(err, "begin transaction in slot %s", s.Name))
	}
	lock, state := results[len(results)-2].Rows, results[len(results)-1].Rows
	if len(lock) != 1 || len(state) != 1 {
		return x.s.abandon(ctx, errors.New("postgres: the server didn't answer about the slot"))
	}
	if err := admit(s, string(lock[0][0]) == "true", string(state[0][0]) == "true", string(state[0][1]) == "true"); err != nil {
		return x.s.abandon(ctx, err)
	}
	switch {
	case string(state[0][2]) != x.shape:
		err = x.makeStage(ctx, s, p, stage.Sanitize())
	case !x.held[s.Name]: // somebody may have tidied up the ledger by hand
		err = x.s.empty(ctx, stage.Sanitize())
	}
	if err != nil {
		return x.s.abandon(ctx, err)
	}
	x.held[s.Name] = true
	columns := x.o.columns
	if x.rows.count {
		columns = append(columns[:len(columns):len(columns)], rowColumn)
	}
	x.copy = copySQL(stage, columns)
	x.opened(s)
	return nil
}

// admit says why a slot can't be used.
func admit(s sink.Slot, free, fenced, waiting bool) error {
	const other = "stop the other copy of the job, or give one of the two another name or prefix"
	switch {
	case !free:
		return fault.New(fault.SinkFailed, "slot %s is in use by another session of the database", s.Name).WithFix(other)
	case fenced:
		return fault.New(fault.SinkFailed, "slot %s was recovered since this writer began, which therefore writes no more", s.Name).WithFix(other)
	case waiting:
		return fault.New(fault.SinkFailed, "slot %s has staged rows that wait for their commit", s.Name).
			WithFix(other + "; if they are of a job whose state was given up, a restart of this one clears them")
	}
	return nil
}

// makeStage makes the slot's staging table: the columns that are written, with their types, NOT NULL, and the checks that need
// no others. It is there when the transaction ends, together with its rows.
func (x *tx) makeStage(ctx context.Context, s sink.Slot, p plan, stage string) error {
	if err := x.s.stageTable(ctx, x.o, stage); err != nil {
		return err
	}
	note := fmt.Sprintf("comment on table %s is %s; insert into %s (slot, shape, plan) values (%s, %s, %s) "+
		"on conflict (slot) do update set shape = excluded.shape, plan = excluded.plan",
		stage, literal("rows for "+x.o.table.Sanitize()+", staged by weirline in slot "+s.Name),
		x.o.book("stages"), literal(s.Name), literal(x.shape), literal(p.String()))
	if _, err := x.s.exec(ctx, note); err != nil {
		return failed(err, "make staging table %s", stage)
	}
	return nil
}

// stageTable makes a staging table in place of an older one.
func (s *session) stageTable(ctx context.Context, o settings, stage string) error {
	create := fmt.Sprintf("drop table if exists %[1]s; create table %[1]s (like %[2]s including constraints) with (autovacuum_enabled = false)",
		stage, o.table.Sanitize())
	if _, err := s.exec(ctx, create); err != nil {
		return s.unfit(err, "make a staging table for table %s", o.table.Sanitize())
	}
	// What isn't written is dropped, and the checks that need it too.
	names := make([]string, len(o.columns))
	for i, c := range o.columns {
		names[i] = literal(c)
	}
	others, err := s.column(ctx, fmt.Sprintf("select quote_ident(attname) from pg_attribute where attrelid = %s::regclass and attnum > 0 "+
		"and not attisdropped and attname not in (%s)", literal(stage), strings.Join(names, ", ")))
	if err != nil {
		return s.unfit(err, "look at staging table %s", stage)
	}
	changes := []string{"replica identity full"} // else rows can't be deleted while all tables are published
	for _, c := range others {
		changes = append(changes, "drop column "+c+" cascade")
	}
	if len(o.keys) > 0 {
		changes = append(changes, "add column "+rowColumn+" int8")
	}
	if _, err := s.exec(ctx, fmt.Sprintf("alter table %s %s", stage, strings.Join(changes, ", "))); err != nil {
		return s.unfit(err, "make staging table %s", stage)
	}
	return nil
}

// prepareStaged commits the rows, beside a row of the ledger that says they wait.
func (x *tx) prepareStaged(ctx context.Context, n *native, epoch uint64) error {
	results, err := x.s.exec(ctx, fmt.Sprintf("insert into %s (token, slot, epoch, rows) values ('%s', '%s', %d, %d) "+
		"returning extract(epoch from staged)::int8::text; commit", x.o.book("ledger"), x.token, x.slot.Name, epoch, x.written))
	if err != nil {
		return failed(err, "commit %d staged rows as %s", x.written, n.GID)
	}
	// A transaction in which a statement has failed would be rolled back here without an error.
	if len(results) != 2 || len(results[0].Rows) != 1 || results[1].CommandTag.String() != "COMMIT" {
		return fault.New(fault.SinkFailed, "postgres: transaction %s was rolled back instead of staged", n.GID)
	}
	at, err := strconv.ParseInt(string(results[0].Rows[0][0]), 10, 64)
	n.Ledger = &staged{Schema: x.o.schema, Rows: x.written, At: at}
	return err
}

// checkLedger makes a staging table and looks at the statement that empties it, all of which it then undoes.
func (s *session) checkLedger(ctx context.Context, o settings) error {
	if err := s.keepBooks(ctx, o); err != nil {
		return err
	}
	if err := s.keepRejects(ctx, o); err != nil {
		return err
	}
	if _, err := s.exec(ctx, s.prelude(o)); err != nil {
		return s.abandon(ctx, s.unfit(err, "begin a transaction"))
	}
	p := o.plan("preflight-" + txn.NewToken())
	stage := pgx.Identifier{o.schema, p.Stage}.Sanitize()
	err := s.stageTable(ctx, o, stage)
	if err == nil {
		if _, err = s.exec(ctx, "explain "+p.move(stage)); err != nil {
			err = s.unfit(err, "check the statement that moves staged rows to table %s", o.table.Sanitize())
		}
	}
	return s.abandon(ctx, err)
}
