package cli

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirline/weirline/engine"
)

var rewrite = flag.Bool("rewrite", false, "write golden files anew")

// TestPlanGolden draws the plan that package engine has as its own golden file: every kind of link, sink and source.
func TestPlanGolden(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "testdata", "plan.json"))
	if err != nil {
		t.Fatal(err)
	}
	var pl engine.Plan
	if err := json.Unmarshal(text, &pl); err != nil {
		t.Fatal(err)
	}
	if got := planJSON(pl); got != string(text) {
		t.Errorf("the plan as JSON differs:\n%s", got)
	}
	for name, got := range map[string]string{"plan.dot": planDOT(pl), "plan.txt": planText(pl)} {
		file := filepath.Join("testdata", name)
		if *rewrite {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs; run the test with -rewrite if that is meant. Got:\n%s", file, got)
		}
	}
}

func TestPlanQuotesHostileNames(t *testing.T) {
	pl := engine.Plan{Job: `a"]; evil [label="`, Operators: []engine.PlanOperator{{Name: "x\\\"\n}", Kind: "map", Task: "x\\\"\n}"}}}
	dot := planDOT(pl)
	if !strings.HasPrefix(dot, `digraph "a\"]; evil [label=\"" {`) || !strings.Contains(dot, `"x\\\"\n}" [label=`) {
		t.Errorf("not quoted:\n%s", dot)
	}
}
