package mysql

import (
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/weirline/weirline/internal/fault"
)

// configOf reads a DSN.
func configOf(dsn string) (*mysql.Config, error) {
	c, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, badDSN(err)
	}
	if c.DBName == "" {
		return nil, wrong("set DSN to user:password@tcp(host:port)/database", "DSN names no database")
	}
	c.MultiStatements, c.RejectReadOnly, c.MaxAllowedPacket = true, false, noPacketLimit
	c.Logger = &mysql.NopLogger{} // what it logs comes as an error, too
	return c, nil
}

// wrong is a mistake in a sink's settings.
func wrong(fix, what string, args ...any) error {
	return fault.New(fault.BadPipeline, "mysql sink: "+what, args...).WithFix("%s", fix)
}

// checkTarget says what is wrong with the settings that say what is written where.
func checkTarget(row bool, table string, columns, keys []string) []error {
	var errs []error
	bad := func(fix, what string, args ...any) { errs = append(errs, wrong(fix, what, args...)) }
	if !row {
		bad("set Row to the function that gives a record's values", "Row is missing")
	}
	if !tableName(table) {
		bad("set Table to a table's name, or to database.name", "Table is %q", table)
	}
	if len(columns) == 0 || hasTwice(columns) {
		bad("set Columns to the names of the columns that Row gives values for, each once", "Columns is %q", columns)
	}
	for _, k := range keys {
		if !slices.Contains(columns, k) {
			bad("name it in Columns too, or take it out of Keys", "key %q isn't one of Columns", k)
		}
	}
	if hasTwice(keys) {
		bad("name each key once", "Keys is %q", keys)
	}
	return errs
}

func tableName(s string) bool {
	parts := strings.Split(s, ".")
	return len(parts) <= 2 && !slices.Contains(parts, "")
}

func hasTwice(names []string) bool {
	return len(slices.Compact(slices.Sorted(slices.Values(names)))) < len(names)
}
