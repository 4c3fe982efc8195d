package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestJudge has two epochs of two transactions each, of ten records.
func TestJudge(t *testing.T) {
	at := time.Now()
	note := func(token string, epoch int, id int64) string {
		native := fmt.Appendf(nil, `{"version":1,"native":{"producer":%d,"epoch":3}}`, id)
		began := at.Add(time.Duration(epoch) * 100 * time.Millisecond)
		return fmt.Sprintf("prepared %s 10 %d %d %d %d %x\nfinished %s %d false\n", token, epoch, began.UnixMicro(), 100*time.Millisecond,
			began.Add(100*time.Millisecond).UnixMicro(), native, token, began.Add(150*time.Millisecond).UnixMicro())
	}
	notes := filepath.Join(t.TempDir(), "notes")
	if err := os.WriteFile(notes, []byte(note("a", 1, 1)+note("b", 1, 2)+note("c", 2, 3)+note("d", 2, 4)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		seen [4]int // records of each transaction
		late time.Duration
		over bool
		want string // in the error; "" = none
	}{
		{"all", [4]int{10, 10, 10, 10}, 0, true, ""},
		{"one epoch, and the other not yet", [4]int{10, 10, 0, 0}, 0, false, ""},
		{"a part of the newest, by a death", [4]int{10, 10, 10, 0}, 0, false, ""},
		{"a part of a transaction of the newest, by a death", [4]int{10, 10, 10, 4}, 0, false, ""},
		{"a part of the newest at the end", [4]int{10, 10, 10, 4}, 0, true, "a part of epoch 2"},
		{"a part of the one before", [4]int{10, 0, 10, 10}, 0, false, "a part of epoch 1"},
		{"too late", [4]int{10, 10, 10, 10}, busyFor + time.Second, true, "waited"},
	} {
		r := &onlooker{notes: notes, seen: map[producer]glimpse{}}
		for i, n := range c.seen {
			if n > 0 {
				began := at.Add(time.Duration(1+i/2) * 100 * time.Millisecond)
				r.seen[producer{int64(i + 1), 3}] = glimpse{n, began.Add(160*time.Millisecond + c.late)}
			}
		}
		longest, err := r.judge(t.Context(), 0, c.over)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if bound := 150 * time.Millisecond; longest.bound != bound || longest.is < bound {
			t.Errorf("%s: waited %v", c.name, longest)
		}
	}
}
