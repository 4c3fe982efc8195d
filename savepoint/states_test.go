package savepoint_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/savepoint"
	"github.com/weirline/weirline/state"
)

// kept is what the tasks of a made-up operator keep.
type kept struct {
	words map[string]int64 // by key
	queue [][]string       // an operator list for each task
	rules map[string]bool  // the same in all tasks
}

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// saved is a store with one checkpoint of that operator.
func saved(t *testing.T, k kept) (*store.Dir, *store.Record) {
	t.Helper()
	d := openAt(t, filepath.Join(t.TempDir(), "state"), store.Options{})
	n, err := d.NextEpoch()
	fatal(t, err)
	key, err := state.KeyOf[string]()
	fatal(t, err)
	op, groups := store.Operator{Parallelism: len(k.queue)}, 8
	for i := range k.queue {
		first, last := i*groups/len(k.queue), (i+1)*groups/len(k.queue)-1
		sc, lists := state.NewScope(key, groups, first, last), &state.Lists{}
		count, ends := state.NewValue[int64](sc, "count"), state.NewTimers(sc, "alarms")
		panes := state.NewPanes[int64](sc, "panes")
		for w, v := range k.words {
			h := key.Hash(w)
			if g := int((h >> 32) * uint64(groups) >> 32); g < first || g > last {
				continue
			}
			sc.SetKey(w, h)
			count.Set(v)
			ends.Add(noon.UnixMicro())
			*panes.At(noon.UnixMicro()) = v
		}
		state.NewOperatorList[string](lists, "queue").Set(k.queue[i])
		rules := state.NewBroadcast[string, bool](lists, "rules")
		for r, on := range k.rules {
			rules.Put(r, on)
		}
		fatal(t, errors.Join(sc.Err(), lists.Err()))
		op.Tasks = append(op.Tasks, taskOf(t, d, n, i, sc, lists))
	}
	rec := &store.Record{Epoch: n, Taken: noon, KeyGroups: groups, Operators: map[string]store.Operator{"count": op}}
	fatal(t, d.Publish(rec))
	return d, rec
}

func taskOf(t *testing.T, d *store.Dir, epoch uint64, i int, sc *state.Scope[string], lists *state.Lists) store.Task {
	t.Helper()
	w, err := d.Create(epoch, fmt.Sprint("task", i))
	fatal(t, err)
	sc.Capture()
	snap := sc.Captured()
	_, err = snap.WriteTo(w)
	fatal(t, err)
	snap.Release()
	b, err := w.Finish()
	fatal(t, err)
	task := store.Task{Index: i, Keyed: &b}
	for _, name := range lists.Names() {
		items, err := lists.Encode(name)
		fatal(t, err)
		task.Lists, task.Items = append(task.Lists, name), append(task.Items, items)
	}
	return task
}

