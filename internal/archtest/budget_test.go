package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// authored is a smallest example of something that authors write, and how many lines it may have: an author's budget. All of its
// file counts but imports, blank lines, comments, tests, and what is named as not the author's.
type authored struct {
	what   string
	most   int
	file   string   // compiled and tested
	page   string   // that shows it
	others []string // of the file: what its records and its destination's library would be, and helpers of tests
}

var budgets = []authored{
	{"bounded source", 40, "docs/numbers_test.go", "docs/writing-a-source.md", nil},
	{"bounded source with a cursor", 60, "docs/lines_test.go", "docs/writing-a-source.md", nil},
	{"queue source", 150, "docs/queue_test.go", "docs/writing-a-source.md", []string{"Message", "Consumer", "broker"}},
	{"async sink", 15, "docs/latest_test.go", "docs/writing-a-sink.md", []string{"Reading"}},
	{"exactly-once SQL sink", 60, "docs/sql/orders_test.go", "docs/writing-a-sink.md", []string{"Order"}},
}

// declarations are the lines of code of each declaration of a file; methods belong to their type.
func declarations(f *file) map[string]int {
	n := map[string]int{}
	for _, d := range f.ast.Decls {
		name := ""
		switch d := d.(type) {
		case *ast.GenDecl:
			if d.Tok == token.IMPORT {
				continue
			}
			if s, ok := d.Specs[0].(*ast.TypeSpec); ok {
				name = s.Name.Name
			}
		case *ast.FuncDecl:
			if name = d.Name.Name; d.Recv != nil {
				name = receiver(d.Recv.List[0].Type)
			}
		}
		from, to := f.fset.Position(d.Pos()).Offset, f.fset.Position(d.End()).Offset
		n[name] += codeLines(f.src[from:to])
	}
	return n
}

func receiver(t ast.Expr) string {
	if p, ok := t.(*ast.StarExpr); ok {
		t = p.X
	}
	if id, ok := t.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}

// count returns the lines of an example, and what is wrong with it.
func (a authored) count(f *file, page string) (lines int, bad []string) {
	all := declarations(f)
	for _, o := range a.others {
		if all[o] == 0 {
			bad = append(bad, fmt.Sprintf("%s has no %s, which is named as not counted: the list must be true; fix: take it out", a.file, o))
		}
	}
	for name, n := range all {
		if strings.HasPrefix(name, "Test") || slices.Contains(a.others, name) {
			continue
		}
		lines += n
	}
	if lines > a.most {
		bad = append(bad, fmt.Sprintf("the smallest %s, in %s, has %d lines, the limit is %d: that is what authors are promised; fix: make what it stands on do more", a.what, a.file, lines, a.most))
	}
	for _, d := range f.ast.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Recv != nil || !fn.Name.IsExported() || strings.HasPrefix(fn.Name.Name, "Test") {
			continue
		}
		if code := string(f.src[f.fset.Position(fn.Pos()).Offset:f.fset.Position(fn.End()).Offset]); !strings.Contains(page, code) {
			bad = append(bad, fmt.Sprintf("%s doesn't show %s of %s: what is counted is what authors read; fix: show it", a.page, fn.Name.Name, a.file))
		}
	}
	return lines, bad
}

// TestAuthorsBudget prints what authors write, as `make budget` does.
func TestAuthorsBudget(t *testing.T) {
	dir, err := root()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range budgets {
		src, err := os.ReadFile(filepath.Join(dir, a.file))
		if err != nil {
			t.Fatal(err)
		}
		page, err := os.ReadFile(filepath.Join(dir, a.page))
		if err != nil {
			t.Fatal(err)
		}
		f, err := parseFile(a.file, src)
		if err != nil {
			t.Fatal(err)
		}
		lines, bad := a.count(f, string(page))
		report(t, bad)
		t.Logf("budget: %-30s %3d lines of at most %d, %s", a.what, lines, a.most, a.file)
	}
}

func TestBudgetRuleFails(t *testing.T) {
	src := "package x\n\nimport \"os\"\n\n// A is one.\ntype A struct {\n\n\tn int // of them\n}\n\nfunc (a *A) F() {\n\t_ = 1\n}\n\nfunc New() A { return A{} }\n\ntype Rec int\n\nfunc TestA() {\n\t_ = os.Args\n}\n"
	f, err := parseFile("x_test.go", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	fine := authored{"thing", 7, "x_test.go", "x.md", []string{"Rec"}}
	n, bad := fine.count(f, "func New() A { return A{} }")
	if n != 7 {
		t.Errorf("%d lines, want 7", n)
	}
	wants(t, bad)
	tight := fine
	tight.most = 6
	_, bad = tight.count(f, "func New() A { return A{} }")
	wants(t, bad, "has 7 lines, the limit is 6")
	_, bad = fine.count(f, "nothing")
	wants(t, bad, "doesn't show New")
	fine.others = []string{"Rec", "Gone"}
	_, bad = fine.count(f, "func New() A { return A{} }")
	wants(t, bad, "has no Gone")
}
