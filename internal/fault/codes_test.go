package fault

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

var rewrite = flag.Bool("rewrite", false, "write docs/errors.md anew")

// ranges are the chapters of docs/errors.md, by the first four characters of a code.
var ranges = []struct{ prefix, title string }{
	{"WL10", "Building a pipeline"},
	{"WL11", "Starting and state"},
	{"WL12", "Reading"},
	{"WL13", "Writing and committing"},
	{"WL14", "Running"},
	{"WL15", "Command line and HTTP"},
}

func TestCodesAreUniqueAndSorted(t *testing.T) {
	ids := make([]string, 0, len(all))
	for _, c := range All() {
		ids = append(ids, c.ID)
		if !regexp.MustCompile(`^WL1[0-5]\d\d$`).MatchString(c.ID) {
			t.Errorf("code %s is in no range", c.ID)
		}
	}
	if !slices.IsSorted(ids) {
		t.Errorf("codes are not declared in order: %v", ids)
	}
	if n := len(slices.Compact(slices.Clone(ids))); n != len(ids) || n == 0 {
		t.Errorf("%d codes, %d different ones", len(ids), n)
	}
}

func TestCodesSayWhatHappenedAndWhatToDo(t *testing.T) {
	for _, c := range All() {
		for what, s := range map[string]string{"title": c.Title, "fix": c.Fix} {
			switch {
			case len(strings.Fields(s)) < 2:
				t.Errorf("%s: the %s %q says too little", c.ID, what, s)
			case unicode.IsUpper(rune(s[0])), strings.HasSuffix(s, "."), strings.ContainsAny(s, "|\n"):
				t.Errorf("%s: the %s %q must begin in lower case, be one line and have no full stop at its end", c.ID, what, s)
			}
		}
	}
}

func TestAllIsACopy(t *testing.T) {
	All()[0] = Code{}
	if All()[0].ID == "" {
		t.Error("changing the result of All changed the codes")
	}
}

// page is docs/errors.md.
func page() string {
	var b strings.Builder
	b.WriteString("# Errors\n\n" +
		"<!-- Generated from internal/fault/codes.go: go test ./internal/fault -rewrite -->\n\n" +
		"Every error has a code that never changes its meaning, says where it happened, and what to do:\n\n" +
		"    error: WL1101: state directory state is held by process 7 ...; fix: stop the other copy, or give this one another -state\n\n" +
		"The fix printed may be more particular than the one here.\n")
	for _, r := range ranges {
		fmt.Fprintf(&b, "\n## %s (%sxx)\n\n| Code | What happened | What to do |\n| --- | --- | --- |\n", r.title, r.prefix)
		for _, c := range All() {
			if strings.HasPrefix(c.ID, r.prefix) {
				fmt.Fprintf(&b, "| <a id=\"%s\"></a>%s | %s | %s |\n", strings.ToLower(c.ID), c.ID, c.Title, c.Fix)
			}
		}
	}
	return b.String()
}

func TestErrorsPage(t *testing.T) {
	file := filepath.Join("..", "..", "docs", "errors.md")
	got := page()
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("docs/errors.md is not what the codes say; write it anew with: go test ./internal/fault -rewrite")
	}
	for _, c := range All() {
		if !strings.Contains(got, "| <a id=\""+strings.ToLower(c.ID)+"\"></a>"+c.ID+" | "+c.Title+" | "+c.Fix+" |") {
			t.Errorf("%s is missing on the page", c.ID)
		}
	}
}
