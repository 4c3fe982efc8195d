package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestReport(t *testing.T) {
	e := &env{root: t.TempDir(), seed: 7}
	checks := []check{
		{"a/good", func(context.Context, *env) (string, error) { return "1.5\nx", nil }},
		{"a/bad", func(context.Context, *env) (string, error) { return "3.0", errors.New("too much") }},
		{"b/panics", func(context.Context, *env) (string, error) { panic("ouch") }},
	}
	var out bytes.Buffer
	if code := report(t.Context(), e, checks, &out); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	want := `^ok   a/good  1\.5 x
FAIL a/bad  3\.0: too much
FAIL b/panics  panic: ouch.*
took 0\.0 minutes, seed 7
accept: 1 of 3 hold
$`
	if !regexp.MustCompile(want).MatchString(out.String()) {
		t.Errorf("printed\n%s", &out)
	}
	out.Reset()
	if code := report(t.Context(), e, checks[:1], &out); code != 0 || !strings.HasSuffix(out.String(), "accept: 1 of 1 hold\n") {
		t.Errorf("exit code %d, printed\n%s", code, &out)
	}
	if code := report(t.Context(), e, nil, &out); code != 1 {
		t.Error("no check at all is taken for success")
	}
}

func TestNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range groups() {
		if seen[c.name] || strings.ContainsAny(c.name, " \n") {
			t.Errorf("name %q is there twice or has blanks", c.name)
		}
		seen[c.name] = true
	}
	if len(seen) < 40 {
		t.Errorf("only %d checks", len(seen))
	}
}

func TestTruth(t *testing.T) {
	got, counted := truth([]string{
		`1.1.1.1 - - [17/May/2015:10:05:03 +0000] "GET /a?x=1 HTTP/1.1" 200 1`,
		`1.1.1.1 - - [17/May/2015:12:05:59 +0200] "GET /a HTTP/1.1" 200 1`,
		`2.2.2.2 - bob [17/May/2015:10:05:00 +0000] "GET /b,c HTTP/1.1" 200 1`,
	}, []string{
		`2.2.2.2 - - [17/May/2015:10:06:00 +0000] "OPTIONS * HTTP/1.1" 200 1`,
		`2.2.2.2 - - [31/Feb/2015:10:06:00 +0000] "GET / HTTP/1.1" 200 1`,
		"nonsense", "",
	})
	const want = `minute,page,pv,uv
2015-05-17T10:05:00Z,*,3,2
2015-05-17T10:05:00Z,/a,2,1
2015-05-17T10:05:00Z,"/b,c",1,1
2015-05-17T10:06:00Z,*,1,1
`
	if string(got) != want || counted != 4 {
		t.Errorf("%d lines count:\n%s", counted, got)
	}
	if err := same(got, []byte(want)); err != nil {
		t.Error(err)
	}
	if err := same(got, []byte(strings.Replace(want, "/a,2", "/a,3", 1))); err == nil || !strings.Contains(err.Error(), `row 2`) {
		t.Errorf("a wrong row: %v", err)
	}
	if err := same(got, []byte(want+"x\n")); err == nil {
		t.Error("a missing row isn't found")
	}
}

func TestMadeUpLogIsOutOfOrder(t *testing.T) {
	lines, back := madeUp(1000), 0
	var newest time.Time
	for _, l := range lines {
		m := counts.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		at, err := time.Parse(clock, m[2])
		if err != nil {
			t.Fatal(err)
		}
		if d := newest.Sub(at); d > 0 {
			back++
			if d >= time.Minute {
				t.Fatalf("out of order by %v, more than weblog is told", d)
			}
		} else {
			newest = at
		}
	}
	if back < 300 {
		t.Errorf("only %d lines are out of order", back)
	}
}

func TestBenchFigures(t *testing.T) {
	got := benchFigures(`goos: linux
BenchmarkChain-2          	       1	         0.0031 allocs/record	         3.2 limit-ns	 1.44 xlimit
BenchmarkKeyedSum/keys=1M 	       1	         2.10 xlimit	 11 %slower
PASS
`)
	b := &benchRun{figures: got}
	for _, w := range []struct {
		name, unit string
		v          float64
	}{{"Chain", "xlimit", 1.44}, {"Chain", "allocs/record", 0.0031}, {"KeyedSum/keys=1M", "%slower", 11}} {
		if v, err := b.figure(w.name, w.unit); err != nil || v != w.v {
			t.Errorf("%s %s: %v, %v; want %v", w.name, w.unit, v, err, w.v)
		}
	}
	if _, err := b.figure("Window", "xlimit"); err == nil {
		t.Error("a benchmark that didn't run has a figure")
	}
}

func TestPauseOfCommits(t *testing.T) {
	for line, ok := range map[string]bool{
		"140 pause-ms 120 pause-once-ms 90 pause-held-ms":  true,
		"171 pause-ms 120 pause-once-ms 90 pause-held-ms":  false, // commits make pauses
		"140 pause-ms 120 pause-once-ms 510 pause-held-ms": false, // tasks wait for commits
		"140 pause-ms 120 pause-once-ms":                   false,
	} {
		b := &benchRun{figures: benchFigures("BenchmarkPause/kafka-2 \t 1 \t " + line + "\n")}
		if figure, err := pause(b, "kafka"); (err == nil) != ok {
			t.Errorf("%s: %s, %v", line, figure, err)
		}
	}
}

func TestJudge(t *testing.T) {
	r := refusal{exit: 3, code: "WL1101", says: "held"}
	const good = "x\nerror: WL1101: dir is held; fix: stop it\n"
	if _, err := r.judge(3, good, 0); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		exit int
		text string
	}{
		"exit code": {1, good}, "silence": {3, "x\n"}, "another code": {3, "error: WL1102: held; fix: stop it"},
		"no fix": {3, "error: WL1101: held"}, "wrong words": {3, "error: WL1101: x; fix: y"},
	} {
		if _, err := r.judge(c.exit, c.text, 0); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := (refusal{exit: failed, code: "WL1101"}).judge(0, good, 0); err == nil {
		t.Error("success is accepted as a failure")
	}
}

func TestWarningsOncePerStreak(t *testing.T) {
	const down, up = `{"level":"WARN","msg":"send failed","task":1,"a_restart_would_resend_records":4}` + "\n", `{"level":"INFO","msg":"takes records again"}` + "\n"
	o := outage{warns: "send failed", heals: "takes records again"}
	for name, c := range map[string]struct {
		log string
		ok  bool
	}{
		"once": {down + up, true}, "twice": {down + down + up, false}, "never": {up, false}, "no end": {down, false},
		"no replay": {strings.Replace(down, "restart_", "", 1) + up, false},
	} {
		p := &process{log: filepath.Join(t.TempDir(), "log")}
		if err := os.WriteFile(p.log, []byte(c.log), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := o.reported(p); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCountPoints(t *testing.T) {
	for svg, want := range map[string]int{
		`<path d="M1 2L3 4L5.5 -6"/>`: 3, `<polyline points="1,2 3,4"/>`: 2, `<rect/><rect />`: 2, "": 0,
	} {
		if got := countPoints(svg); got != want {
			t.Errorf("%s has %d points, want %d", svg, got, want)
		}
	}
}
