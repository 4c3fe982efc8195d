package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/weirline/weirline"

var rewrite = flag.Bool("rewrite", false, "write the golden listings anew")

// pkg is one package of the repository: what the go command says, and its parsed files.
type pkg struct {
	ImportPath, Dir, Name              string
	GoFiles, IgnoredGoFiles            []string
	TestGoFiles, XTestGoFiles          []string
	Imports, TestImports, XTestImports []string
	Deps                               []string
	files, tests                       []*file
}

// file is one parsed Go file.
type file struct {
	path  string // from the repository's root
	src   []byte
	lines int
	code  int // lines that are neither blank nor a comment alone
	fset  *token.FileSet
	ast   *ast.File
}

func (f *file) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", f.path, f.fset.Position(n.Pos()).Line)
}

// rel is the package's path in the module, "." for its root.
func (p *pkg) rel() string { return inModule(p.ImportPath) }

func inModule(importPath string) string {
	if importPath == module {
		return "."
	}
	return strings.TrimPrefix(importPath, module+"/")
}

// parseFile parses src, a whole Go file, under the name path.
func parseFile(path string, src []byte) (*file, error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, path, src, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", path, err)
	}
	return &file{path: path, src: src, lines: bytes.Count(src, []byte("\n")), code: codeLines(src), fset: fset, ast: f}, nil
}

// codeLines leaves out what a formatter or a writer of comments adds.
func codeLines(src []byte) (n int) {
	for line := range bytes.Lines(src) {
		if l := bytes.TrimSpace(line); len(l) > 0 && !bytes.HasPrefix(l, []byte("//")) {
			n++
		}
	}
	return n
}

var root = sync.OnceValues(func() (string, error) { return filepath.Abs(filepath.Join("..", "..")) })

// packages are all packages of the module, also files for other systems.
var packages = sync.OnceValues(func() ([]*pkg, error) {
	dir, err := root()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Name,GoFiles,IgnoredGoFiles,TestGoFiles,XTestGoFiles,Imports,TestImports,XTestImports,Deps", "./...")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var all []*pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		p := new(pkg)
		if err := d.Decode(p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		if err := p.parse(dir); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
})

func (p *pkg) parse(root string) error {
	for _, name := range slices.Concat(p.GoFiles, p.IgnoredGoFiles, p.TestGoFiles, p.XTestGoFiles) {
		path := filepath.Join(p.Dir, name)
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		short, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		f, err := parseFile(filepath.ToSlash(short), src)
		if err != nil {
			return err
		}
		if strings.HasSuffix(name, "_test.go") {
			p.tests = append(p.tests, f)
		} else {
			p.files = append(p.files, f)
		}
	}
	return nil
}

// repository is the list of packages, or the end of the test.
func repository(t *testing.T) []*pkg {
	t.Helper()
	all, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("go list found %d packages: the rules would check nothing", len(all))
	}
	return all
}

// report fails the test once for each complaint.
func report(t *testing.T, complaints []string) {
	t.Helper()
	for _, c := range complaints {
		t.Error(c)
	}
}

// under says whether a path is dir or lies in it.
func under(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func underAny(path string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return under(path, d) })
}

// synthetic makes a package of one file, for tests of the rules themselves.
func synthetic(t *testing.T, importPath, src string) *pkg {
	t.Helper()
	f, err := parseFile(inModule(importPath)+"/x.go", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	p := &pkg{ImportPath: importPath, Name: f.ast.Name.Name, files: []*file{f}}
	for _, i := range f.ast.Imports {
		p.Imports = append(p.Imports, strings.Trim(i.Path.Value, `"`))
	}
	return p
}

// wants demands exactly one complaint for each word, in order, that contains it, a reason and a fix.
func wants(t *testing.T, got []string, words ...string) {
	t.Helper()
	if len(got) != len(words) {
		t.Fatalf("%d complaints, want %d:\n%s", len(got), len(words), strings.Join(got, "\n"))
	}
	for i, w := range words {
		if !strings.Contains(got[i], w) || !strings.Contains(got[i], "; fix: ") {
			t.Errorf("complaint %q should contain %q and a fix", got[i], w)
		}
	}
}