func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestStatesAreSumsOverTasks(t *testing.T) {
	d, rec := saved(t, kept{
		words: map[string]int64{"a": 1, "b": 2, "c": 3}, queue: [][]string{{"x"}, {"y", "z"}}, rules: map[string]bool{"r": true},
	})
	desc := savepoint.Describe(rec)
	fatal(t, desc.DescribeStates(d, rec))
	var got []string
	for _, s := range desc.Operators[0].States {
		got = append(got, fmt.Sprint(s.Name, " ", s.Kind, " ", s.Signature, " ", s.Entries))
		if (s.Bytes > 0) != (s.Kind != "list" && s.Kind != "broadcast") {
			t.Errorf("%s has %d bytes", s.Name, s.Bytes)
		}
	}
	want := []string{
		"alarms timers string@int64 -> none 3", "count value string -> fixed:int64 3", "panes panes string -> fixed:int64 3",
		"queue list cbor:string 3", "rules broadcast broadcast:string -> fixed:bool 2",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestEntriesAreWholeAndInOrder(t *testing.T) {
	d, rec := saved(t, kept{words: map[string]int64{"a": 7}, queue: [][]string{{"x"}, nil}, rules: map[string]bool{"r": true}})
	var got []string
	for e, err := range savepoint.Entries(d, rec) {
		fatal(t, err)
		if e.Group != nil {
			e.Group = new(0)
		}
		b, err := json.Marshal(e)
		fatal(t, err)
		got = append(got, string(b))
	}
	slices.Sort(got) // which task has the key is up to its hash
	at := 0
	if e, _ := first(savepoint.Entries(d, rec)); e.Group == nil {
		at = 1
	}
	want := []string{
		`{"operator":"count","task":0,"state":"queue","value":"x"}`,
		`{"operator":"count","task":0,"state":"rules","key":"r","value":true}`,
		`{"operator":"count","task":1,"state":"rules","key":"r","value":true}`,
		fmt.Sprintf(`{"operator":"count","task":%d,"state":"alarms","group":0,"key":"a","at":"2026-11-21T12:00:00Z"}`, at),
		fmt.Sprintf(`{"operator":"count","task":%d,"state":"count","group":0,"key":"a","value":7}`, at),
		fmt.Sprintf(`{"operator":"count","task":%d,"state":"panes","group":0,"key":"a","window":"2026-11-21T12:00:00Z","value":7}`, at),
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// first is the first of a sequence; the rest isn't read.
func first(seq func(func(savepoint.Entry, error) bool)) (e savepoint.Entry, err error) {
	for e, err = range seq {
		return e, err
	}
	return e, err
}

func TestDiffNamesWhatChanged(t *testing.T) {
	old := kept{words: map[string]int64{"a": 1, "b": 2, "gone": 9}, queue: [][]string{{"x", "x"}}, rules: map[string]bool{"r": true}}
	a, was := saved(t, old)
	b, is := saved(t, kept{
		words: map[string]int64{"a": 1, "b": 3, "new": 4}, queue: [][]string{{"x"}, {"y"}, nil}, rules: map[string]bool{"r": true},
	})
	changes, err := savepoint.Diff(a, b, was, is, true)
	fatal(t, err)
	got, err := json.Marshal(changes)
	fatal(t, err)
	const when = " 2026-11-21T12:00:00Z"
	want := `[{"operator":"count","state":"alarms","added":1,"removed":1,"changed":0,"entries":[` +
		`{"key":"\"gone\" at` + when + `","was":null},{"key":"\"new\" at` + when + `","is":null}]},` +
		`{"operator":"count","state":"count","added":1,"removed":1,"changed":1,"entries":[` +
		`{"key":"\"b\"","was":2,"is":3},{"key":"\"gone\"","was":9},{"key":"\"new\"","is":4}]},` +
		`{"operator":"count","state":"panes","added":1,"removed":1,"changed":1,"entries":[` +
		`{"key":"\"b\" window` + when + `","was":2,"is":3},{"key":"\"gone\" window` + when + `","was":9},{"key":"\"new\" window` + when + `","is":4}]},` +
		`{"operator":"count","state":"queue","added":1,"removed":1,"changed":0,"entries":[` +
		`{"key":"\"x\" #2","was":"x"},{"key":"\"y\"","is":"y"}]}]` // the rules are the same, in one task or in three
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	short, err := savepoint.Diff(a, b, was, is, false)
	if err != nil || len(short) != 4 || short[1].Added+short[1].Removed+short[1].Changed != 3 || short[1].Entries != nil {
		t.Errorf("without entries: %+v, %v", short, err)
	}
	c, again := saved(t, old)
	if same, err := savepoint.Diff(a, c, was, again, true); err != nil || len(same) != 0 {
		t.Errorf("the same: %+v, %v", same, err)
	}
}

func TestDamagedAndNativeStateIsNamed(t *testing.T) {
	d, rec := saved(t, kept{words: map[string]int64{"a": 1}, queue: [][]string{{"x"}}})
	op := rec.Operators["count"]
	op.Tasks[0].Backend, op.Tasks[0].Files = "tables", []store.File{{Name: "1.sst", Blob: store.Blob{Size: 30}}, {Name: "2.sst", Blob: store.Blob{Size: 12}}}
	entries, errs := 0, 0
	for e, err := range savepoint.Entries(d, rec) {
		if err == nil {
			entries++
			continue
		}
		errs++
		want := `WL1118: operator count, task 0: the entries are in 2 files of the backend tables, 42 bytes, which it alone can read; ` +
			`fix: take a savepoint, and look at that: it has the entries of any backend`
		if err.Error() != want || e.Operator != "count" {
			t.Errorf("%+v, %v", e, err)
		}
	}
	if entries != 4 || errs != 1 { // what is beside the files is there
		t.Errorf("%d entries, %d errors", entries, errs)
	}
	if _, err := savepoint.Diff(d, d, rec, rec, false); fault.CodeOf(err) != fault.OtherBackend.ID {
		t.Errorf("diff: %v", err)
	}
	if desc := savepoint.Describe(rec); desc.Operators[0].Backend != "tables" || desc.Operators[0].Note == "" || len(desc.Operators[0].Files) != 2 {
		t.Errorf("described %+v", desc.Operators[0])
	}

	op.Tasks[0].Files = nil
	b := *op.Tasks[0].Keyed
	b.Inline = slices.Clone(b.Inline) // small as it is, it's in the record
	b.Inline[len(b.Inline)/2] ^= 1
	op.Tasks[0].Keyed = &b
	if _, err := savepoint.Diff(d, d, rec, rec, false); fault.CodeOf(err) != fault.DamagedEpoch.ID {
		t.Errorf("diff of what is damaged: %v", err)
	}
}
