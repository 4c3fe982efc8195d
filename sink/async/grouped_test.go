package async

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/sink"
)

// TestSnapshotByGroup has records on their way, waiting and refused: each is in the part of its group, in order, with those of the
// group only.
func TestSnapshotByGroup(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		d := &dest{answer: func(_ context.Context, b []rec) error {
			if b[0].N == 0 {
				return &sink.Rejected{Errs: map[int]error{0: errDown}}
			}
			<-gate
			return nil
		}}
		w := open(t, d, Sink[rec]{MaxBatch: 2, MaxInFlight: 1})
		write(t, w, rec{"a", 0}, rec{"b", 1}, rec{"c", 2}, rec{"a", 3}, rec{"a", 4}, rec{"c", 5}, rec{"b", 6})
		synctest.Wait() // a0 is refused, b1 delivered, two are on their way, the rest waits
		by := func(v any) int { return int(v.(rec).K[0]) }
		parts, err := w.SnapshotBy(by)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, g := range slices.Sorted(maps.Keys(parts)) {
			got = append(got, stored(t, parts[g]))
		}
		equal(t, "parts", strings.Join(got, " "), "[a0 a3 a4] [b6] [c2 c5]")
		whole, err := w.Snapshot()
		equal(t, "error", err, nil)
		equal(t, "state", stored(t, whole), "[a0 c2 a3 a4 c5 b6]")
		close(gate)
		w.Rejects()
		flush(t, w)
		parts, err = w.SnapshotBy(by)
		equal(t, "error", err, nil)
		equal(t, "parts when all is delivered", fmt.Sprint(parts), "map[]")
	})
}
