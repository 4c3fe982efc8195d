package sqlsink

import (
	"slices"
	"strings"

	"github.com/weirline/weirline/internal/fault"
)

// Server says in errors which one is meant.
type Server struct {
	Name  string // of the connector's package
	Space string // what may stand before a table's name: schema or database
}

// Wrong is a mistake in a sink's settings.
func (s Server) Wrong(fix, what string, args ...any) error {
	return fault.New(fault.BadPipeline, s.Name+" sink: "+what, args...).WithFix("%s", fix)
}

// Target says what is written where, as the user has set it.
type Target struct {
	Server  Server
	Table   string
	Columns []string
	Keys    []string
}

// Check says what is wrong with it, and if there is no function that gives the values.
func (t Target) Check(row bool) []error {
	var errs []error
	bad := func(fix, what string, args ...any) { errs = append(errs, t.Server.Wrong(fix, what, args...)) }
	if !row {
		bad("set Row to the function that gives a record's values", "Row is missing")
	}
	if !TableName(t.Table) {
		bad("set Table to a table's name, or to "+t.Server.Space+".name", "Table is %q", t.Table)
	}
	if len(t.Columns) == 0 || hasTwice(t.Columns) {
		bad("set Columns to the names of the columns that Row gives values for, each once", "Columns is %q", t.Columns)
	}
	for _, k := range t.Keys {
		if !slices.Contains(t.Columns, k) {
			bad("name it in Columns too, or take it out of Keys", "key %q isn't one of Columns", k)
		}
	}
	if hasTwice(t.Keys) {
		bad("name each key once", "Keys is %q", t.Keys)
	}
	return errs
}

// TableName says whether it is a name, with at most another one before it and a dot.
func TableName(s string) bool {
	parts := strings.Split(s, ".")
	return len(parts) <= 2 && !slices.Contains(parts, "")
}

func hasTwice(names []string) bool {
	return len(slices.Compact(slices.Sorted(slices.Values(names)))) < len(names)
}
