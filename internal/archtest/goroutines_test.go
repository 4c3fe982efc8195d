package archtest

import (
	"fmt"
	"go/ast"
	"strings"
	"testing"
)

// starters are the packages that may start goroutines; each has an owner that waits for them.
var starters = []string{
	"engine", "reader", "sink/async", "lookup", "internal/statefiles", "source/sourcetest", "sink/sinktest", "txn/txntest", "internal/sqlsink/sqlsinktest", "internal/testsvc", "internal/accept", "internal/sim", "internal/soak", "internal/matrix", "internal/storms",
	"examples", "benchmarks",
}

// goroutineRule complains about goroutines started elsewhere: go statements, WaitGroup.Go and errgroup's Go (any call of a
// method Go with one function), and timers with a function of their own. context.AfterFunc is no goroutine unless its context
// ends, and who registered it takes it back.
func goroutineRule(p *pkg) (bad []string) {
	if underAny(p.rel(), starters) {
		return nil
	}
	for _, f := range p.files {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if how := starts(n); how != "" {
				bad = append(bad, fmt.Sprintf("%s: %s: only %s start goroutines, so that each has one owner that waits for it; "+
					"fix: let the engine or a toolkit (reader, sink/async) call you", f.at(n), how, strings.Join(starters[:5], ", ")))
			}
			return true
		})
	}
	return bad
}

func starts(n ast.Node) string {
	switch n := n.(type) {
	case *ast.GoStmt:
		return "go statement"
	case *ast.CallExpr:
		sel, ok := n.Fun.(*ast.SelectorExpr)
		if !ok {
			return ""
		}
		switch {
		case (sel.Sel.Name == "Go" || sel.Sel.Name == "TryGo") && len(n.Args) == 1:
			return "call of " + sel.Sel.Name
		case sel.Sel.Name == "AfterFunc" && isIdent(sel.X, "time"):
			return "call of time.AfterFunc"
		}
	}
	return ""
}

func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

func TestGoroutines(t *testing.T) {
	for _, p := range repository(t) {
		report(t, goroutineRule(p))
	}
}

func TestGoroutineRuleFails(t *testing.T) {
	const src = `package x
func f() {
	go f()
	wg.Go(f)
	time.AfterFunc(d, f)
	context.AfterFunc(c, f)
}`
	wants(t, goroutineRule(synthetic(t, module+"/connector/kafka", src)), "x.go:3: go statement", "x.go:4: call of Go", "x.go:5: call of time.AfterFunc")
	wants(t, goroutineRule(synthetic(t, module+"/reader", src)))
}
