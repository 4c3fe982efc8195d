package engine_test

import (
	"slices"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/engine/store"
)

// slotsOf runs a job to its end, and returns which slots its sink was given.
func slotsOf(t *testing.T, dir, job, op string) []string {
	t.Helper()
	to := &slotLog{Tx: enginetest.NewTx[keyCount]()}
	p := engine.New(engine.Config{Name: job, Dir: dir, Parallelism: 1})
	engine.ToTx(engine.From(p, "in", gen.Source[keyCount]{Make: func(int64) keyCount { return keyCount{} }, Count: 3}), op, to)
	must(t, p.Run(t.Context()))
	if len(to.slots) == 0 {
		t.Fatal("no slot")
	}
	return to.slots
}

// TestNoTwoJobsShareSlots has names that are the same when job and operator stand next to each other.
func TestNoTwoJobsShareSlots(t *testing.T) {
	of := map[string]string{} // slot -> who has it
	for _, c := range [][2]string{
		{"a", "b-c-d"}, {"a-b", "c-d"}, {"a-b-c", "d"}, {"a--b", "c-d"}, {"a-", "b-c-d"}, {"a", "b--c-d"}, {"a-b-", "c-d"}, {"a", "b"}, {"a-b", "c"}, {"a", "b-c"},
	} {
		who := c[0] + "/" + c[1]
		for _, s := range slotsOf(t, t.TempDir(), c[0], c[1]) {
			if other := of[s]; other != "" {
				t.Errorf("slot %s is that of %s and of %s", s, other, who)
			}
			of[s] = who
		}
	}
}

// TestOldStateKeepsItsSlots goes on from a record that was written when dashes weren't doubled: what is left under the names of
// that time is still to be cleared.
func TestOldStateKeepsItsSlots(t *testing.T) {
	dir := t.TempDir()
	d, err := store.Open(dir, store.Options{Job: "a-b"})
	must(t, err)
	n, err := d.NextEpoch()
	must(t, err)
	must(t, d.Publish(&store.Record{Epoch: n, Taken: time.Now(), KeyGroups: 8}))
	must(t, d.Close())
	if slots := slotsOf(t, dir, "a-b", "c"); !slices.Contains(slots, "a-b-c-0") {
		t.Errorf("slots %q", slots)
	}
}
