package files

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/weirline/weirline/enumerator"
	"github.com/weirline/weirline/internal/fault"
)

// A user who may read everything runs some test suites, so the refusal itself is made here.
func TestInputError(t *testing.T) {
	for _, c := range []struct {
		err  error
		code fault.Code
		fix  string
	}{
		{&fs.PathError{Op: "open", Path: "p", Err: fs.ErrPermission}, fault.Unreadable, `the right to read "p"`},
		{&fs.PathError{Op: "open", Path: "p", Err: fs.ErrNotExist}, fault.NoInput, `check the path "p"`},
		{&fs.PathError{Op: "read", Path: "p", Err: errors.New("input/output error")}, fault.Unreadable, `"p" is on`},
	} {
		err := inputError("p", "open", c.err)
		if fault.CodeOf(err) != c.code.ID || !strings.Contains(err.Error(), c.fix) || !errors.Is(err, c.err) {
			t.Errorf("inputError(%v) = %v", c.err, err)
		}
	}
}

// TestRangeOfShrunkenFile: a range that ends beyond the end of the file has lost lines, even if its beginning is there.
func TestRangeOfShrunkenFile(t *testing.T) {
	path := t.TempDir() + "/f"
	if err := os.WriteFile(path, []byte("one\ntwo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := openInput(enumerator.Part{Path: path, From: 0, To: 9}, 0)
	if fault.CodeOf(errors.Unwrap(err)) != fault.BadPosition.ID && !strings.Contains(err.Error(), fault.BadPosition.ID) {
		t.Errorf("got %v, %v", in, err)
	}
}
