package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestTexts: every planted bug still has its place.
func TestTexts(t *testing.T) {
	for _, m := range slices.Concat(mutants, planted, asyncSink) {
		for _, e := range m.edits {
			b, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(e.file)))
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(b), e.old); n != 1 {
				t.Errorf("%s: %s has the old text %d times:\n%s", m.name, e.file, n, e.old)
			}
		}
	}
}
