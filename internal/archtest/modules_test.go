package archtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// goMod is what go.mod says.
type goMod struct {
	Require []struct {
		Path     string
		Indirect bool
	}
	Replace []struct{ Old struct{ Path string } }
	Tool    []struct{ Path string }
}

// modRule complains about a go.mod that users of the library can't use as it is.
func modRule(m goMod) (bad []string) {
	for _, r := range m.Replace {
		bad = append(bad, fmt.Sprintf("go.mod replaces %s: the line has no effect for those who import us; fix: require the version itself", r.Old.Path))
	}
	for _, r := range m.Tool {
		bad = append(bad, fmt.Sprintf("go.mod names the tool %s: users would download it; fix: name it in tools/go.mod", r.Path))
	}
	return bad
}

// directModules are the modules that packages of ours import, tests included.
func directModules(all []*pkg, m goMod) []string {
	set := map[string]bool{}
	for _, p := range all {
		for _, i := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			best := ""
			for _, r := range m.Require {
				if under(i, r.Path) && len(r.Path) > len(best) {
					best = r.Path
				}
			}
			if best != "" {
				set[best] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(set))
}

var named = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| *[^|\\s]")

// dependencyRule compares the modules used with those docs/dependencies.md gives a reason for.
func dependencyRule(used []string, doc string) (bad []string) {
	var reasons []string
	for _, m := range named.FindAllStringSubmatch(doc, -1) {
		reasons = append(reasons, m[1])
	}
	for _, u := range used {
		if !slices.Contains(reasons, u) {
			bad = append(bad, fmt.Sprintf("module %s is used without a reason: each one is code that users must trust; fix: do without it, or say in docs/dependencies.md why not", u))
		}
	}
	for _, r := range reasons {
		if !slices.Contains(used, r) {
			bad = append(bad, fmt.Sprintf("docs/dependencies.md names %s, which nothing imports: the list must be true; fix: take the line out", r))
		}
	}
	return bad
}

// kitRule complains about a connector whose halves aren't run through their conformance kits.
func kitRule(p *pkg) (bad []string) {
	tests := slices.Concat(p.TestImports, p.XTestImports)
	for contract, kit := range map[string]string{"source": "source/sourcetest", "sink": "sink/sinktest"} {
		if slices.Contains(p.Imports, module+"/"+contract) && !slices.Contains(tests, module+"/"+kit) {
			bad = append(bad, fmt.Sprintf("%s implements package %s but its tests don't use %s: only the kit kills it at each step; fix: add a test that calls the kit", p.rel(), contract, kit))
		}
	}
	slices.Sort(bad)
	return bad
}

func readMod(t *testing.T) goMod {
	t.Helper()
	dir, err := root()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "mod", "edit", "-json")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var m goMod
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Require) == 0 {
		t.Fatal("go.mod requires nothing: the rules would check nothing")
	}
	return m
}

func TestModules(t *testing.T) {
	m := readMod(t)
	report(t, modRule(m))
	dir, err := root()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(filepath.Join(dir, "docs", "dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	report(t, dependencyRule(directModules(repository(t), m), string(doc)))
}

func TestConnectorsRunTheKits(t *testing.T) {
	found := 0
	for _, p := range repository(t) {
		if strings.HasPrefix(p.rel(), "connector/") {
			found++
			report(t, kitRule(p))
		}
	}
	if found == 0 {
		t.Error("there is no connector: the rule protects nothing")
	}
}

func TestModuleRulesFail(t *testing.T) {
	var m goMod
	if err := json.Unmarshal([]byte(`{"Require":[{"Path":"x.org/a"},{"Path":"x.org/a/b"},{"Path":"x.org/c"}],
		"Replace":[{"Old":{"Path":"x.org/c"}}],"Tool":[{"Path":"x.org/t"}]}`), &m); err != nil {
		t.Fatal(err)
	}
	wants(t, modRule(m), "replaces x.org/c", "tool x.org/t")
	used := directModules([]*pkg{{Imports: []string{"fmt", "x.org/a/b/q"}, TestImports: []string{"x.org/c"}}}, m)
	if want := []string{"x.org/a/b", "x.org/c"}; !slices.Equal(used, want) {
		t.Errorf("modules used: %v, want %v", used, want)
	}
	wants(t, dependencyRule(used, "| `x.org/c` | it does this |\n| `x.org/z` | and that |\n| `x.org/a/b` |  |\n"), "x.org/a/b is used", "names x.org/z")
	wants(t, kitRule(&pkg{ImportPath: module + "/connector/a", Imports: []string{module + "/sink", module + "/source"}, TestImports: []string{module + "/sink/sinktest"}}), "sourcetest")
}
