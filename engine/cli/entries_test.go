package cli

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirline/weirline/savepoint"
)

// exported is a line of checkpoint export.
type exported struct {
	Operator string          `json:"operator"`
	Task     *int            `json:"task"`
	State    string          `json:"state"`
	Group    *int            `json:"group"`
	Key      json.RawMessage `json:"key"`
	Value    json.RawMessage `json:"value"`
}

// lines decodes what a command printed, an object a line.
func lines[T any](t *testing.T, text string) (all []T) {
	t.Helper()
	for l := range strings.Lines(text) {
		var v T
		if err := json.Unmarshal([]byte(l), &v); err != nil {
			t.Fatalf("%v: %s", err, l)
		}
		all = append(all, v)
	}
	return all
}

// TestStateIsShownWithoutTheJob: states, entries and differences of what jobs that have ended left behind.
func TestStateIsShownWithoutTheJob(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	run := func(keep, count string) []string {
		at := []string{"-state", filepath.Join(dir, keep+count), "-keep", keep, "-parallelism", "2"}
		start(t, nil, append(at, "-out", out, "-count", count, "-checkpoint", "-1s")...).end(exitDone)
		return at
	}
	small, large := run("memory", "100"), run("memory", "105")

	shown := tell(t, exitDone, append([]string{"checkpoint", "show"}, small...))
	var d savepoint.Description
	if err := json.Unmarshal([]byte(shown), &d); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{}
	for _, op := range d.Operators {
		for _, s := range op.States {
			kinds[s.Name] = s.Kind
			if op.Name != "digits" || s.Signature == "" || s.Entries != map[string]int64{"first": 2}[s.Name] && s.Entries != 10 {
				t.Errorf("operator %s: %+v", op.Name, s)
			}
		}
	}
	if kinds["count"] != "value" || kinds["first"] != "list" || kinds["last.ends"] == "" {
		t.Errorf("states %v:\n%s", kinds, shown)
	}

	all := lines[exported](t, tell(t, exitDone, append([]string{"checkpoint", "export", "1"}, small...)))
	counts := lines[exported](t, tell(t, exitDone, []string{"checkpoint", "export", small[1], "-operator", "digits", "-state-name", "count"}))
	if len(all) != 32 || len(counts) != 10 { // three times ten keys, and two lists
		t.Errorf("%d entries, %d of the state count", len(all), len(counts))
	}
	for _, e := range counts {
		if e.Operator != "digits" || e.State != "count" || e.Task == nil || e.Group == nil || string(e.Value) != "10" {
			t.Errorf("exported %+v", e)
		}
	}
	for _, e := range all {
		if e.State == "first" && (e.Group != nil || e.Key != nil || e.Task == nil || !strings.HasPrefix(string(e.Value), `"a <`)) {
			t.Errorf("exported %+v", e)
		}
	}
	tell(t, exitUsage, []string{"checkpoint", "export", small[1], "-operator", "letters"}, "WL1501", `"letters"`, "checkpoint show")
	tell(t, exitUsage, append([]string{"checkpoint", "export"}, small...), "WL1501", "EPOCH|PATH")
	tell(t, exitUsage, append([]string{"checkpoint", "export", "99"}, small...), "WL1113", "no checkpoint 99")

	changes := lines[savepoint.Change](t, tell(t, exitDone, []string{"checkpoint", "diff", small[1], large[1], "-entries"}))
	if len(changes) != 2 && len(changes) != 3 { // the ends of the TTL differ too, and the first of a task may
		t.Errorf("changes %+v", changes)
	}
	for _, c := range changes {
		switch {
		case c.State == "count" && (c.Changed != 5 || c.Added+c.Removed != 0 || len(c.Entries) != 5),
			c.State == "count" && (c.Entries[0].Key != "0" || string(c.Entries[0].Was) != "10" || string(c.Entries[0].Is) != "11"):
			t.Errorf("change %+v", c)
		}
	}
	_, said := start(t, nil, append([]string{"checkpoint", "diff", "1", small[1]}, small...)...).end(exitDone)
	if !strings.Contains(said, "don't differ") {
		t.Errorf("a checkpoint and itself: %s", said)
	}
}

// TestFilesOfABackendAreNamed: what Pebble alone can read is said to be so, and a savepoint of it is read.
func TestFilesOfABackendAreNamed(t *testing.T) {
	dir := t.TempDir()
	at := []string{"-state", filepath.Join(dir, "state"), "-keep", "pebble", "-parallelism", "1"}
	save := filepath.Join(dir, "save")
	job := start(t, nil, append(at, "-out", filepath.Join(dir, "out"), "-rate", "1000", "-checkpoint", "50ms")...)
	job.await("first record written")
	tell(t, exitDone, append([]string{"checkpoint"}, at...), "is complete")
	tell(t, exitDone, append([]string{"stop", "-savepoint", save}, at...), "savepoint ")
	job.end(exitDone)

	var d savepoint.Description
	if err := json.Unmarshal([]byte(tell(t, exitDone, append([]string{"checkpoint", "show"}, at...))), &d); err != nil {
		t.Fatal(err)
	}
	var files, size int64
	for _, op := range d.Operators {
		for _, f := range op.Files {
			files, size = files+1, size+f.Size
		}
		if op.Name == "digits" && (op.Backend != "pebble" || !strings.Contains(op.Note, "savepoint")) {
			t.Errorf("operator %+v", op)
		}
	}
	if files == 0 || size == 0 {
		t.Errorf("%d files of the backend with %d bytes: %+v", files, size, d.Operators)
	}
	tell(t, exitFailed, []string{"checkpoint", "export", at[1]}, "WL1118", "digits", "pebble", "take a savepoint")
	tell(t, exitFailed, []string{"checkpoint", "diff", at[1], save}, "WL1118", "take a savepoint")
	if got := lines[exported](t, tell(t, exitDone, []string{"checkpoint", "export", save, "-state-name", "count"})); len(got) != 10 {
		t.Errorf("%d entries in the savepoint", len(got))
	}
}
