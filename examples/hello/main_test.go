package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/cli"
)

func TestHello(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, dir := range []string{"logs", "counts"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const log = `{"at":"2026-11-21T10:00:07Z","page":"/"}
{"at":"2026-11-21T10:01:02Z","page":"/"}
{"at":"2026-11-21T10:00:59Z","page":"/"}
{"at":"2026-11-21T10:00:30Z","page":"/about"}
`
	if err := os.WriteFile(filepath.Join("logs", "a.json"), []byte(log), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second run finds that nothing is left to do
		p, err := build(t.Context(), &cli.Env{Config: engine.Config{Name: "hello", Dir: "state"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := []string{"2026-11-21T10:00:00Z / 2", "2026-11-21T10:00:00Z /about 1", "2026-11-21T10:01:00Z / 1"}
		if got := written(t); !slices.Equal(got, want) {
			t.Fatalf("counts:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// written are the lines of all visible files, sorted.
func written(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("counts", "part-*"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.Split(strings.TrimSpace(string(b)), "\n")...)
	}
	slices.Sort(lines)
	return lines
}
