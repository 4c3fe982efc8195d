package state_test

import (
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/weirline/weirline/state"
	"github.com/weirline/weirline/state/pebble"
)

// The model holds over Pebble too, with caches from far too small to large enough.
func TestPebbleSnapshotIsTheStateAtCapture(t *testing.T) {
	state.ModelOver(t, func(room int64) state.Backend {
		return pebble.New(pebble.Options{Room: room, BlockCache: 1 << 20, MemTable: 1 << 18})
	})
}

// sizes are the files of a directory.
func sizes(tb testing.TB, dir string) map[string]int64 {
	tb.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	out := map[string]int64{}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			tb.Fatal(err)
		}
		out[f.Name()] = info.Size()
	}
	return out
}

// linked checkpoints a scope and returns the files it has.
func linked(tb testing.TB, sc *state.Scope[int64], dir string) map[string]int64 {
	tb.Helper()
	sc.Capture()
	s := sc.Captured()
	defer s.Release()
	if err := s.Checkpoint(dir); err != nil {
		tb.Fatal(err)
	}
	if _, err := s.WriteTo(io.Discard); err != nil {
		tb.Fatal(err)
	}
	return sizes(tb, dir)
}

// After touching one key in a hundred, wherever they lie, a checkpoint adds files of at most five hundredths of the state,
// time after time.
func TestCheckpointsAreIncremental(t *testing.T) {
	const keys = 200_000
	key, err := state.KeyOf[int64]()
	if err != nil {
		t.Fatal(err)
	}
	d, err := pebble.New(pebble.Options{}).Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	sc := state.NewScope(key, 128, 0, 127)
	if err := sc.UseDisk(d); err != nil {
		t.Fatal(err)
	}
	sum := state.NewValue[int64](sc, "sum")
	add := func(k int64) {
		sc.SetKey(k, key.Hash(k))
		*sum.Ref() += k
	}
	for k := range int64(keys) {
		add(k)
	}
	before := linked(t, sc, filepath.Join(t.TempDir(), "full"))
	full := int64(0)
	for _, n := range before {
		full += n
	}
	r, most := rand.New(rand.NewPCG(1, 1)), int64(0)
	for round := range 10 {
		for range keys / 100 {
			add(r.Int64N(keys))
		}
		now, added := linked(t, sc, filepath.Join(t.TempDir(), "next")), int64(0)
		for name, n := range now {
			if before[name] != n {
				added += n
			}
		}
		if added*20 > full {
			t.Errorf("checkpoint %d adds %d bytes, the whole is %d", round, added, full)
		}
		before, most = now, max(most, added)
	}
	t.Logf("figure: %d of %d keys touched, a checkpoint adds at most %.2f %% of the full size", keys/100, keys, 100*float64(most)/float64(full))
}
