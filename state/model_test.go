package state

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
)

const testGroups = 16

// acc is an accumulator with a map and a slice inside: it must be encoded before it's handed out.
type acc struct {
	Seen  map[string]int64
	Order []int64
}

// person is flat, but of no fixed size.
type person struct {
	Name string
	Age  int32
}

type structKey struct {
	User  string
	Shard int8
	On    bool
	Tag   [3]byte
}

// world is a job of several tasks beside a plain model of what they should hold.
type world[K comparable] struct {
	tb     testing.TB
	r      *rand.Rand
	key    *Key[K]
	keys   []K
	groups int
	tasks  []*task[K]
	disk   Backend // nil: all in memory
	still  bool    // don't evict

	sum    map[K]int64
	person map[K]person
	acc    map[K]acc
	list   map[K][]string
	dict   map[K]map[int32]string
	panes  map[int64]map[K]benchAcc
	accs   map[int64]map[K]acc
	timers map[K]map[int64]bool
}

// task has the handles of one task.
type task[K comparable] struct {
	sc     *Scope[K]
	sum    Value[int64]
	person Value[person]
	acc    Value[acc]
	list   List[string]
	dict   Map[int32, string]
	panes  *Panes[K, benchAcc]
	accs   *Panes[K, acc]
	timers *Timers[K]
}

// seed is the seed of a random test, from WEIRLINE_SEED or new; a failure shows it.
func seed(tb testing.TB) *rand.Rand {
	s := rand.Uint64()
	if v, err := strconv.ParseUint(os.Getenv("WEIRLINE_SEED"), 10, 64); err == nil {
		s = v
	}
	tb.Logf("WEIRLINE_SEED=%d", s)
	return rand.New(rand.NewPCG(s, 1))
}

func newWorld[K comparable](tb testing.TB, r *rand.Rand, keys []K, parallelism int) *world[K] {
	return newWorldOn(tb, r, keys, parallelism, nil)
}

func newWorldOn[K comparable](tb testing.TB, r *rand.Rand, keys []K, parallelism int, disk Backend) *world[K] {
	key, err := KeyOf[K]()
	if err != nil {
		tb.Fatal(err)
	}
	w := &world[K]{
		tb: tb, r: r, key: key, keys: keys, groups: testGroups, disk: disk,
		sum: map[K]int64{}, person: map[K]person{}, acc: map[K]acc{}, list: map[K][]string{}, dict: map[K]map[int32]string{},
		panes: map[int64]map[K]benchAcc{}, accs: map[int64]map[K]acc{}, timers: map[K]map[int64]bool{},
	}
	w.tasks = w.open(parallelism, nil)
	return w
}

// open makes the tasks of a parallelism, restored from files.
func (w *world[K]) open(parallelism int, files [][]byte) []*task[K] {
	return w.openOver(parallelism, files, func(sc *Scope[K]) error {
		if w.disk == nil {
			return nil
		}
		d, err := w.disk.Open(w.tb.TempDir())
		if err != nil {
			return err
		}
		w.tb.Cleanup(func() { closeDisk(w.tb, d) })
		return w.useDisk(sc, d)
	})
}

// useDisk has small states rewrite key groups too, most of the time.
func (w *world[K]) useDisk(sc *Scope[K], d Disk) error {
	err := sc.UseDisk(d)
	if err == nil && w.r.IntN(4) > 0 {
		sc.back.least = w.r.IntN(3000)
		sc.back.fewest = w.r.IntN(40)
	}
	return err
}

func closeDisk(tb testing.TB, d Disk) {
	if err := d.Close(); err != nil {
		tb.Error(err)
	}
}

func (w *world[K]) openOver(parallelism int, files [][]byte, under func(sc *Scope[K]) error) []*task[K] {
	var tasks []*task[K]
	for i := range parallelism {
		first, last := Range(i, parallelism, w.groups)
		sc := NewScope(w.key, w.groups, first, last)
		if err := under(sc); err != nil {
			w.tb.Fatal(err)
		}
		for _, f := range files {
			if err := sc.Restore(bytes.NewReader(f), int64(len(f))); err != nil {
				w.tb.Fatal(err)
			}
		}
		t := &task[K]{sc: sc}
		t.sum = NewValue[int64](sc, "sum")
		t.person = NewValue[person](sc, "person")
		t.acc = NewValue[acc](sc, "acc")
		t.list = NewList[string](sc, "list")
		t.dict = NewMap[int32, string](sc, "dict")
		t.panes = NewPanes[benchAcc](sc, "panes")
		t.accs = NewPanes[acc](sc, "accs")
		t.timers = NewTimers(sc, "timers")
		if err := sc.Err(); err != nil {
			w.tb.Fatal(err)
		}
		if u := sc.Unclaimed(); len(u) > 0 {
			w.tb.Fatalf("unclaimed: %v", u)
		}
		tasks = append(tasks, t)
	}
	return tasks
}

