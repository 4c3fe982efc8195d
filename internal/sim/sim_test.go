package sim_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/weirline/weirline/internal/sim"
)

// number is an environment variable, or what to use without it.
func number(t *testing.T, name string, unset uint64) uint64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return unset
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestSim runs WEIRLINE_SEEDS seeds from WEIRLINE_FROM on, with WEIRLINE_FIRST up to the first that fails; or WEIRLINE_SEED alone, WEIRLINE_TRIES times or until it fails.
func TestSim(t *testing.T) {
	if os.Getenv("WEIRLINE_SEED") != "" {
		replay(t, number(t, "WEIRLINE_SEED", 0), number(t, "WEIRLINE_TRIES", 50))
		return
	}
	from := number(t, "WEIRLINE_FROM", 1)
	var epochs, runs, crashes int
	var restarts int64
	failed, one := false, os.Getenv("WEIRLINE_FIRST") != ""
	for seed := from; seed < from+number(t, "WEIRLINE_SEEDS", 300) && !(failed && one); seed++ {
		progress(t, seed)
		res := sim.NewPlan(seed).Run(t)
		if len(res.Wrongs) > 0 {
			failed = true
			t.Errorf("seed %d: replay with\n\tWEIRLINE_SEED=%d go test ./internal/sim -run TestSim\n%s", seed, seed, first(res.Wrongs))
		}
		epochs, runs, crashes, restarts = epochs+res.Epochs, runs+res.Runs, crashes+res.Crashes, restarts+res.Restarts
	}
	t.Logf("%d epochs in %d runs, %d crashes, %d restarts", epochs, runs, crashes, restarts)
}

// progress tells the soak which seed is running, in case the process dies of it.
func progress(t *testing.T, seed uint64) {
	if name := os.Getenv("WEIRLINE_PROGRESS"); name != "" {
		if err := os.WriteFile(name, []byte(fmt.Sprint(seed)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func first(wrongs []string) string { return strings.Join(wrongs[:min(len(wrongs), 3)], "\n") }

func replay(t *testing.T, seed, tries uint64) {
	p := sim.NewPlan(seed)
	t.Log(p)
	for i := range tries {
		if res := p.Run(t); len(res.Wrongs) > 0 {
			t.Fatalf("try %d:\n%s", i+1, strings.Join(res.Wrongs, "\n"))
		}
	}
	t.Logf("seed %d holds, %d times", seed, tries)
}
