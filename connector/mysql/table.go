package mysql

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// table is a table's name in two parts.
type table struct{ database, name string }

// tableOf reads a name, with the database before it and a dot if it isn't the given one.
func tableOf(s, database string) table {
	if d, name, ok := strings.Cut(s, "."); ok {
		return table{d, name}
	}
	return table{database, s}
}

func (t table) String() string { return quoted(t.database) + "." + quoted(t.name) }

// where finds the table in the server's schema tables.
func (t table) where() string {
	return fmt.Sprintf("table_schema = %s and table_name = %s", literal(t.database), literal(t.name))
}

func quoted(names ...string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = "`" + strings.ReplaceAll(n, "`", "``") + "`"
	}
	return strings.Join(out, ", ")
}

var tableForm = regexp.MustCompile("^`([^`]|``)+`\\.`([^`]|``)+`$")

func quotedTable(s string) bool { return tableForm.MatchString(s) }

// literal is a string in SQL.
func literal(s string) string { return string(appendText(nil, s)) }

// insertSQL is the statement before and after the rows.
func (o settings) insertSQL() (head, tail string) {
	head = fmt.Sprintf("insert into %s (%s) values ", o.table, quoted(o.columns...))
	if len(o.keys) == 0 {
		return head, ""
	}
	var sets []string
	for _, c := range o.columns {
		if !slices.Contains(o.keys, c) || len(o.columns) == len(o.keys) {
			sets = append(sets, fmt.Sprintf("%s = values(%s)", quoted(c), quoted(c)))
		}
	}
	return head, " on duplicate key update " + strings.Join(sets, ", ")
}

// nulls is a row of NULLs.
func (o settings) nulls() string {
	return "(" + strings.TrimSuffix(strings.Repeat("null, ", len(o.columns)), ", ") + ")"
}

// createTokens makes the token table.
func (o settings) createTokens() string {
	return fmt.Sprintf("create table if not exists %s (token char(32) character set ascii collate ascii_bin not null primary key, "+
		"slot varchar(%d) character set ascii collate ascii_bin not null, epoch bigint unsigned not null, "+
		"made timestamp(6) not null default current_timestamp(6), key slot_made (slot, made)) engine=InnoDB", o.tokens, maxSlot)
}

// staleAtOnce bounds how many tokens a transaction removes.
const staleAtOnce = 100

// staleTokens finds the rows of a slot that no handle needs any more.
func (o settings) staleTokens(slot string) string {
	return fmt.Sprintf("select token from %s where slot = '%s' and made < now(6) - interval %d second limit %d",
		o.tokens, slot, int(keepTokens.Seconds()), staleAtOnce)
}

// putToken adds the proof of a transaction.
func (o settings) putToken(slot, token string, epoch uint64) string {
	return fmt.Sprintf("insert into %s (token, slot, epoch) values ('%s', '%s', %d)", o.tokens, token, slot, epoch)
}

// dropToken removes a row by its primary key: any other way may read, and so wait for, the rows of other transactions.
func (o settings) dropToken(token string) string {
	return fmt.Sprintf("delete from %s where token = '%s'", o.tokens, token)
}
