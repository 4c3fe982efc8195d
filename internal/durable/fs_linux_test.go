package durable

import (
	"os"
	"path/filepath"
	"testing"
)

// TestLinkElsewhere copies from a file system that can't be linked from.
func TestLinkElsewhere(t *testing.T) {
	want, err := os.ReadFile("/proc/version")
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "v")
	if err := OS.Link("/proc/version", to); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(to); err != nil || string(got) != string(want) {
		t.Errorf("copied %q, %v", got, err)
	}
	if err := OS.Link("/proc/version", to); err == nil {
		t.Error("a file that exists was written over")
	}
}
