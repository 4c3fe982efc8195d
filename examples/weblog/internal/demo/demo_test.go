package demo

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weirline/weirline/examples/weblog/internal/accesslog"
)

var site = Log{Seed: 3, Start: time.Date(2024, 2, 29, 22, 0, 0, 0, time.UTC)}

// Every line counts, is no older than allowed, and comes out the same again.
func TestLines(t *testing.T) {
	newest, older := int64(0), 0
	for s := int64(0); s < 6000; s++ {
		lines := site.Second(s)
		if len(lines) != site.Count(s) || !slices.EqualFunc(lines, site.Second(s), bytes.Equal) {
			t.Fatalf("second %d: %d lines, Count %d, or others the second time", s, len(lines), site.Count(s))
		}
		for _, l := range lines {
			h, ok := accesslog.Parse(string(l))
			if !ok {
				t.Fatalf("line %q doesn't count", l)
			}
			if h.At < newest-Disorder.Microseconds() {
				t.Fatalf("line %q is %d µs older than one before it", l, newest-h.At)
			}
			if h.At < newest {
				older++
			}
			newest = max(newest, h.At)
		}
	}
	if older < 1000 {
		t.Errorf("%d lines out of order, want many", older)
	}
}

func TestHistory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "history")
	if err := site.WriteHistory(dir, 3700); err != nil {
		t.Fatal(err)
	}
	var got, want []byte
	for _, name := range []string{"access-20240229-220000.log", "access-20240229-230000.log"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, b...)
	}
	for s := int64(0); s < 3700; s++ {
		for _, l := range site.Second(s) {
			want = append(append(want, l...), '\n')
		}
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes of history, want %d", len(got), len(want))
	}
	if err := Log.WriteHistory(Log{}, dir, 10); err != nil {
		t.Errorf("history that is there: %v", err)
	}
}

// partitions are topics in memory.
type partitions struct {
	mu     sync.Mutex
	of     [3][]string
	enough int
	full   func()
}

func (p *partitions) take(_ context.Context, to []int32, lines [][]byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, l := range lines {
		p.of[to[i]] = append(p.of[to[i]], string(l))
	}
	if len(p.of[0]) >= p.enough {
		p.full()
	}
	return nil
}

// Live goes on where each partition ends, wherever that is.
func TestLiveGoesOn(t *testing.T) {
	const first = 100
	var want [3][]string
	i := 0
	for s := int64(first); s < first+400; s++ {
		for _, l := range site.Second(s) {
			want[i%3] = append(want[i%3], string(l))
			i++
		}
	}
	for _, ends := range [][3]int{{}, {1, 0, 0}, {7, 7, 7}, {40, 90, 61}, {200, 200, 199}} {
		t.Run(fmt.Sprint(ends), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			p := &partitions{enough: 300, full: cancel}
			at := map[int32]int64{}
			for j := range p.of {
				p.of[j] = slices.Clone(want[j][:ends[j]])
				at[int32(j)] = int64(ends[j])
			}
			if err := (Live{Log: site, First: first, Speed: 1000, To: p.take}).Run(ctx, at); err != nil {
				t.Fatal(err)
			}
			for j, got := range p.of {
				n := min(len(got), len(want[j]))
				if n < 290 || !slices.Equal(got[:n], want[j][:n]) {
					t.Errorf("partition %d has %d lines that aren't those of the log", j, len(got))
				}
			}
		})
	}
}
