package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// exported calls visit for each exported declaration of the package: a function, a method of an exported type, or one
// type, constant or variable. What visit gets has no body and no unexported fields.
func exported(p *pkg, visit func(f *file, d ast.Node)) {
	for _, f := range p.files {
		copied, err := parseFile(f.path, f.src)
		if err != nil {
			continue // it was parsed before
		}
		ast.FileExports(copied.ast)
		for _, d := range copied.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Body = nil; !hiddenReceiver(d) {
					visit(copied, d)
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if _, ok := s.(*ast.ImportSpec); !ok {
						visit(copied, s)
					}
				}
			}
		}
	}
}

// hiddenReceiver says that a method belongs to a type that isn't exported.
func hiddenReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return false
	}
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return !x.IsExported()
		default:
			return true
		}
	}
}

// channelRule complains about channels in what a contract exports.
func channelRule(p *pkg) (bad []string) {
	exported(p, func(f *file, d ast.Node) {
		ast.Inspect(d, func(n ast.Node) bool {
			if c, ok := n.(*ast.ChanType); ok {
				bad = append(bad, fmt.Sprintf("%s: a channel in an exported signature of %s: who closes it, who waits, how much it holds can't be said in a type; "+
					"fix: use a method with a context", f.at(c), p.rel()))
			}
			return true
		})
	})
	return bad
}

var blanks = regexp.MustCompile(`\s+`)

// listing is what the package exports, a line each, sorted.
func listing(p *pkg) string {
	var out []string
	exported(p, func(f *file, d ast.Node) {
		kind := "func "
		switch d := d.(type) {
		case *ast.FuncDecl:
			d.Doc, kind = nil, ""
		case *ast.TypeSpec:
			d.Doc, d.Comment, kind = nil, nil, "type "
		case *ast.ValueSpec:
			d.Doc, d.Comment, kind = nil, nil, "value "
		}
		uncomment(d)
		var b bytes.Buffer
		if err := (&printer.Config{Mode: printer.RawFormat}).Fprint(&b, token.NewFileSet(), d); err != nil {
			panic(err)
		}
		lines := strings.Split(strings.TrimSpace(b.String()), "\n")
		for i, l := range lines {
			lines[i] = strings.TrimSpace(blanks.ReplaceAllString(l, " "))
		}
		text := strings.Join(lines, "; ")
		text = strings.NewReplacer("{; ", "{ ", "interface{ ", "interface { ", "struct{ ", "struct { ", "; }", " }", "(; ", "(").Replace(text)
		out = append(out, kind+text)
	})
	slices.Sort(out)
	return strings.Join(out, "\n") + "\n"
}

// uncomment takes off fields and methods what isn't part of their type.
func uncomment(d ast.Node) {
	ast.Inspect(d, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			n.Doc, n.Comment = nil, nil
		case *ast.StructType:
			n.Incomplete = false // else it is printed with a remark
		case *ast.InterfaceType:
			n.Incomplete = false
		}
		return true
	})
}

// settings are the names of structs whose fields a user sets.
var settings = regexp.MustCompile(`(Config|Options|Source|Sink|TxSink|Case|App|Watermarks|Tumbling|Restart|Poison|TLS|SASL|Auth|Input|Limits)$`)

// fieldRule complains about settings nobody explained.
func fieldRule(p *pkg) (bad []string) {
	exported(p, func(f *file, d ast.Node) {
		spec, ok := d.(*ast.TypeSpec)
		if !ok || !settings.MatchString(spec.Name.Name) {
			return
		}
		st, ok := spec.Type.(*ast.StructType)
		if !ok {
			return
		}
		last := 0 // line of the last field that a comment stands for; the next line belongs to it too
		for _, fd := range st.Fields.List {
			line := f.fset.Position(fd.Pos()).Line
			if fd.Doc != nil || fd.Tag != nil || line == last+1 && last > 0 {
				last = f.fset.Position(fd.End()).Line
				continue
			}
			if fd.Comment == nil && len(fd.Names) > 0 {
				bad = append(bad, fmt.Sprintf("%s: field %s.%s has no comment: its default and its unit can't be guessed; fix: say what unset and negative mean",
					f.at(fd), spec.Name.Name, fd.Names[0].Name))
			}
		}
	})
	return bad
}

// contracts are the packages whose exported names are listed.
func contracts(t *testing.T) []*pkg {
	var out []*pkg
	for _, p := range repository(t) {
		if rel := p.rel(); rel == "source" || rel == "sink" {
			out = append(out, p)
		}
	}
	if len(out) != 2 {
		t.Fatalf("found %d contract packages, want source and sink", len(out))
	}
	return out
}

func TestNoChannelsInContracts(t *testing.T) {
	for _, p := range contracts(t) {
		report(t, channelRule(p))
	}
}

func TestExportedListing(t *testing.T) {
	for _, p := range contracts(t) {
		golden := filepath.Join("testdata", "api", p.rel()+".txt")
		got := listing(p)
		if *rewrite {
			if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		report(t, listingRule(p.rel(), got, string(want)))
	}
}

// listingRule complains about each line that is new or gone.
func listingRule(name, got, want string) (bad []string) {
	const fix = "connectors outside this repository depend on it; fix: undo it, or, if it is wanted, go test ./internal/archtest -rewrite and tell of it in CHANGELOG.md"
	g, w := strings.Split(strings.TrimSpace(got), "\n"), strings.Split(strings.TrimSpace(want), "\n")
	for _, l := range w {
		if !slices.Contains(g, l) {
			bad = append(bad, fmt.Sprintf("package %s no longer exports %q: %s", name, l, fix))
		}
	}
	for _, l := range g {
		if !slices.Contains(w, l) {
			bad = append(bad, fmt.Sprintf("package %s newly exports %q: %s", name, l, fix))
		}
	}
	return bad
}

func TestSettingsAreExplained(t *testing.T) {
	for _, p := range repository(t) {
		if !underAny(p.rel(), []string{"examples", "benchmarks", "internal"}) {
			report(t, fieldRule(p))
		}
	}
}

func TestExportedRulesFail(t *testing.T) {
	p := synthetic(t, module+"/source", `package x
type R interface {
	// Read reads.
	Read(a, b int) (c <-chan int)
	hidden() chan int
}
type s struct{ C chan int }
func F(x int) error { var c chan int; _ = c; return nil }
func (s) M(f func(chan<- int)) {}
func (r RR) N() chan int { return nil }
type Options struct {
	A int // a is this
	B, C int
	d int

	// E and F are both explained here.
	E int
	F int

	G int
}
var V = 1
var w = 2
`)
	wants(t, channelRule(p), "x.go:4", "x.go:10")
	wants(t, fieldRule(p), "Options.B", "Options.G")
	const want = `func (r RR) N() chan int
func F(x int) error
type Options struct { A int; B, C int; E int; F int; G int }
type R interface { Read(a, b int) (c <-chan int) }
value V = 1
`
	if got := listing(p); got != want {
		t.Errorf("listing:\n%swant\n%s", got, want)
	}
	wants(t, listingRule("source", "func A()\nfunc C()\n", "func A()\nfunc B()\n"), "no longer exports \"func B()\"", "newly exports \"func C()\"")
}
