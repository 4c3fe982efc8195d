package mysql

import (
	"github.com/go-sql-driver/mysql"

	"github.com/weirline/weirline/internal/sqlsink"
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

var product = sqlsink.Server{Name: "mysql", Space: "database"}

// wrong is a mistake in a sink's settings.
func wrong(fix, what string, args ...any) error { return product.Wrong(fix, what, args...) }

func target(table string, columns, keys []string) sqlsink.Target {
	return sqlsink.Target{Server: product, Table: table, Columns: columns, Keys: keys}
}
