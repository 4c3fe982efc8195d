package deadletter

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// seed is the test's own, or the one to replay.
func seed(t *testing.T) uint64 {
	s := uint64(time.Now().UnixNano())
	if v := os.Getenv("WEIRLINE_SEED"); v != "" {
		var err error
		if s, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed %d (WEIRLINE_SEED)", s)
	return s
}

// TestRanges adds random ranges and compares with a set of numbers.
func TestRanges(t *testing.T) {
	r := rand.New(rand.NewPCG(seed(t), 1))
	for range 500 {
		var rs ranges
		set := map[int64]bool{}
		for range r.IntN(30) {
			first := r.Int64N(40)
			last := first + r.Int64N(1+r.Int64N(6))
			rs = rs.add(first, last)
			for n := first; n <= last; n++ {
				set[n] = true
			}
		}
		for n := int64(-2); n < 50; n++ {
			if rs.has(n) != set[n] {
				t.Fatalf("%v: has(%d) is %v", rs, n, rs.has(n))
			}
		}
		for i := 1; i < len(rs); i++ {
			if rs[i][0] <= rs[i-1][1]+1 {
				t.Fatalf("%v: ranges that touch aren't joined", rs)
			}
		}
	}
}

func TestMarksOfAnotherFormatAreRefused(t *testing.T) {
	for _, data := range []string{`{"format":2,"operator":"a"}`, `{"format":1,"operator":"b"}`, `{`} {
		if _, err := readMarks([]byte(data), "a"); err == nil {
			t.Errorf("%s was read", data)
		}
	}
	m, err := readMarks([]byte(`{"format":1,"operator":"a","done":{"x":[[3,5]]}}`), "a")
	if err != nil || !m.has(Place{"x", 4}) || m.has(Place{"x", 6}) || m.has(Place{"y", 4}) {
		t.Errorf("%+v, %v", m, err)
	}
	if all := ranges(nil).add(1, 1).add(2, 2); !slices.Equal(all, ranges{{1, 2}}) {
		t.Errorf("1 and 2 are %v", all)
	}
}
