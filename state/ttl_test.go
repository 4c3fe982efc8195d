package state

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

var noon = time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)

// at sets the key, as the engine would.
func at(sc *Scope[int64], k int64) { sc.SetKey(k, sc.keys.Hash(k)) }

// restoredScope is a scope with what is in a file, at a time.
func restoredScope(tb testing.TB, b []byte, now time.Time) *Scope[int64] {
	tb.Helper()
	sc := NewScope(keyOf[int64](tb), 4, 0, 3)
	sc.Tick(now)
	if err := sc.Restore(bytes.NewReader(b), int64(len(b))); err != nil {
		tb.Fatal(err)
	}
	return sc
}

// kinds is one state of each kind that may have a TTL, and what each has for the current key.
type kinds struct {
	value Value[int64]
	list  List[string]
	dict  Map[string, int32]
	most  Reducing[int64]
	mean  Aggregating[[2]float64, float64, float64]
}

func declareKinds(sc *Scope[int64], ttl ...TTL) kinds {
	return kinds{
		NewValue[int64](sc, "value", ttl...), NewList[string](sc, "list", ttl...), NewMap[string, int32](sc, "dict", ttl...),
		NewReducing(sc, "most", func(acc *int64, v int64) { *acc = max(*acc, v) }, ttl...),
		NewAggregating(sc, "mean", func(acc *[2]float64, v float64) { acc[0], acc[1] = acc[0]+v, acc[1]+1 },
			func(acc *[2]float64) float64 { return acc[0] / acc[1] }, ttl...),
	}
}

func (k kinds) write(n int64) {
	k.value.Set(n)
	k.list.Add("a", "b")
	k.dict.Put("x", int32(n))
	k.most.Add(n - 1)
	k.most.Add(n)
	k.most.Add(n - 2)
	k.mean.Add(1)
	k.mean.Add(2)
}

func (k kinds) show() string {
	v, ok1 := k.value.Get()
	m, ok2 := k.most.Get()
	a, ok3 := k.mean.Get()
	x, ok4 := k.dict.Get("x")
	return fmt.Sprint(v, ok1, m, ok2, a, ok3, x, ok4, k.list.All(), k.dict.Len())
}

const (
	whole = "7 true 7 true 1.5 true 7 true [a b] 1"
	none  = "0 false 0 false 0 false 0 false [] 0"
)

func TestTTLHidesWhatHasEnded(t *testing.T) {
	for _, onRead := range []bool{false, true} {
		sc := NewScope(keyOf[int64](t), 4, 0, 3)
		sc.Tick(noon)
		ks := declareKinds(sc, TTL{After: time.Hour, OnRead: onRead})
		if sc.Err() != nil {
			t.Fatal(sc.Err())
		}
		for _, k := range []int64{0, 5} { // the zero key lies elsewhere
			at(sc, k)
			ks.write(7)
		}
		want := []string{whole, whole, none}
		if onRead {
			want[2] = whole
		}
		for i, after := range []time.Duration{30 * time.Minute, time.Hour - time.Microsecond, time.Hour} {
			sc.Tick(noon.Add(after))
			at(sc, 5)
			if got := ks.show(); got != want[i] {
				t.Errorf("on read %v, after %v: %s, want %s", onRead, after, got, want[i])
			}
		}
		sc.Tick(noon.Add(4 * time.Hour))
		at(sc, 5)
		if got := ks.show(); got != none {
			t.Errorf("on read %v: %s outlives all", onRead, got)
		}
		if ks.write(7); ks.show() != whole {
			t.Errorf("on read %v: a new life begins with %s", onRead, ks.show())
		}
	}
}

// What has ended starts from nothing when it's written again.
func TestTTLRefStartsAnew(t *testing.T) {
	sc := NewScope(keyOf[int64](t), 4, 0, 3)
	sc.Tick(noon)
	ks := declareKinds(sc, TTL{After: time.Second})
	at(sc, 1)
	ks.write(100)
	sc.Tick(noon.Add(time.Second))
	if *ks.value.Ref() != 0 {
		t.Error("Ref shows a value that has ended")
	}
	ks.value.Set(7)
	ks.list.Add("a", "b")
	ks.dict.Put("x", 7)
	ks.most.Add(7)
	ks.mean.Add(1.5)
	if got := ks.show(); got != whole {
		t.Errorf("%s, want %s", got, whole)
	}
}

