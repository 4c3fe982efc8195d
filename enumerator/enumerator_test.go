package enumerator_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/enumerator"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/source"
)

type item string

func (i item) ID() string { return string(i) }

func newEnum(t *testing.T, e source.NewEnumerator[item], parallelism int) source.Enumerator[item] {
	t.Helper()
	out, err := e(t.Context(), source.Task{Parallelism: parallelism})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestPolicies: event, unassigned splits and load of each live reader; what is given.
func TestPolicies(t *testing.T) {
	up, down := source.Event[item]{Kind: source.ReaderUp, Reader: 1}, source.Event[item]{Kind: source.ReaderDown, Reader: 1}
	found, wanted := source.Event[item]{Kind: source.Found}, source.Event[item]{Kind: source.Wanted, Reader: 1}
	for _, c := range []struct {
		name   string
		policy enumerator.Policy
		ev     source.Event[item]
		free   string
		load   map[int]int
		want   string
	}{
		{"pull: one for a reader that comes up", enumerator.Pull, up, "a b c", map[int]int{0: 1, 1: 0}, "1:a"},
		{"pull: none for one that was given restored ones as it came up", enumerator.Pull, up, "b", map[int]int{1: 1}, ""},
		{"pull: one for a reader that ran dry", enumerator.Pull, wanted, "a b", map[int]int{0: 1, 1: 0}, "1:a"},
		{"pull: a busy reader that asks is heard", enumerator.Pull, wanted, "a b", map[int]int{0: 1, 1: 1}, "1:a"},
		{"pull: idle readers get what is found", enumerator.Pull, found, "a b c", map[int]int{2: 0, 0: 0, 1: 3}, "0:a 2:b"},
		{"pull: nothing to give", enumerator.Pull, wanted, "", map[int]int{1: 0}, ""},
		{"pull: a reader that is gone gets nothing", enumerator.Pull, wanted, "a", map[int]int{0: 1}, ""},
		{"pull: nobody there", enumerator.Pull, found, "a", nil, ""},
		{"spread: evenly, to the least loaded", enumerator.Spread, found, "a b c d e", map[int]int{0: 2, 1: 0, 2: 1}, "1:a 1:b 2:c 0:d 1:e"},
		{"spread: waits until all are up", enumerator.Spread, up, "a b", map[int]int{0: 0, 1: 0}, ""},
		{"spread: waits for one that restarts", enumerator.Spread, down, "a b", map[int]int{0: 0, 2: 0}, ""},
		{"spread: nobody there", enumerator.Spread, found, "a", nil, ""},
	} {
		var free []item
		for f := range strings.FieldsSeq(c.free) {
			free = append(free, item(f))
		}
		e := newEnum(t, enumerator.With(enumerator.Options{Policy: c.policy}, enumerator.Static[item]()), 3)
		for range 2 { // the same each time
			view := source.NewAssignments(free, cloneLoad(c.load))
			e.Assign(c.ev, view)
			var got []string
			for _, g := range view.Given() {
				got = append(got, fmt.Sprint(g.Reader, ":", g.Split))
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%s: gave %q, want %q", c.name, got, c.want)
			}
			if len(view.Unassigned())+len(got) != len(free) {
				t.Errorf("%s: %d splits are left of %d", c.name, len(view.Unassigned()), len(free))
			}
		}
	}
}

func cloneLoad(in map[int]int) map[int]int {
	out := map[int]int{}
	for k, v := range in {
		out[k] = v
	}
	return out
}

func TestSpreadOfManyIsQuick(t *testing.T) {
	free := make([]item, 50_000)
	for i := range free {
		free[i] = item(fmt.Sprint(i))
	}
	view := source.NewAssignments(free, map[int]int{0: 0, 1: 0, 2: 0, 3: 0})
	start := time.Now()
	enumerator.Deal(enumerator.Spread, 4, source.Event[item]{Kind: source.Found}, view)
	if took := time.Since(start); len(view.Given()) != len(free) || took > 5*time.Second {
		t.Errorf("%d of %d given in %v", len(view.Given()), len(free), took)
	}
}

func TestListRetriesAfterAnError(t *testing.T) {
	fail := errors.New("not now")
	calls := 0
	e := newEnum(t, enumerator.List(func(context.Context) ([]item, error) {
		if calls++; calls == 1 {
			return nil, fail
		}
		return []item{"a", "b"}, nil
	}), 1)
	if _, done, err := e.Discover(t.Context()); !errors.Is(err, fail) || done {
		t.Errorf("first: %v, %v", done, err)
	}
	if found, done, err := e.Discover(t.Context()); err != nil || !done || !slices.Equal(found, []item{"a", "b"}) {
		t.Errorf("second: %v, %v, %v", found, done, err)
	}
}

func TestWatch(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		fail, calls := error(nil), 0
		e := newEnum(t, enumerator.Watch(func(context.Context) ([]item, error) {
			calls++
			return []item{item(fmt.Sprint(calls))}, fail
		}, time.Minute), 1)
		start := time.Now()
		for i, c := range []struct {
			fail  error
			after time.Duration
		}{{nil, 0}, {nil, time.Minute}, {errors.New("x"), 2 * time.Minute}, {nil, 2 * time.Minute}, {nil, 3 * time.Minute}} {
			fail = c.fail
			found, done, err := e.Discover(t.Context())
			if done || (err != nil) != (c.fail != nil) || err == nil && len(found) != 1 || time.Since(start) != c.after {
				t.Errorf("call %d after %v: %v, %v, %v; want it after %v", i, time.Since(start), found, done, err, c.after)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := e.Discover(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while it waits: %v", err)
		}
	})
}

func TestEqualBytes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 500 {
		var files []enumerator.Part
		var total int64
		for i := range rng.IntN(6) {
			f := enumerator.Part{Path: fmt.Sprint("f", i), From: rng.Int64N(5)}
			f.To = f.From + rng.Int64N(20)
			total += f.Len()
			files = append(files, f)
		}
		n := 1 + rng.IntN(40)
		out := enumerator.EqualBytes(files, n)
		if len(out) != n {
			t.Fatalf("%d lists, want %d", len(out), n)
		}
		var flat []enumerator.Part
		for i, parts := range out {
			var size int64
			for _, p := range parts {
				if p.Len() <= 0 {
					t.Fatalf("%v of %v is empty", p, files)
				}
				size += p.Len()
				flat = append(flat, p)
			}
			if want := total / int64(n); size < want || size > want+1 {
				t.Fatalf("list %d of %d has %d of %d bytes", i, n, size, total)
			}
		}
		checkCover(t, files, flat)
	}
}

