package plain_test

import (
	"testing"

	"github.com/weirline/weirline/internal/plain"
)

func TestBytes(t *testing.T) {
	type open struct{ A string }
	type closed struct{ a string }
	for _, v := range []any{nil, closed{"x"}, func() {}, []any{1}, map[string]any{}} {
		if b := plain.Bytes(v); b != nil {
			t.Errorf("%#v is %x, though a part of such values would be lost", v, b)
		}
	}
	for range 2 { // the second time its type is known
		got, err := plain.Decode[open](plain.Bytes(open{"a\xff"}))
		if err != nil || got.A != "a\xff" {
			t.Errorf("read back %q, %v", got.A, err)
		}
	}
}
