package state

import (
	"testing"

	"github.com/weirline/weirline/internal/fault"
)

// A disk in a form that this binary doesn't read is refused before anything is changed.
func TestOtherFormsOfTheDisk(t *testing.T) {
	for version, want := range map[byte]string{
		diskFormat - 1: fault.BadState.ID,
		diskFormat + 1: fault.NewerFormat.ID,
	} {
		d := &plainDisk{}
		b := d.Batch()
		if err := b.Set(metaKey(""), appendNumbers([]byte{version}, 4, 0, 4)); err != nil {
			t.Fatal(err)
		}
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		if _, err := newBacking(d, groupRange{4, 0, 3}); fault.CodeOf(err) != want {
			t.Errorf("version %d: %v, want %s", version, err, want)
		}
	}
}

// Chunks of a pack that aren't whole are damage, not less state.
func TestDamagedPacks(t *testing.T) {
	key, err := KeyOf[int64]()
	if err != nil {
		t.Fatal(err)
	}
	d := &plainDisk{sorted: sorted{room: 1 << 20}}
	sc := NewScope(key, 1, 0, 0)
	if err := sc.UseDisk(d); err != nil {
		t.Fatal(err)
	}
	sum := NewValue[int64](sc, "sum")
	for k := range int64(100) {
		sc.SetKey(k, key.Hash(k))
		sum.Set(k)
	}
	sc.Capture()
	sc.Captured().Release()
	at := -1
	for i, p := range d.all {
		if p.K[0] == 0 && p.K[1] == 1 && p.K[4] == tagPack {
			at = i
		}
	}
	if at < 0 {
		t.Fatalf("no pack among %d entries", len(d.all))
	}
	whole := d.all[at].V
	for n := range len(whole) {
		d.all[at].V = whole[:n]
		if err := readBack(key, d); fault.CodeOf(err) != fault.StateDir.ID {
			t.Fatalf("%d of %d bytes: %v", n, len(whole), err)
		}
	}
	d.all[at].V = whole
	if err := readBack(key, d); err != nil {
		t.Error(err)
	}
}

// readBack asks for a key, as a task would after a restore.
func readBack(key *Key[int64], d Disk) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err, _ = r.(error)
		}
	}()
	sc := NewScope(key, 1, 0, 0)
	if err := sc.UseDisk(d); err != nil {
		return err
	}
	sum := NewValue[int64](sc, "sum")
	sc.SetKey(7, key.Hash(7))
	if v, ok := sum.Get(); v != 7 || !ok {
		return errShort
	}
	return nil
}
