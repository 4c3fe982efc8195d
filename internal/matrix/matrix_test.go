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
	txntest.Main(job)
	os.Exit(m.Run())
}

const stepsEach = 4 // of each destination

// TestShare tries a share of the steps of each destination, which the seed chooses.
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
		steps := txntest.Steps()
		rnd.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
		for _, s := range steps[:stepsEach] {
			c := cell{d, string(s)}
			t.Run(c.name(), func(t *testing.T) {
				if err := b.try(t.Context(), c, t.Logf); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestCompare(t *testing.T) {
	want := truth()
	var all []row
	for r := range want {
		all = append(all, r)
	}
	if err := compare(all, want, true); err != nil || len(all) != records {
		t.Errorf("the truth has %d results: %v", len(all), err)
	}
	wrong := slices.Clone(all)
	wrong[7].Sum++
	for name, got := range map[string][]row{"twice": append(slices.Clone(all), all[3]), "wrong": wrong} {
		for _, over := range []bool{false, true} {
			if err := compare(got, want, over); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("a result that is %s, over %v: %v", name, over, err)
			}
		}
	}
	if err := compare(all[1:], want, false); err != nil {
		t.Errorf("a result is missing before the end: %v", err)
	}
	if err := compare(all[1:], want, true); err == nil {
		t.Error("a result is missing at the end, and nobody says so")
	}
}

func TestTable(t *testing.T) {
	cells := matching(regexp.MustCompile("^(files|postgres-xa)/(in commit|broker killed|database killed)$"))
	b := newBoard(t.TempDir(), 1, 1)
	for _, c := range cells {
		b.outcomes[c.name()] = "ok"
	}
	b.outcomes["files/in commit"] = "FAIL"
	var out bytes.Buffer
	b.table(cells, &out)
	const table = `
                 files  postgres-xa
in commit        FAIL   ok
broker killed    ok     ok
database killed  -      ok
`
	if out.String() != table {
		t.Errorf("printed\n%s\nwant\n%s", out.String(), table)
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
