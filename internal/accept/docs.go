package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func docChecks() []check {
	return []check{{"docs/readme", readme}, {"docs/architecture", architecture}}
}

// readme shows a pipeline of about thirty lines, which a test compares with one that is compiled, two commands and a picture.
func readme(_ context.Context, e *env) (string, error) {
	text, err := e.page("README.md")
	if err != nil {
		return "", err
	}
	_, code, found := strings.Cut(text, "```go\n")
	code, _, closed := strings.Cut(code, "```")
	lines := strings.Count(code, "\n")
	if !found || !closed || lines > 32 {
		return "", fmt.Errorf("want a pipeline of at most about thirty lines, found one of %d", lines)
	}
	for _, piece := range []string{"make run", "KAFKA=", "docs/images/weblog.png"} {
		if !strings.Contains(text, piece) {
			return "", fmt.Errorf("it doesn't show %s", piece)
		}
	}
	picture, err := os.Stat(filepath.Join(e.root, "docs", "images", "weblog.png"))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("a pipeline of %d lines, the two commands, a picture of %d KiB", lines, picture.Size()>>10), want(picture.Size() > 20<<10, "the picture is hardly one")
}

// architecture has the sections that were promised.
func architecture(_ context.Context, e *env) (string, error) {
	text, err := e.page("ARCHITECTURE.md")
	if err != nil {
		return "", err
	}
	var headings []string
	for _, l := range strings.Split(text, "\n") {
		if strings.HasPrefix(l, "## ") {
			headings = append(headings, strings.ToLower(l))
		}
	}
	all := strings.Join(headings, "\n")
	for _, word := range []string{"record", "epoch", "goroutine", "files", "obvious"} {
		if !strings.Contains(all, word) {
			return "", fmt.Errorf("no heading has the word %q", word)
		}
	}
	return fmt.Sprintf("%d sections: the life of a record and of an epoch, goroutines, files, what is not obvious", len(headings)), nil
}

func (e *env) page(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(e.root, name))
	return string(b), err
}
