package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/weirline/weirline/txn/txntest"
)

func TestMain(m *testing.M) {
	silence()
	txntest.Main(job)
	os.Exit(m.Run())
}

// Of each destination.
const (
	stepsEach   = 4
	mishapsEach = 1
)

// TestShare tries a share of the cells of each destination in both tables, which the seed chooses.
func TestShare(t *testing.T) {
	seed := rand.Uint64()
	if s := os.Getenv("WEIRLINE_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("WEIRLINE_SEED=%d replays this", seed)
	rnd := rand.New(rand.NewPCG(seed, 7))
	b := newBoard(t.TempDir(), seed, 1)
	defer b.kill()
	for _, d := range destinations {
		dies := regexp.MustCompile("^" + d.name + "/(" + dying() + ")$")
		cells := append(share(rnd, matching(matrix, dies), stepsEach), share(rnd, matching(timeouts, regexp.MustCompile("^"+d.name+"/")), mishapsEach)...)
		for _, c := range cells {
			t.Run(c.name(), func(t *testing.T) {
				if err := b.try(t.Context(), c, t.Logf); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// dying matches the rows in which processes die.
func dying() string {
	var names []string
	for _, s := range txntest.Steps() {
		names = append(names, string(s))
	}
	return strings.Join(names, "|")
}

func share(rnd *rand.Rand, cells []cell, n int) []cell {
	rnd.Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
	return cells[:n]
}

func TestCompare(t *testing.T) {
	want := truth()
	var all []row
	for r := range want {
		all = append(all, r)
	}
	if err := compare(all, want, txntest.Want{Over: true}); err != nil || len(all) != records {
		t.Errorf("the truth has %d results: %v", len(all), err)
	}
	wrong := slices.Clone(all)
	wrong[7].Sum++
	for name, got := range map[string][]row{"twice": append(slices.Clone(all), all[3]), "wrong": wrong} {
		for _, over := range []bool{false, true} {
			if err := compare(got, want, txntest.Want{Over: over}); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("a result that is %s, over %v: %v", name, over, err)
			}
		}
	}
	if err := compare(all[1:], want, txntest.Want{}); err != nil {
		t.Errorf("a result is missing before the end: %v", err)
	}
	if err := compare(all[1:], want, txntest.Want{Over: true}); err == nil {
		t.Error("a result is missing at the end, and nobody says so")
	}
}

// TestCompareAfterAMishap wants exactly what is said to be missing, repeated or cut off.
func TestCompareAfterAMishap(t *testing.T) {
	want := truth()
	var all, tail []row
	for r := range want {
		all = append(all, r)
		if r.N > 30 {
			tail = append(tail, r)
		}
	}
	gap := slices.DeleteFunc(slices.Clone(tail), func(r row) bool { return r.N == 77 })
	for _, c := range []struct {
		name string
		got  []row
		w    txntest.Want
		ok   bool
	}{
		{"one lost", all[1:], txntest.Want{Over: true, Lost: 1}, true},
		{"one lost of two", all[1:], txntest.Want{Over: true, Lost: 2}, false},
		{"two lost of one", all[2:], txntest.Want{Over: true, Lost: 1}, false},
		{"nothing lost of one", all, txntest.Want{Over: true, Lost: 1}, false},
		{"again", append(slices.Clone(all), all[5]), txntest.Want{Over: true, Again: true}, true},
		{"nothing again", all, txntest.Want{Over: true, Again: true}, false},
		{"again, and one is missing", append(slices.Clone(all[1:]), all[5]), txntest.Want{Over: true, Again: true}, false},
		{"tail", tail, txntest.Want{Over: true, Tail: true}, true},
		{"tail with a gap", gap, txntest.Want{Over: true, Tail: true}, false},
		{"no tail", nil, txntest.Want{Over: true, Tail: true}, false},
	} {
		if err := compare(c.got, want, c.w); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestTable(t *testing.T) {
	cells := matching(matrix, regexp.MustCompile("^(files|postgres-xa)/(in commit|broker killed|database killed)$"))
	b := newBoard(t.TempDir(), 1, 1)
	for _, c := range cells {
		b.outcomes[c.name()] = "ok"
	}
	b.outcomes["files/in commit"] = "FAIL"
	var out bytes.Buffer
	b.table(matrix, cells, &out)
	const table = `
                 files  postgres-xa
in commit        FAIL   ok
broker killed    ok     ok
database killed  -      ok
`
	if out.String() != table {
		t.Errorf("printed\n%s\nwant\n%s", out.String(), table)
	}
	if code := run(t.Context(), []string{"-set", "timeouts", "-only", "nothing"}, &out); code != 1 || !strings.HasSuffix(out.String(), "timeouts: 0 of 0 hold\n") {
		t.Errorf("no cell: exit code %d, printed\n%s", code, out.String())
	}
	if code := run(t.Context(), []string{"-only", "nothing"}, &out); code != 1 || !strings.HasSuffix(out.String(), "matrix: 0 of 0 hold\n") {
		t.Errorf("no cell: exit code %d, printed\n%s", code, out.String())
	}
}

func TestFind(t *testing.T) {
	for _, d := range destinations {
		if got, err := find(d.name); err != nil || got.name != d.name {
			t.Errorf("%s: found %q, %v", d.name, got.name, err)
		}
	}
	if _, err := find("nowhere"); err == nil {
		t.Error("there is a destination nowhere")
	}
}
