package state

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"testing"

	"github.com/weirline/weirline/internal/fault"
)

// encoded is what a task stores that declares one list and fills it.
func encoded(tb testing.TB, fill func(l *Lists)) []byte {
	tb.Helper()
	var l Lists
	fill(&l)
	if l.Err() != nil || len(l.Names()) != 1 {
		tb.Fatalf("lists %v, error %v", l.Names(), l.Err())
	}
	b, err := l.Encode(l.Names()[0])
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

type rule struct {
	Limit int32
	Tags  map[string]bool
}

func rulesOf(tb testing.TB, limit int32) []byte {
	return encoded(tb, func(l *Lists) {
		b := NewBroadcast[string, rule](l, "rules")
		for i := range 5 {
			b.Put(fmt.Sprint("r", i), rule{Limit: limit, Tags: map[string]bool{"a": true, "b": true, "c": false}})
		}
		b.Put("gone", rule{})
		b.Delete("gone")
	})
}

func TestBroadcastIsWholeInEveryTask(t *testing.T) {
	parts := [][]byte{nil, rulesOf(t, 1), rulesOf(t, 1), rulesOf(t, 1)}
	for _, tasks := range []int{1, 4, 7} {
		for task := range tasks {
			var l Lists
			l.Restore("rules", parts, task, tasks)
			b := NewBroadcast[string, rule](&l, "rules")
			if r, ok := b.Get("r3"); l.Err() != nil || b.Len() != 5 || !ok || r.Limit != 1 || !r.Tags["b"] || len(l.Notes()) != 0 {
				t.Fatalf("task %d of %d: %v, notes %v, error %v", task, tasks, maps.Collect(b.All()), l.Notes(), l.Err())
			}
			if _, ok := b.Get("gone"); ok {
				t.Fatal("a deleted entry came back")
			}
		}
	}
}

func TestBroadcastCopiesThatDiffer(t *testing.T) {
	parts := [][]byte{rulesOf(t, 1), rulesOf(t, 1), rulesOf(t, 2)}
	for task := range 2 {
		var l Lists
		l.Restore("rules", parts, task, 2)
		b := NewBroadcast[string, rule](&l, "rules")
		if r, _ := b.Get("r0"); l.Err() != nil || r.Limit != 1 {
			t.Errorf("task %d has %v, error %v", task, r, l.Err())
		}
		notes := strings.Join(l.Notes(), "\n")
		if said := strings.Contains(notes, `"rules" was not the same in tasks 0 and 2`); said != (task == 0) {
			t.Errorf("task %d says %q", task, notes)
		}
	}
}

func TestBroadcastRefusals(t *testing.T) {
	part := rulesOf(t, 1)
	for name, declare := range map[string]func(l *Lists){
		"key":   func(l *Lists) { NewBroadcast[int64, rule](l, "rules") },
		"value": func(l *Lists) { NewBroadcast[string, string](l, "rules") },
		"list":  func(l *Lists) { NewOperatorList[rule](l, "rules") },
		"union": func(l *Lists) { NewUnionList[rule](l, "rules") },
	} {
		var l Lists
		l.Restore("rules", [][]byte{part}, 0, 1)
		if declare(&l); !errors.Is(l.Err(), fault.New(fault.BadState, "")) || !strings.Contains(l.Err().Error(), "broadcast:string -> cbor:struct{Limit int32,") {
			t.Errorf("other %s: %v", name, l.Err())
		}
	}
	for n := range part {
		var l Lists
		l.Restore("rules", [][]byte{part[:n]}, 0, 1)
		if NewBroadcast[string, rule](&l, "rules"); fault.CodeOf(l.Err()) != fault.DamagedEpoch.ID {
			t.Fatalf("%d of %d bytes: %v", n, len(part), l.Err())
		}
	}
	var l Lists
	f := NewBroadcast[float64, int](&l, "floats")
	defer func() {
		if r := recover(); r == nil || f.Len() != 0 {
			t.Errorf("NaN as key: recovered %v, %d entries", r, f.Len())
		}
	}()
	f.Put(math.NaN(), 1)
}

func TestUnionList(t *testing.T) {
	var parts [][]byte
	for task := range 3 {
		parts = append(parts, encoded(t, func(l *Lists) {
			u := NewUnionList[int](l, "seen")
			for i := range task + 1 {
				u.Add(10*task + i)
			}
		}))
	}
	for _, tasks := range []int{1, 3, 5} {
		for task := range tasks {
			var l Lists
			l.Restore("seen", parts, task, tasks)
			u := NewUnionList[int](&l, "seen")
			if got := fmt.Sprint(u.All()); l.Err() != nil || got != "[0 10 11 20 21 22]" {
				t.Errorf("task %d of %d has %s, error %v", task, tasks, got, l.Err())
			}
		}
	}
	var l Lists
	l.Restore("seen", parts, 0, 1)
	if NewOperatorList[int](&l, "seen"); !errors.Is(l.Err(), fault.New(fault.BadState, "")) {
		t.Errorf("a union list as a plain one: %v", l.Err())
	}
}