// checkCover: the ranges are the files, cut.
func checkCover(t *testing.T, files, flat []enumerator.Part) {
	t.Helper()
	for _, f := range files {
		at := f.From
		for len(flat) > 0 && flat[0].Path == f.Path && flat[0].From == at {
			at = flat[0].To
			flat = flat[1:]
		}
		if at != f.To {
			t.Fatalf("file %v is covered up to %d", f, at)
		}
	}
	if len(flat) > 0 {
		t.Fatalf("ranges %v are left", flat)
	}
}

func TestEqualBytesOfHugeFiles(t *testing.T) {
	out := enumerator.EqualBytes([]enumerator.Part{{Path: "a", To: math.MaxInt64 - 1}}, 3)
	if out[2][0].To != math.MaxInt64-1 || out[1][0].From != out[0][0].To || out[0][0].Len() != math.MaxInt64/3 {
		t.Errorf("got %v", out)
	}
}

func TestDirectories(t *testing.T) {
	var in []enumerator.Part
	for _, p := range []string{"b/2", "a/x/1", "b/1", "a/2", "a-b/1", "a/1"} {
		in = append(in, enumerator.Part{Path: p, To: -1})
	}
	var got []string
	for _, dir := range enumerator.Directories(in) {
		for _, p := range dir {
			got = append(got, p.Path)
		}
		got = append(got, "|")
	}
	if s := strings.Join(got, " "); s != "a/1 a/2 | a-b/1 | a/x/1 | b/1 b/2 |" {
		t.Error(s)
	}
}
