package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/sink"
)

// row is a trial without fault: each shard gets a thousand records and twenty requests a second, ten checkpoints are complete.
func row() *figures {
	f := &figures{hit: map[int]bool{3: true}, dead: &letters{causes: map[int64][]string{}}, times: make([]uint32, 1000)}
	for i := range f.times {
		f.times[i] = 1
	}
	var t tally
	at := time.Unix(0, 0)
	for _, m := range []*marks{&f.calm, &f.storm, &f.healed} {
		for range 40 {
			m.all = append(m.all, mark{at, t})
			at = at.Add(markEvery)
			for s := range shards {
				t.records[s] += 250
				t.requests[s] += 5
			}
		}
		m.checkpoints = 10
	}
	return f
}

// change lets something be other than in the row without fault: the counts of a phase from a mark on, as a part of what they were.
func change(m *marks, shard int, part float64, of func(*tally) *[shards]int64) {
	first := of(&m.all[0].tally)[shard]
	for i := range m.all {
		n := &of(&m.all[i].tally)[shard]
		*n = first + int64(part*float64(*n-first))
	}
}

func rec(t *tally) *[shards]int64 { return &t.records }
func req(t *tally) *[shards]int64 { return &t.requests }

// TestJudge breaks each promise alone.
func TestJudge(t *testing.T) {
	hit := storm{hits: 1, allowed: 20}
	refuse := func(f *figures) {
		for id := int64(42); id < 1000; id += 100 {
			f.times[id], f.dead.causes[id] = 0, []string{errRefused.Error()}
		}
	}
	for _, c := range []struct {
		name string
		s    storm
		do   func(f *figures)
		says string
	}{
		{"fine", hit, func(*figures) {}, ""},
		{"lost", hit, func(f *figures) { f.times[7] = 0 }, "1 of 1000 records are lost"},
		{"twice", hit, func(f *figures) { f.times[7] = 3 }, "2 records arrived twice"},
		{"twice with a reason", storm{repeats: true}, func(f *figures) { f.times[7] = 3 }, ""},
		{"dead without a reason", hit, func(f *figures) { f.dead.causes[7] = []string{"x"} }, "record 7, which arrived 1 times"},
		{"dead, not of a record", hit, func(f *figures) { f.dead.odd = []string{"?"} }, "of no record, such as ?"},
		{"refused", storm{refuses: true}, refuse, ""},
		{"refused, no letter", storm{refuses: true}, func(f *figures) { refuse(f); delete(f.dead.causes, 42) }, "lost"},
		{"refused, two letters", storm{refuses: true}, func(f *figures) {
			refuse(f)
			f.dead.causes[42] = append(f.dead.causes[42], errRefused.Error())
		}, "refused record 42 arrived 0 times"},
		{"refused, another cause", storm{refuses: true}, func(f *figures) { refuse(f); f.dead.causes[42] = []string{"x"} }, "refused record 42"},
		{"healthy shard slow", hit, func(f *figures) {
			for s := range shards {
				change(&f.storm, s, 0.7, rec)
			}
		}, "healthy shards have 70 %"},
		{"hit shard slow", hit, func(f *figures) { change(&f.storm, 3, 0.1, rec) }, ""},
		{"too many requests", hit, func(f *figures) { change(&f.storm, 3, 1.3, req) }, "gets 130 %"},
		{"too few requests", hit, func(f *figures) { change(&f.storm, 3, 0.7, req) }, "gets 70 %"},
		{"never healed", hit, func(f *figures) { change(&f.healed, 5, 0.7, rec) }, "full rate isn't reached"},
		{"few checkpoints", hit, func(f *figures) { f.storm.checkpoints = 7 }, "7 checkpoints"},
		{"slow checkpoint", hit, func(f *figures) { f.storm.longest = 3 * time.Second }, "a checkpoint took 3s"},
		{"failed checkpoint", hit, func(f *figures) { f.failed = 1 }, "1 checkpoints failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := row()
			c.do(f)
			err := f.judge(c.s)
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("judged %v, want %q", err, c.says)
			}
		})
	}
}

// TestRecovery says when the full rate was back.
func TestRecovery(t *testing.T) {
	f := row()
	for i := range 12 { // three seconds late, and then all at once
		f.healed.all[i].records[2] = f.healed.all[0].records[2]
	}
	if got := f.recovery(); got < 1500*time.Millisecond || got > 3*time.Second {
		t.Errorf("full rate after %v", got)
	}
}

// TestWeathers asks the simulator itself.
func TestWeathers(t *testing.T) {
	for _, c := range []struct {
		name     string
		of       func(*trial) weather
		requests int
		codes    string // of answers, sorted
		arrived  int64
	}{
		{"calm", nil, 3, "200 200 200", 3},
		{"throttled", throttled(2), 4, "200 200 429 429", 2},
		{"down", answer(http.StatusServiceUnavailable), 2, "503 503", 0},
		{"slow", slow(time.Millisecond), 2, "200 200", 2},
		{"late", late(time.Millisecond), 2, "200 200", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &simulator{arrivals: newArrivals()}
			if c.of != nil {
				s.hit[1], s.bad[1] = true, c.of(&trial{})
				if err := s.storm(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			var codes []string
			for range c.requests {
				w := httptest.NewRecorder()
				s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/1", strings.NewReader("9\n")))
				codes = append(codes, w.Result().Status[:3])
			}
			got, err := s.count(t.Context())
			if have := strings.Join(codes, " "); err != nil || have != c.codes || got.records[1] != c.arrived || got.requests[1] != int64(c.requests) {
				t.Errorf("answers %s, %d records by %d requests, %v; want %s and %d", have, got.records[1], got.requests[1], err, c.codes, c.arrived)
			}
		})
	}
}

// TestLetters reads back what the engine prints of a record.
func TestLetters(t *testing.T) {
	l := &letters{causes: map[int64][]string{}}
	var w sink.Writer[engine.DeadLetter] = l
	err := w.Write(t.Context(), []engine.DeadLetter{{Value: "{ID:42 Shard:2}", Cause: "x"}, {Value: "?"}})
	if err != nil || len(l.causes[42]) != 1 || l.causes[42][0] != "x" || len(l.odd) != 1 {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestFlags(t *testing.T) {
	for _, args := range [][]string{{"-only", "("}, {"-break", "nothing"}, {"word"}} {
		if code := run(context.Background(), args, io.Discard); code != 2 {
			t.Errorf("%q: exit code %d, want 2", args, code)
		}
	}
	if code := run(context.Background(), []string{"-only", "^none$"}, io.Discard); code != 1 {
		t.Errorf("no storm at all: exit code %d, want 1", code)
	}
	for _, s := range storms {
		if !regexp.MustCompile(`^[a-z]+/[a-z -]+$`).MatchString(s.name) {
			t.Errorf("name %q", s.name)
		}
	}
}
