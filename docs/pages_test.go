package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// shown says which files the Go code of a page must be found in.
var shown = map[string][]string{
	"../README.md":        {"../examples/hello/main.go"},
	"writing-a-source.md": {"numbers_test.go", "lines_test.go", "queue_test.go"},
	"writing-a-sink.md":   {"latest_test.go", "post_test.go", "append_test.go", "sql/orders_test.go"},
	"dead-letters.md":     {"deadletters_test.go"},
	"streams.md":          {"streams_test.go"},
	"state.md":            {"state_test.go"},
	"write-ahead.md":      {"../sink/ahead/example_test.go", "../connector/redis/example_test.go"},

	"connectors/files.md":      {"../connector/files/example_test.go"},
	"connectors/http.md":       {"../connector/http/example_test.go"},
	"connectors/mysql.md":      {"../connector/mysql/example_test.go"},
	"connectors/objects.md":    {"../connector/objects/example_test.go"},
	"connectors/opensearch.md": {"../connector/opensearch/example_test.go"},
	"connectors/postgres.md":   {"../connector/postgres/example_test.go"},
	"connectors/redis.md":      {"../connector/redis/example_test.go"},
}

var goBlock = regexp.MustCompile("(?s)```go\n(.*?)```")

// notShown returns the blocks of Go code in page that code doesn't contain as they stand.
func notShown(page string, code []string) (blocks int, bad []string) {
	for _, m := range goBlock.FindAllStringSubmatch(page, -1) {
		blocks++
		found := false
		for _, c := range code {
			found = found || strings.Contains(c, m[1])
		}
		if !found {
			bad = append(bad, m[1])
		}
	}
	return blocks, bad
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.FromSlash(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPagesShowWhatIsTested(t *testing.T) {
	for page, names := range shown {
		var code []string
		for _, n := range names {
			code = append(code, read(t, n))
		}
		blocks, bad := notShown(read(t, page), code)
		if blocks == 0 {
			t.Errorf("%s shows no code", page)
		}
		for _, b := range bad {
			t.Errorf("%s shows what isn't in %v:\n%s", page, names, b)
		}
	}
	if _, bad := notShown("```go\na()\n```\n```go\nb()\n```\n", []string{"x\na()\n"}); len(bad) != 1 || bad[0] != "b()\n" {
		t.Errorf("the test itself finds %q, want b()", bad)
	}
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)

// Links between pages, and from them to files, must lead somewhere.
func TestLinks(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	up, err := filepath.Glob("../*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, up...) {
		for _, m := range link.FindAllStringSubmatch(goBlock.ReplaceAllString(read(t, page), ""), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), filepath.FromSlash(m[1]))); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}
