package groups_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/weirline/weirline/internal/groups"
)

func even(g int) bool { return g%2 == 0 }

func TestDeal(t *testing.T) {
	packed := groups.Pack(map[int][]byte{300: []byte("d"), 2: []byte("bb"), 1: []byte("a"), 7: nil})
	for name, c := range map[string]struct {
		state []byte
		mine  bool
		owns  func(int) bool
		want  string
	}{
		"by group":                    {packed, false, even, "[bb d]"},
		"by group, of a task's own":   {packed, true, func(int) bool { return false }, "[]"},
		"whole, to its task":          {packed, true, nil, "[a bb d]"},
		"whole, to another":           {packed, false, nil, "[]"},
		"not by group":                {[]byte("state"), true, even, "[state]"},
		"not by group, to another":    {[]byte("state"), false, even, "[]"},
		"none":                        {nil, true, even, "[]"},
		"by group, nothing was there": {groups.Pack(map[int][]byte{7: {}}), true, nil, "[]"},
	} {
		parts, err := groups.Deal(c.state, c.mine, c.owns)
		if got := fmt.Sprintf("%s", parts); err != nil || got != c.want {
			t.Errorf("%s: got %s, %v; want %s", name, got, err, c.want)
		}
	}
	if again := groups.Pack(map[int][]byte{1: []byte("a"), 2: []byte("bb"), 300: []byte("d")}); !bytes.Equal(again, packed) {
		t.Errorf("the same parts are %q and %q", packed, again)
	}
}

func FuzzDeal(f *testing.F) {
	packed := groups.Pack(map[int][]byte{1: []byte("a"), 300: []byte("bb")})
	for n := range len(packed) + 1 {
		f.Add(packed[:n])
	}
	f.Fuzz(func(t *testing.T, state []byte) {
		parts, err := groups.Deal(state, true, nil)
		size := 0
		for _, p := range parts {
			size += len(p)
		}
		if err == nil && size > len(state) {
			t.Errorf("%d bytes of %d", size, len(state))
		}
	})
}