// A TTL may be added to a stored state and taken away from it.
func TestTTLMayComeAndGo(t *testing.T) {
	hour := TTL{After: time.Hour}
	for _, c := range []struct {
		was, is     []TTL
		later, look time.Duration
		want        string
	}{
		{nil, nil, 48 * time.Hour, 0, whole},
		{[]TTL{hour}, []TTL{hour}, 30 * time.Minute, 29 * time.Minute, whole},
		{[]TTL{hour}, []TTL{hour}, 30 * time.Minute, 30 * time.Minute, none}, // the stored end holds
		{[]TTL{hour}, []TTL{{After: 3 * time.Hour}}, 30 * time.Minute, 30 * time.Minute, none},
		{[]TTL{hour}, []TTL{hour}, time.Hour, 0, none},
		{nil, []TTL{hour}, 48 * time.Hour, 59 * time.Minute, whole}, // lives from the restore on
		{nil, []TTL{hour}, 48 * time.Hour, time.Hour, none},
		{[]TTL{hour}, nil, 30 * time.Minute, 48 * time.Hour, whole},
		{[]TTL{hour}, nil, time.Hour, 0, none}, // had ended before
		{[]TTL{hour}, []TTL{{After: -1}}, 30 * time.Minute, 48 * time.Hour, whole},
	} {
		sc := NewScope(keyOf[int64](t), 4, 0, 3)
		sc.Tick(noon)
		ks := declareKinds(sc, c.was...)
		at(sc, 9)
		ks.write(7)
		to := restoredScope(t, fileOf(t, sc), noon.Add(c.later))
		ks = declareKinds(to, c.is...)
		if to.Err() != nil {
			t.Fatal(to.Err())
		}
		at(to, 9)
		to.Tick(noon.Add(c.later + c.look))
		if got := ks.show(); got != c.want {
			t.Errorf("%v to %v, restored after %v, seen after %v: %s, want %s", c.was, c.is, c.later, c.look, got, c.want)
		}
	}
}

// Compaction takes what nobody accesses.
func TestTTLCompaction(t *testing.T) {
	const keys = 20000
	sc := NewScope(keyOf[int64](t), 4, 0, 3)
	sc.Tick(noon)
	ks := declareKinds(sc, TTL{After: time.Minute})
	for k := range int64(keys) {
		at(sc, k)
		ks.value.Set(k)
		ks.list.Add("x")
	}
	full := len(fileOf(t, sc))
	at(sc, 1)
	sc.Tick(noon.Add(50 * time.Second))
	ks.value.Set(11)
	ks.list.Add("y")
	sc.Capture() // it goes on while a capture runs
	ticks := 0
	for ; ks.value.s.(*mortal[int64, int64]).t.total() > 1 || ks.list.s.(*mortal[int64, []string]).t.total() > 1; ticks++ {
		if ticks > 10*keys/compactSlots {
			t.Fatalf("%d ticks did not remove what has ended", ticks)
		}
		sc.Tick(noon.Add(time.Minute + time.Duration(ticks)*100*time.Millisecond))
	}
	if ticks < keys/compactSlots {
		t.Errorf("%d ticks removed %d keys: a tick does too much", ticks, keys)
	}
	sc.AbortCapture()
	if size := len(fileOf(t, sc)); size > full/100 {
		t.Errorf("%d of %d bytes are stored of a state that has ended but for one key", size, full)
	}
	at(sc, 1)
	if v, ok := ks.value.Get(); v != 11 || !ok || fmt.Sprint(ks.list.All()) != "[x y]" {
		t.Errorf("the key that lives has %d, %v, %v", v, ok, ks.list.All())
	}
}

