package postgres

import (
	"github.com/weirline/weirline/internal/sqlsink"
)

var product = sqlsink.Server{Name: "postgres", Space: "schema"}

// wrong is a mistake in a sink's settings.
func wrong(fix, what string, args ...any) error { return product.Wrong(fix, what, args...) }

func target(table string, columns, keys []string) sqlsink.Target {
	return sqlsink.Target{Server: product, Table: table, Columns: columns, Keys: keys}
}
