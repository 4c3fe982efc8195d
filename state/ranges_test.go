package state

import (
	"fmt"
	"maps"
	"math/bits"
	"testing"
)

// rangesModel is panes beside a map of all that was added.
type rangesModel struct {
	sc     *Scope[string]
	key    *Key[string]
	panes  *Panes[string, []int64]
	ranges *Ranges[string, []int64]
	all    map[int64]map[string]int64 // by pane and key
	merges int
}

const (
	rangesStep   = 10
	rangesOrigin = 3
)

func newRangesModel(t *testing.T, count int) *rangesModel {
	t.Helper()
	m := &rangesModel{key: keyOf[string](t), all: map[int64]map[string]int64{}}
	m.sc = NewScope(m.key, 8, 2, 5)
	m.panes = NewPanes[[]int64](m.sc, "panes")
	m.ranges = NewRanges(m.panes, rangesStep, rangesOrigin, count, func(into, from *[]int64) {
		m.merges++
		addTo(into, (*from)[0])
	})
	return m
}

// addTo adds to an accumulator that has a pointer in it, so that an alias shows.
func addTo(a *[]int64, v int64) {
	if *a == nil {
		*a = []int64{0}
	}
	(*a)[0] += v
}

func (m *rangesModel) add(pane int64, k string, v int64) {
	m.set(k)
	addTo(m.panes.At(pane), v)
	m.ranges.Late(pane, func(a *[]int64) { addTo(a, v) })
	if m.all[pane] == nil {
		m.all[pane] = map[string]int64{}
	}
	m.all[pane][k] += v
}

func (m *rangesModel) set(k string) { m.sc.SetKey(k, m.key.Hash(k)) }

// check compares a window, key by key and as a whole.
func (m *rangesModel) check(t *testing.T, start int64, count int) {
	t.Helper()
	want, got := map[string]int64{}, map[string]int64{}
	for i := range int64(count) {
		for k, v := range m.all[start+i*rangesStep] {
			want[k] += v
		}
	}
	for g := 2; g <= 5; g++ {
		err := m.ranges.EachGroup(start, count, g, func(k string, a *[]int64) error {
			got[k] += (*a)[0]
			(*a)[0] = -1 // a copy
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if !maps.Equal(got, want) {
		t.Fatalf("window %d of %d panes: got %v, want %v", start, count, got, want)
	}
	for k, v := range want {
		m.set(k)
		if a := *m.ranges.Get(start, count); a[0] != v {
			t.Fatalf("window %d of %d panes, key %q: got %d, want %d", start, count, k, a[0], v)
		}
	}
}

// owned are keys of the model's groups, the zero key only if it happens to be one.
func (m *rangesModel) owned(n int) (ks []string) {
	for i := 0; len(ks) < n; i++ {
		k := fmt.Sprint(i)
		if i == 0 {
			k = ""
		}
		if g := Group(m.key.Hash(k), 8); g >= 2 && g <= 5 {
			ks = append(ks, k)
		}
	}
	return ks
}

func TestRangesAgainstASum(t *testing.T) {
	r := seed(t)
	for _, count := range []int{1, 2, 5, 7, 8, 9, 16, 37, 64} {
		m := newRangesModel(t, count)
		ks := m.owned(20)
		every := int64(1 + r.IntN(count))
		base := rangesOrigin + rangesStep*every*(r.Int64N(100)-50)
		for w := range int64(3 * count) {
			start := base + w*every*rangesStep
			for range 3 * count { // in the window and behind it, and late for windows before
				pane := start + rangesStep*r.Int64N(int64(count)+5)
				m.add(pane, ks[r.IntN(len(ks))], 1+r.Int64N(100))
			}
			m.check(t, start, count)
			for pane := start; pane < start+every*rangesStep; pane += rangesStep {
				for g := 2; g <= 5; g++ {
					m.ranges.ClearGroup(pane, g)
				}
				m.ranges.Drop(pane)
				delete(m.all, pane)
			}
			if n := len(m.panes.Starts()); n > count+int(every)+5 {
				t.Fatalf("%d panes are left for windows of %d", n, count)
			}
		}
		for l := range m.ranges.levels {
			if n, most := len(m.ranges.levels[l].panes.Starts()), count>>l; n > most {
				t.Errorf("%d nodes of %d panes are left for windows of %d", n, 2<<l, count)
			}
		}
	}
}

func TestRangesShareWork(t *testing.T) {
	const count, keys = 1000, 10
	m := newRangesModel(t, count)
	ks := m.owned(keys)
	windows := 0
	for i := range int64(3 * count) {
		for _, k := range ks {
			m.add(rangesOrigin+i*rangesStep, k, 1)
		}
		if i < count {
			continue
		}
		start := rangesOrigin + (i-count)*rangesStep
		for g := 2; g <= 5; g++ {
			if err := m.ranges.EachGroup(start, count, g, func(string, *[]int64) error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
		m.ranges.Drop(start)
		windows++
	}
	if most := keys * (2*bits.Len(count) + 4); m.merges > windows*most {
		t.Errorf("%d merges for %d windows of %d panes with %d keys each; want at most %d a window", m.merges, windows, count, keys, most)
	}
}
