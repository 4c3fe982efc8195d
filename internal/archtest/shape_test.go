package archtest

import (
	"fmt"
	"go/ast"
	"strings"
	"testing"
	"time"
)

const (
	fileAim, fileLimit = 400, 600 // lines
	funcLimit          = 80       // lines, from func to the closing brace
)

// long are functions above the limit, each with the day by which it has to be shorter.
var long = map[string]string{}

// docRule complains about a package without its one comment.
func docRule(p *pkg) (bad []string) {
	var docs []string
	for _, f := range p.files {
		if f.ast.Doc == nil {
			continue
		}
		docs = append(docs, f.path)
		text, start := f.ast.Doc.Text(), "Package "+p.Name+" "
		if p.Name == "main" {
			start = "Command "
		}
		if !strings.HasPrefix(text, start) {
			bad = append(bad, fmt.Sprintf("%s: the package comment doesn't begin with %q: that is how tools show it; fix: say what the package is for", f.path, start))
		}
	}
	if len(docs) == 0 {
		bad = append(bad, fmt.Sprintf("package %s has no comment: a reader starts there; fix: say in doc.go what it is for, with the smallest example", p.rel()))
	}
	if len(docs) > 1 && !oneEachSystem(docs) {
		bad = append(bad, fmt.Sprintf("package %s has comments in %s: they are joined in no order; fix: keep one", p.rel(), strings.Join(docs, ", ")))
	}
	return bad
}

// oneEachSystem allows a command of one file for each system.
func oneEachSystem(docs []string) bool {
	for _, d := range docs {
		if !strings.Contains(d, "_") {
			return false
		}
	}
	return true
}

// sizeRule complains about what is too long, and lists the files that soon are.
func sizeRule(p *pkg, today time.Time) (bad, soon []string) {
	for _, f := range append(p.files[:len(p.files):len(p.files)], p.tests...) {
		switch {
		case f.lines > fileLimit:
			bad = append(bad, fmt.Sprintf("%s has %d lines, the limit is %d: nobody reads it whole; fix: cut it by idea", f.path, f.lines, fileLimit))
		case f.lines > fileAim:
			soon = append(soon, fmt.Sprintf("%s has %d lines", f.path, f.lines))
		}
	}
	for _, f := range p.files {
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			n := f.fset.Position(fn.End()).Line - f.fset.Position(fn.Pos()).Line + 1
			until, listed := long[f.path+" "+fn.Name.Name]
			if n <= funcLimit || listed && today.Format(time.DateOnly) <= until {
				continue
			}
			bad = append(bad, fmt.Sprintf("%s: function %s has %d lines, the limit is %d: it can't be seen at once; fix: name its parts", f.at(fn), fn.Name.Name, n, funcLimit))
		}
	}
	return bad, soon
}

// lines counts the lines of code (comments are free) of the packages that count, tests not included.
func lines(all []*pkg, counts func(rel string) bool) (n int) {
	for _, p := range all {
		if !counts(p.rel()) {
			continue
		}
		for _, f := range p.files {
			n += f.code
		}
	}
	return n
}

// budgetRule complains about a part of the code that outgrows what one person can know.
func budgetRule(name string, have, limit int) []string {
	if have <= limit {
		return nil
	}
	return []string{fmt.Sprintf("%s has %d lines of code, the limit is %d: one person should be able to know it; fix: take something out, or move it into a package of its own", name, have, limit)}
}

func TestPackageComments(t *testing.T) {
	for _, p := range repository(t) {
		report(t, docRule(p))
	}
}

func TestSizes(t *testing.T) {
	for _, p := range repository(t) {
		bad, soon := sizeRule(p, time.Now())
		report(t, bad)
		for _, s := range soon {
			t.Log(s)
		}
	}
}

func TestBudgets(t *testing.T) {
	all := repository(t)
	engine := lines(all, func(rel string) bool {
		return under(rel, "engine") && !underAny(rel, []string{"engine/prom", "engine/cli", "engine/enginetest", "engine/store/storetest", "engine/store/blob"})
	})
	contracts := lines(all, func(rel string) bool { return rel == "source" || rel == "sink" })
	t.Logf("engine %d lines of code, source and sink %d", engine, contracts)
	report(t, budgetRule("engine (without prom, cli, store/blob and test kits)", engine, 8260))
	report(t, budgetRule("source and sink", contracts, 1000))
}

func TestShapeRulesFail(t *testing.T) {
	wants(t, docRule(synthetic(t, module+"/reader", "package x")), "has no comment")
	wants(t, docRule(synthetic(t, module+"/reader", "// Copyright nobody.\npackage x")), "doesn't begin")
	twice := synthetic(t, module+"/reader", "// Package x is one.\npackage x")
	twice.files = append(twice.files, twice.files[0])
	wants(t, docRule(twice), "joined in no order")
	wants(t, docRule(synthetic(t, module+"/reader", "// Package x is one.\npackage x")))

	body := strings.Repeat("\t_ = 1\n", funcLimit)
	bad, _ := sizeRule(synthetic(t, module+"/reader", "package x\nfunc f() {\n"+body+"}\n"), time.Now())
	wants(t, bad, "function f has 82 lines")
	bad, _ = sizeRule(synthetic(t, module+"/reader", "package x\n"+strings.Repeat("\n", fileLimit)), time.Now())
	wants(t, bad, "has 601 lines")
	if _, soon := sizeRule(synthetic(t, module+"/reader", "package x\n"+strings.Repeat("\n", fileAim)), time.Now()); len(soon) != 1 {
		t.Errorf("a file of %d lines isn't listed: %v", fileAim+1, soon)
	}
	long["reader/x.go f"] = "2026-01-31"
	defer delete(long, "reader/x.go f")
	over := synthetic(t, module+"/reader", "package x\nfunc f() {\n"+body+"}\n")
	bad, _ = sizeRule(over, time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC))
	wants(t, bad)
	bad, _ = sizeRule(over, time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC))
	wants(t, bad, "function f")
	wants(t, budgetRule("engine", 8001, 8000), "8001")
}
