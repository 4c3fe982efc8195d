package engine

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirline/weirline/internal/bubble"
)

// rewriting is the flag -rewrite, which the tests of plans declare.
func rewriting() bool {
	f := flag.Lookup("rewrite")
	return f != nil && f.Value.String() == "true"
}

// actor takes one event of a script and returns its effects, a line each.
type actor interface {
	event(name string, args []string) []string
}

// runScripts runs every script of a folder. A line at the margin is an event, the indented lines after it are what it has to
// cause; lines with # are comments. go test ./engine -run TestScript -rewrite writes the effects anew.
func runScripts(t *testing.T, dir string, newActor func(t *testing.T) actor) {
	names, err := filepath.Glob(filepath.Join("testdata", dir, "*.txt"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no scripts in testdata/%s: %v", dir, err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var got string
			bubble.Test(t, func(t *testing.T) { got = play(newActor(t), string(b)) })
			if rewriting() {
				if err := os.WriteFile(name, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			} else if want := strings.ReplaceAll(string(b), "\r\n", "\n"); got != want {
				t.Errorf("%s differs:\n%s", name, diffLines(want, got))
			}
		})
	}
}

// play is the script as it should read.
func play(a actor, script string) string {
	var out strings.Builder
	for line := range strings.Lines(script) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(line, "\t"):
			continue
		case line == "" || strings.HasPrefix(line, "#"):
			out.WriteString(line + "\n")
			continue
		}
		out.WriteString(line + "\n")
		words := strings.Fields(line)
		for _, e := range a.event(words[0], words[1:]) {
			out.WriteString("\t" + e + "\n")
		}
	}
	return out.String()
}

// diffLines shows where two texts part.
func diffLines(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		if i >= len(w) || i >= len(g) || w[i] != g[i] {
			from := max(0, i-4)
			return "want:\n" + strings.Join(w[from:min(len(w), i+6)], "\n") + "\ngot:\n" + strings.Join(g[from:min(len(g), i+6)], "\n")
		}
	}
	return ""
}
