package sizes_test

import (
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/internal/sizes"
	"github.com/weirline/weirline/source"
)

type flat struct {
	A int64
	B [3]uint16
	C bool
}

type order struct {
	ID    string
	Cents int64
	notes []byte
}

type list struct {
	name string
	next *list
}

func weigh[T any](vs ...T) int64 { return sizes.Of[T]()(&source.Batch[T]{Values: vs}) }

func TestSizes(t *testing.T) {
	long := &list{name: "x"}
	long.next = long // a ring
	n := 7
	for _, c := range []struct {
		name      string
		got, want int64
	}{
		{"nothing", weigh[string](), 0},
		{"numbers", weigh[int32](1, 2, 3), 12},
		{"flat", weigh(flat{}, flat{}), 32},
		{"no bytes", weigh(struct{}{}, struct{}{}), 0},
		{"arrays of nothing", weigh([0]string{}), 0},
		{"strings", weigh("", "abc"), 2*16 + 3},
		{"bytes", weigh(make([]byte, 3, 10)), 24 + 10},
		{"struct", weigh(order{"1234", 1, make([]byte, 100)}), 48 + 4 + 100},
		{"strings in slices", weigh([]string{"a", "bc"}), 24 + 2*16 + 3},
		{"arrays", weigh([2]string{"a", "bc"}), 2*16 + 3},
		{"pointers", weigh(&n, nil), 2*8 + 8},
		{"interfaces", weigh[any](nil, int64(1), "abc"), 3*16 + 8 + 16 + 3},
		{"maps", weigh(map[string]int64{"abc": 1}), 8 + 16 + 8 + 3},
		{"flat maps", weigh(map[int64]int64{1: 1, 2: 2}), 8 + 32},
		{"no map", weigh[map[string]string](nil), 8},
		{"times", weigh(time.Time{}), 24},
		{"functions", weigh(func() {}), 8},
		{"a ring", weigh(long), 8 + (sizes.Depth+1)*24 + sizes.Depth},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d bytes, want %d", c.name, c.got, c.want)
		}
	}
}

// TestSamples has more records than are looked at.
func TestSamples(t *testing.T) {
	vs := make([]string, 1000)
	for i := range vs {
		vs[i] = strings.Repeat("x", i)
	}
	real := int64(16*len(vs) + len(vs)*(len(vs)-1)/2)
	if got := weigh(vs...); got < real*3/4 || got > real*5/4 {
		t.Errorf("estimated %d bytes of %d", got, real)
	}
	if got := weigh(vs); got < real*3/4 || got > real*5/4+24 {
		t.Errorf("in one slice, estimated %d bytes of %d", got, real)
	}
	weigh, b := sizes.Of[string](), &source.Batch[string]{Values: vs, Times: make([]int64, 10)}
	b.Reject([]byte("raw"), "", nil)
	if n := testing.AllocsPerRun(100, func() { weigh(b) }); n != 0 {
		t.Errorf("weighing a batch allocates %v times", n)
	}
	if got, values := weigh(b), weigh(&source.Batch[string]{Values: vs}); got != values+10*8+3 {
		t.Errorf("with times and a reject %d bytes, without %d", got, values)
	}
}

func BenchmarkStrings(b *testing.B) {
	weigh, batch := sizes.Of[order](), &source.Batch[order]{Values: make([]order, 512)}
	for b.Loop() {
		weigh(batch)
	}
}