func (w *world[K]) at(tasks []*task[K], k K) *task[K] {
	h := w.key.Hash(k)
	t := tasks[Owner(Group(h, w.groups), len(tasks), w.groups)]
	t.sc.SetKey(k, h)
	return t
}

// step does one random thing to the tasks and to the model.
func (w *world[K]) step() {
	if w.disk != nil && !w.still && w.r.IntN(8) == 0 {
		w.tasks[w.r.IntN(len(w.tasks))].sc.Warm(nil)
	}
	k := w.keys[w.r.IntN(len(w.keys))]
	t, n := w.at(w.tasks, k), w.r.Int64N(100)
	switch w.r.IntN(16) {
	case 0, 1, 2:
		*t.sum.Ref() += n
		w.sum[k] += n
	case 3:
		t.sum.Clear()
		delete(w.sum, k)
	case 4:
		w.person[k] = person{fmt.Sprint("p", n), int32(n)}
		t.person.Set(w.person[k])
	case 5:
		t.person.Clear()
		delete(w.person, k)
	case 6, 7:
		w.stepAcc(t, k, n)
	case 8:
		t.list.Add(fmt.Sprint(n))
		w.list[k] = append(w.list[k], fmt.Sprint(n))
		if n < 20 {
			t.list.Clear()
			delete(w.list, k)
		}
	case 9:
		w.stepDict(t, k, int32(n%5), fmt.Sprint(n))
	case 10, 11, 12:
		w.stepPane(t, k, n)
	case 13, 14:
		w.stepTimer(t, k, n)
	default:
		w.stepEnd(n)
	}
}

func (w *world[K]) stepAcc(t *task[K], k K, n int64) {
	if n < 20 {
		t.acc.Clear()
		delete(w.acc, k)
		return
	}
	a := w.acc[k]
	if v, ok := t.acc.Get(); ok && v.Seen != nil && n < 60 {
		v.Seen["via get"] += n // a reader that writes through the map
		a.Seen["via get"] += n
		return
	}
	change(&a, n)
	w.acc[k] = a
	change(t.acc.Ref(), n)
}

func change(a *acc, n int64) {
	if a.Seen == nil {
		a.Seen = map[string]int64{}
	}
	a.Seen[fmt.Sprint(n%7)]++
	if len(a.Order) > 3 {
		a.Order[0] = n
	} else {
		a.Order = append(a.Order, n)
	}
}

func (w *world[K]) stepDict(t *task[K], k K, mk int32, v string) {
	if w.r.IntN(3) == 0 {
		t.dict.Delete(mk)
		delete(w.dict[k], mk)
		return
	}
	t.dict.Put(mk, v)
	if w.dict[k] == nil {
		w.dict[k] = map[int32]string{}
	}
	w.dict[k][mk] = v
}

func (w *world[K]) stepPane(t *task[K], k K, n int64) {
	start := w.r.Int64N(6) * 500
	if n < 50 {
		if w.panes[start] == nil {
			w.panes[start] = map[K]benchAcc{}
		}
		a := t.panes.At(start)
		a.N++
		a.Sum += n
		w.panes[start][k] = *a
		return
	}
	if w.accs[start] == nil {
		w.accs[start] = map[K]acc{}
	}
	a := w.accs[start][k]
	change(&a, n)
	w.accs[start][k] = a
	change(t.accs.At(start), n)
}

func (w *world[K]) stepTimer(t *task[K], k K, n int64) {
	if w.timers[k] == nil {
		w.timers[k] = map[int64]bool{}
	}
	if n < 30 {
		t.timers.Delete(n % 10)
		delete(w.timers[k], n%10)
		return
	}
	t.timers.Add(n % 30)
	w.timers[k][n%30] = true
}

// stepEnd now and then fires and drops a window, or pops timers.
func (w *world[K]) stepEnd(n int64) {
	start := n % 6 * 500
	switch {
	case n < 4:
		for _, t := range w.tasks {
			w.fire(t, start)
		}
		delete(w.panes, start)
	case n < 6:
		for _, t := range w.tasks {
			t.accs.Drop(start)
		}
		delete(w.accs, start)
	case n < 10:
		for _, t := range w.tasks {
			w.pop(t, n)
		}
	}
}

