package pebble

import (
	"encoding/binary"
	"math/rand/v2"
	"path/filepath"
	"testing"
)

// TestOpenDisksLeaveTheBlockCacheItsSize: what disks collect changes in doesn't take from what Options.BlockCache promises.
func TestOpenDisksLeaveTheBlockCacheItsSize(t *testing.T) {
	const disks, keys = 4, 8_000
	b := New(Options{BlockCache: 4 << 20, MemTable: 2 << 20})
	rnd := rand.New(rand.NewPCG(1, 2))
	for range disks {
		s, err := b.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		d := s.(*disk)
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		write(t, d, rnd, 0, keys)
		if err := d.Checkpoint(filepath.Join(t.TempDir(), "files")); err != nil {
			t.Fatal(err)
		}
		write(t, d, rnd, keys, keys+keys/3) // stays in memory
		for k := range uint64(keys) {
			if _, ok, err := d.Get(keyOf(k), nil); !ok || err != nil {
				t.Fatalf("key %d: %t, %v", k, ok, err)
			}
		}
	}
	if got := b.blocks.Size(); got < b.o.BlockCache/2 {
		t.Errorf("%d bytes of blocks are in the cache of %d", got, b.o.BlockCache)
	}
}

func keyOf(k uint64) []byte { return binary.BigEndian.AppendUint64(nil, k) }

// write sets keys to values that can't be compressed.
func write(t *testing.T, d *disk, rnd *rand.Rand, from, to uint64) {
	t.Helper()
	value := make([]byte, 512)
	for k := from; k < to; k++ {
		for i := range value {
			value[i] = byte(rnd.Uint32())
		}
		b := d.Batch()
		if err := b.Set(keyOf(k), value); err != nil {
			t.Fatal(err)
		}
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
	}
}
