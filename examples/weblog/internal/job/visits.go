package job

import (
	"strings"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/examples/weblog/internal/results"
)

// Visits is what is known of a page in a minute that isn't over.
type Visits struct {
	Views    int64
	Visitors map[string]struct{}
}

func addView(acc *Visits, v View) {
	acc.Views++
	if _, ok := acc.Visitors[v.Visitor]; ok {
		return
	}
	if acc.Visitors == nil {
		acc.Visitors = make(map[string]struct{}, 1)
	}
	acc.Visitors[strings.Clone(v.Visitor)] = struct{}{} // v's string would keep the block of the log it was read with
}

func result(page string, w engine.Span, acc *Visits) results.Row {
	return results.Row{Minute: w.Start.Unix(), Page: page, Views: acc.Views, Visitors: int64(len(acc.Visitors))}
}