func (w *world[K]) fire(t *task[K], start int64) {
	first, last := t.sc.Groups()
	for g := first; g <= last; g++ {
		err := t.panes.FireGroup(start, g, func(k K, a *benchAcc) error {
			if *a != w.panes[start][k] {
				w.tb.Errorf("fired %v %v, want %v", k, *a, w.panes[start][k])
			}
			delete(w.panes[start], k)
			a.N = -1
			return nil
		})
		if err != nil {
			w.tb.Error(err)
		}
	}
	t.panes.Drop(start)
}

func (w *world[K]) pop(t *task[K], upTo int64) {
	before := int64(-1 << 62)
	err := t.timers.Pop(upTo, func(k K, h uint64, at int64) error {
		if !w.timers[k][at] || at < before || h != w.key.Hash(k) || t.sc.Key() != k {
			w.tb.Errorf("popped %v at %d after %d: set %v", k, at, before, w.timers[k][at])
		}
		before = at
		delete(w.timers[k], at)
		return nil
	})
	if next, ok := t.timers.Next(); err != nil || ok && next <= upTo {
		w.tb.Errorf("after Pop(%d): next %d %v, error %v", upTo, next, ok, err)
	}
}

// want lists all that the model holds.
func (w *world[K]) want() map[string]string {
	m := map[string]string{}
	put := func(state string, k K, v any) { m[fmt.Sprintf("%s/%#v", state, k)] = fmt.Sprint(v) }
	for k, v := range w.sum {
		put("sum", k, v)
	}
	for k, v := range w.person {
		put("person", k, v)
	}
	for k, v := range w.acc {
		put("acc", k, v)
	}
	for k, v := range w.list {
		put("list", k, v)
	}
	for k, v := range w.dict {
		if len(v) > 0 {
			put("dict", k, v)
		}
	}
	for s, p := range w.panes {
		for k, v := range p {
			put(fmt.Sprint("panes", s), k, v)
		}
	}
	for s, p := range w.accs {
		for k, v := range p {
			put(fmt.Sprint("accs", s), k, v)
		}
	}
	for k, ts := range w.timers {
		if len(ts) > 0 {
			put("timers", k, slices.Sorted(maps.Keys(ts)))
		}
	}
	return m
}

// got lists all that tasks hold. It fires and pops, so they are no good afterwards.
func (w *world[K]) got(tasks []*task[K]) map[string]string {
	m := map[string]string{}
	put := func(state string, k K, v any) { m[fmt.Sprintf("%s/%#v", state, k)] = fmt.Sprint(v) }
	for _, k := range w.keys {
		t := w.at(tasks, k)
		if v, ok := t.sum.Get(); ok {
			put("sum", k, v)
		}
		if v, ok := t.person.Get(); ok {
			put("person", k, v)
		}
		if v, ok := t.acc.Get(); ok {
			put("acc", k, v)
		}
		if v := t.list.All(); len(v) > 0 {
			put("list", k, v)
		}
		if t.dict.Len() > 0 {
			put("dict", k, maps.Collect(t.dict.All()))
		}
	}
	for _, t := range tasks {
		first, last := t.sc.Groups()
		timers := map[K][]int64{}
		_ = t.timers.Pop(1<<62, func(k K, _ uint64, at int64) error { timers[k] = append(timers[k], at); return nil })
		for k, v := range timers {
			put("timers", k, v)
		}
		for g := first; g <= last; g++ {
			for _, s := range t.panes.Starts() {
				_ = t.panes.FireGroup(s, g, func(k K, a *benchAcc) error { put(fmt.Sprint("panes", s), k, *a); return nil })
			}
			for _, s := range t.accs.Starts() {
				_ = t.accs.FireGroup(s, g, func(k K, a *acc) error { put(fmt.Sprint("accs", s), k, *a); return nil })
			}
		}
	}
	return m
}

func diff(tb testing.TB, got, want map[string]string) {
	tb.Helper()
	shown := 0
	for k, v := range want {
		if g, ok := got[k]; !ok || g != v {
			tb.Errorf("%s = %q, want %q", k, g, v)
			shown++
		}
		if shown > 10 {
			tb.FailNow()
		}
	}
	for k, v := range got {
		if _, ok := want[k]; !ok {
			tb.Fatalf("%s = %q, should not be there", k, v)
		}
	}
}
