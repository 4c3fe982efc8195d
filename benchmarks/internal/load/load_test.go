package load

import (
	"slices"
	"testing"

	"github.com/weirline/weirline/source"
)

func TestFillMakes(t *testing.T) {
	var b source.Batch[Event]
	for _, from := range []int64{0, 1, 99_999_999_998} {
		FillTimed(1_000_003)(from, 3, 500, &b)
		FillTimed(1_000_003)(from+1500, 3, 1, &b)
		var want []Event
		for i := range int64(501) {
			want = append(want, Make(from+3*i, 1_000_003))
		}
		if !slices.Equal(b.Values, want) {
			t.Errorf("filled from %d: not what Make makes", from)
		}
		for i, at := range b.Times {
			if at != want[i].At*1000 {
				t.Fatalf("time %d is %d, want %d", i, at, want[i].At*1000)
			}
		}
		b.Reset()
	}
}