// A value with a TTL behaves like a map of values and times, through captures and restores too.
func TestTTLAgainstModel(t *testing.T) {
	r := seed(t)
	type life struct{ val, until int64 }
	for range 20 {
		ttl := TTL{After: time.Duration(1+r.IntN(50)) * time.Microsecond, OnRead: r.IntN(2) == 0}
		after, now := ttl.After.Microseconds(), noon.UnixMicro()
		model := map[int64]life{}
		sc := NewScope(keyOf[int64](t), 4, 0, 3)
		sc.Tick(noon)
		v := NewValue[int64](sc, "v", ttl)
		for range 3000 {
			k := int64(r.IntN(40))
			at(sc, k)
			m, lives := model[k], model[k].until > now
			switch r.IntN(12) {
			case 0, 1:
				now += int64(r.IntN(5))
				sc.Tick(time.UnixMicro(now))
			case 2, 3, 4:
				v.Set(now)
				model[k] = life{now, now + after}
			case 5, 6:
				if !lives {
					m = life{}
				}
				*v.Ref()++
				model[k] = life{m.val + 1, now + after}
			case 7:
				v.Clear()
				delete(model, k)
			case 8:
				if !sc.Capturing() {
					sc.Capture()
				}
				sc.Sweep(100)
			case 9:
				if r.IntN(20) == 0 {
					sc.AbortCapture()
					sc = restoredScope(t, fileOf(t, sc), time.UnixMicro(now))
					v = NewValue[int64](sc, "v", ttl)
				}
			default:
				got, ok := v.Get()
				if ok != lives || ok && got != m.val {
					t.Fatalf("key %d at %d has %d %v, the model %v", k, now, got, ok, m)
				}
				if lives && ttl.OnRead {
					model[k] = life{m.val, now + after}
				}
			}
		}
	}
}

func TestTwoTTLsAreRefused(t *testing.T) {
	sc := NewScope(keyOf[int64](t), 4, 0, 3)
	if NewValue[int64](sc, "v", TTL{After: 1}, TTL{After: 2}); sc.Err() == nil {
		t.Error("two TTLs were taken")
	}
}

// Over a disk what has ended is hidden too, stays hidden when it's restored, and leaves memory and disk when compaction finds
// it in memory or it's accessed.
func TestTTLOverADisk(t *testing.T) {
	ttl := TTL{After: time.Hour}
	for _, room := range []int64{1, 1 << 30} {
		open := func(dir string, now time.Time) (*Scope[int64], *plainDisk) {
			sc := NewScope(keyOf[int64](t), 4, 0, 3)
			sc.Tick(now)
			d, err := sorted{room: room}.Open(dir)
			if err == nil {
				err = sc.UseDisk(d)
			}
			if err != nil {
				t.Fatal(err)
			}
			return sc, d.(*plainDisk)
		}
		save := func(sc *Scope[int64]) string {
			dir := filepath.Join(t.TempDir(), "files")
			sc.Capture()
			snap := sc.Captured()
			defer snap.Release()
			if err := snap.Checkpoint(dir); err != nil {
				t.Fatal(err)
			}
			return dir
		}
		const keys = 500
		sc, _ := open(t.TempDir(), noon)
		v := NewValue[int64](sc, "v", ttl)
		write := func(from int64) {
			for k := from; k < keys; k += 2 {
				at(sc, k)
				v.Set(k)
				sc.Warm(nil)
			}
		}
		shown := func(want int) {
			t.Helper()
			n := 0
			for k := range int64(keys) {
				at(sc, k)
				if got, ok := v.Get(); ok && got == k {
					n++
				}
				sc.Warm(nil)
			}
			if n != want {
				t.Fatalf("room %d: %d keys are seen, want %d", room, n, want)
			}
		}
		write(0)
		sc.Tick(noon.Add(30 * time.Minute))
		write(1)
		shown(keys)
		dir := save(sc)

		sc, _ = open(dir, noon.Add(59*time.Minute))
		v = NewValue[int64](sc, "v", ttl)
		shown(keys)
		sc.Tick(noon.Add(time.Hour))
		shown(keys / 2)
		sc.Tick(noon.Add(90 * time.Minute))
		if room > 1 { // all is in memory by now
			for i := range 100 {
				sc.Tick(noon.Add(90*time.Minute + time.Duration(i)*time.Minute))
			}
			if n := v.s.(*mortal[int64, int64]).t.total(); n > 0 {
				t.Errorf("compaction left %d keys in memory", n)
			}
		} else {
			shown(0)
		}
		sc, d := open(save(sc), noon.Add(3*time.Hour))
		v = NewValue[int64](sc, "v", ttl)
		shown(0)
		if len(d.all) > 10 {
			t.Errorf("room %d: the disk still has %d pairs of a state that has ended", room, len(d.all))
		}
	}
}
