package blob_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/engine/store/blob"
)

// TestHolder looks who has the claim: whoever opened the store and hasn't closed it.
func TestHolder(t *testing.T) {
	m := newMemory()
	look := func() string {
		s, err := blob.OpenBucket(m, store.Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		return s.Holder()
	}
	s, err := blob.OpenBucket(m, options())
	if err != nil {
		t.Fatal(err)
	}
	if who := look(); !strings.HasPrefix(who, fmt.Sprintf("process %d on ", os.Getpid())) {
		t.Errorf("a claim that was taken: %q", who)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if who := look(); who != "" {
		t.Errorf("a claim that was given back: %q", who)
	}
}
