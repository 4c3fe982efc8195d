package engine

import (
	"slices"
	"testing"

	"github.com/weirline/weirline/engine/store"
)

// TestAheadOfDrain: what key groups had reached is kept over a rescale, but not what a drain made them reach: records that
// were read after it would be late.
func TestAheadOfDrain(t *testing.T) {
	for _, c := range []struct {
		end  store.End
		want []int64
	}{
		{store.Running, []int64{10, 10, 30, 40}},
		{store.Drained, nil},
	} {
		rec := &store.Record{End: c.end, Operators: map[string]store.Operator{"w": {Parallelism: 2, Tasks: []store.Task{
			{Index: 0, Watermark: 10}, {Index: 1, Watermark: 30, Ahead: []int64{0, 40}},
		}}}}
		r := &restorer{job: &job{cfg: Config{KeyGroups: 4}}, rec: rec}
		if got := r.ahead("w", 0, 3, 10); !slices.Equal(got, c.want) {
			t.Errorf("after an epoch that is %v key groups are at %v, not %v", c.end, got, c.want)
		}
	}
}
