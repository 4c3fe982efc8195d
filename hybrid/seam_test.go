package hybrid

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/weirline/weirline/internal/fault"
)

// TestSeam runs scripts of the switch: steps on the left, what is then stored on the right.
func TestSeam(t *testing.T) {
	const stages = 3
	derived := func(stage int) bool { return stage == 1 }
	for _, script := range []string{
		`-> {"stage":0}`,
		`inner AQ== -> {"stage":0,"inner":"AQ=="}`,
		`inner AQ==; restore -> {"stage":0,"inner":"AQ=="}`,
		`advance {"at":7} -> {"stage":1,"start":{"at":7}}`,
		`inner AQ==; done; advance {"at":7} -> {"stage":1,"start":{"at":7}}`,
		`advance {"at":7}; restore; done; restore -> {"stage":1,"start":{"at":7},"done":true}`,
		`advance 7; restore; advance; restore -> {"stage":2}`,
		`advance 7; advance; last -> {"stage":2}`,
	} {
		steps, want, _ := strings.Cut(script, "->")
		var s seam
		for _, step := range strings.Split(steps, ";") {
			verb, arg, _ := strings.Cut(strings.TrimSpace(step), " ")
			switch verb {
			case "inner":
				if err := json.Unmarshal([]byte(`{"inner":"`+arg+`"}`), &s); err != nil {
					t.Fatal(err)
				}
			case "done":
				s.Done = true
			case "advance":
				if s.isLast(stages) {
					t.Errorf("%s: can't advance", script)
				}
				s = s.advance(json.RawMessage(arg))
			case "last":
				if !s.isLast(stages) {
					t.Errorf("%s: not the last stage", script)
				}
			case "restore":
				b, err := s.encode()
				if err != nil {
					t.Fatal(err)
				}
				if s, err = decodeSeam(b, stages, derived); err != nil {
					t.Fatalf("%s: %v", script, err)
				}
			}
		}
		if b, err := s.encode(); err != nil || string(b) != strings.TrimSpace(want) {
			t.Errorf("%s: got %s, %v", script, b, err)
		}
	}
}

func TestSeamRefuses(t *testing.T) {
	derived := func(stage int) bool { return stage == 1 }
	for _, b := range []string{``, `x`, `{"stage":2}`, `{"stage":-1}`, `{"stage":1}`, `{"stage":0,"start":7}`} {
		if s, err := decodeSeam([]byte(b), 2, derived); fault.CodeOf(err) != fault.BadPosition.ID {
			t.Errorf("decodeSeam(%s) = %+v, %v", b, s, err)
		}
	}
}

func TestMineAndByStage(t *testing.T) {
	got := seam{Stage: 1}.mine([]Split{{Stage: 0, Name: "a"}, {Stage: 1, Name: "b/c"}, {Stage: 2, Name: "d"}})
	if len(got) != 1 || got[0].ID() != "1/b/c" {
		t.Errorf("mine = %v", got)
	}
	ids := byStage([]string{"1/b/c", "0/a", "x", "/", "1/d", "z/y"})
	if s := fmt.Sprint(ids); s != "map[0:[a] 1:[b/c d]]" {
		t.Errorf("byStage = %s", s)
	}
}
