package mysql

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/weirline/weirline/internal/fault"
)

func (o settings) preflight(ctx context.Context) error {
	s, err := o.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	v, err := s.look(ctx)
	if err != nil {
		return unfit(err, "look at the server's settings")
	}
	if err := v.fit(o); err != nil {
		return err
	}
	if !o.plain {
		if err := s.checkXA(ctx, o); err != nil {
			return err
		}
	}
	if err := s.checkEngine(ctx, o.table); err != nil {
		return err
	}
	// Names and rights are checked by the server itself when it plans the statement.
	if err := s.tryInsert(ctx, o); err != nil {
		return err
	}
	if err := s.checkColumns(ctx, o); err != nil {
		return err
	}
	return s.checkKeys(ctx, o)
}

// checkXA looks for what prepared transactions need.
func (s *session) checkXA(ctx context.Context, o settings) error {
	if _, err := s.query(ctx, "xa recover"); err != nil {
		return faultOf(fault.Preflight, rule{fix: fixXA}, true, err, "list prepared transactions")
	}
	return s.checkTokens(ctx, o)
}

func refused(fix, what string, args ...any) error {
	return fault.New(fault.Preflight, "mysql: "+what, args...).WithFix("%s", fix)
}

// fit refuses servers that can't do it.
func (v server) fit(o settings) error {
	if least := v.tooOld(); least != "" {
		return refused("use "+least+" or newer", "the server's version is %s", v.version)
	}
	if v.readOnly {
		return refused(fixPrimary, "the server is read only")
	}
	if v.cluster && !o.plain {
		return refused("use a server outside the cluster", "the server is part of a Galera cluster, which has no XA transactions")
	}
	if v.statement {
		return refused("set binlog_format to MIXED or ROW on the server", "the server's binary log holds statements, and no transactions that read what is committed")
	}
	return nil
}

// needTokens makes the token table if there is none.
func (s *session) needTokens(ctx context.Context, o settings) error {
	err := s.exec(ctx, fmt.Sprintf("select token, slot, epoch, made from %s limit 0", o.tokens))
	if numberOf(err) == noTable {
		err = s.exec(ctx, o.createTokens())
	}
	if n := numberOf(err); n == noRight || n == noTable {
		fix := "grant the user of DSN select, insert and delete on it, and create it if it isn't there: " + o.createTokens()
		return faultOf(fault.Preflight, rule{fix: fix}, true, err, fmt.Sprintf("look at token table %s", o.tokens))
	}
	if err != nil {
		return unfit(err, "look at token table %s", o.tokens)
	}
	return nil
}

// checkTokens looks for the token table and the rights on it.
func (s *session) checkTokens(ctx context.Context, o settings) error {
	if err := s.needTokens(ctx, o); err != nil {
		return err
	}
	for _, sql := range []string{o.putToken("slot", "token", 1), o.dropToken("token")} {
		if err := s.exec(ctx, "explain "+sql); err != nil {
			return unfit(err, "check the statements for token table %s", o.tokens)
		}
	}
	return s.checkEngine(ctx, o.tokens)
}

// tryInsert has the server check the statement.
func (s *session) tryInsert(ctx context.Context, o settings) error {
	head, tail := o.insertSQL()
	if err := s.exec(ctx, "explain "+head+o.nulls()+tail); err != nil {
		return unfit(err, "check the statement for table %s", o.table)
	}
	if !o.deletes {
		return nil
	}
	if err := s.exec(ctx, fmt.Sprintf("explain delete from %s where %s = null", o.table, quoted(o.keys[0]))); err != nil {
		return unfit(err, "check the statement that deletes from table %s", o.table)
	}
	return nil
}

// checkEngine refuses what has no transactions, or can't take part in one of XA. A table that doesn't exist is left to tryInsert.
func (s *session) checkEngine(ctx context.Context, t table) error {
	rows, err := s.query(ctx, "select table_type, ifnull(engine, '') from information_schema.tables where "+t.where())
	if err != nil {
		return unfit(err, "look at table %s", t)
	}
	if len(rows) == 0 {
		return nil
	}
	if strings.Contains(rows[0][0], "VIEW") {
		return refused("set Table to a table's name", "%s isn't a table", t)
	}
	if engine := rows[0][1]; engine != "InnoDB" {
		return refused(fmt.Sprintf("alter table %s engine = InnoDB", t), "table %s has the engine %s, and the sink's transactions need InnoDB", t, engine)
	}
	return nil
}

// columnOf is one row of information_schema.columns.
type columnOf struct {
	name              string
	optional          bool // may be left out
	text              bool // has characters
	generated, unique bool // unique: left out, it never has a value that another row has
}

func (s *session) columns(ctx context.Context, t table) ([]columnOf, error) {
	rows, err := s.query(ctx, `select column_name, is_nullable = 'YES', column_default is null or column_default = 'NULL',
 data_type = 'enum', extra like '%auto_increment%', extra like '%VIRTUAL GENERATED%' or extra like '%STORED GENERATED%',
 character_set_name is not null
 from information_schema.columns where `+t.where()+" order by ordinal_position")
	if err != nil {
		return nil, unfit(err, "look at table %s", t)
	}
	var out []columnOf
	for _, r := range rows {
		null, noDefault, enum, auto, generated := r[1] == "1", r[2] == "1", r[3] == "1", r[4] == "1", r[5] == "1"
		out = append(out, columnOf{
			name: r[0], optional: null || !noDefault || enum || auto || generated, generated: generated, text: r[6] == "1", unique: auto || null && noDefault && !generated,
		})
	}
	return out, nil
}

// checkColumns looks for columns that every row would be rejected for.
func (s *session) checkColumns(ctx context.Context, o settings) error {
	columns, err := s.columns(ctx, o.table)
	if err != nil {
		return err
	}
	for _, c := range columns {
		switch has := containsFold(o.columns, c.name); {
		case has && c.generated:
			return refused("leave generated columns out of Columns", "column %s of table %s is generated", c.name, o.table)
		case !has && !c.optional:
			return refused("add it to Columns, or give it a default", "column %s of table %s may not be null, has no default, and isn't one of Columns", c.name, o.table)
		}
	}
	return nil
}

func containsFold(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
}

// checkKeys looks for the unique index on Keys, and for others: a row that has the value of another row there would replace that
// one, whatever its keys are.
func (s *session) checkKeys(ctx context.Context, o settings) error {
	if len(o.keys) == 0 {
		return nil
	}
	columns, err := s.columns(ctx, o.table)
	if err != nil {
		return err
	}
	rows, err := s.query(ctx, "select index_name, ifnull(column_name, '') from information_schema.statistics where non_unique = 0 and "+
		o.table.where()+" order by index_name, seq_in_index")
	if err != nil {
		return unfit(err, "look at the indexes of table %s", o.table)
	}
	indexes, found := map[string][]string{}, false
	for _, r := range rows {
		indexes[r[0]] = append(indexes[r[0]], r[1])
	}
	for name, of := range indexes {
		covers := !slices.ContainsFunc(o.keys, func(k string) bool { return !containsFold(of, k) })
		found = found || covers && len(of) == len(o.keys)
		harmless := covers || slices.ContainsFunc(columns, func(c columnOf) bool {
			return c.unique && containsFold(of, c.name) && !containsFold(o.columns, c.name)
		})
		if !harmless {
			return refused("drop that index, or take Keys away", "table %s has another unique index than that on Keys, %s: a row would replace the one that has its value there",
				o.table, name)
		}
	}
	if !found {
		return refused("make a unique index on Keys, no others, or correct Keys", "table %s has no unique index on just %q", o.table, o.keys)
	}
	return nil
}
