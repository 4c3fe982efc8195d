package parts

import (
	"strings"
	"sync"
	"testing"
	"time"
)

func TestByTime(t *testing.T) {
	at := func(v time.Time) time.Time { return v }
	east := time.FixedZone("east", 5*3600+1800)
	times := []time.Time{
		time.Date(2026, 1, 2, 3, 59, 59, 999_999_999, time.UTC), time.Date(2026, 1, 2, 4, 0, 0, 0, time.UTC),
		time.Date(2026, 1, 2, 4, 10, 0, 0, east), time.Date(1969, 12, 31, 23, 59, 59, 1, time.UTC),
		{},
		time.Date(2026, 1, 2, 3, 30, 15, 5e8, time.UTC), time.Date(2026, 1, 2, 3, 30, 16, 0, time.UTC), time.Date(2026, 1, 2, 3, 31, 15, 0, time.UTC),
	}
	for _, layout := range []string{"", "2006", "dt=2006-01-02", "15:04", "150405", "15.000", "Jan/Mon/PM"} {
		f := ByTime(at, layout)
		want := layout
		if layout == "" {
			want = ByHour
		}
		for range 2 {
			for _, v := range times {
				if got := string(f([]byte("x/"), v)); got != "x/"+v.UTC().Format(want) {
					t.Errorf("%q: %v is in %s, want %s", layout, v, got, v.UTC().Format(want))
				}
			}
		}
	}
	if got := string(ByTime(at, "")(nil, times[0])); got != "dt=2026-01-02/hour=03" {
		t.Errorf("by default %v is in %s", times[0], got)
	}
}

func TestByTimeOfManyTasks(t *testing.T) {
	f := ByTime(func(v int64) time.Time { return time.Unix(v, 0) }, "2006-01-02T15")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			var path []byte
			for i := range int64(1000) {
				path = f(path[:0], i*1800)
				if want := time.Unix(i*1800, 0).UTC().Format("2006-01-02T15"); string(path) != want {
					t.Errorf("got %s, want %s", path, want)
				}
			}
		})
	}
	wg.Wait()
	path := f(nil, 0)
	if n := testing.AllocsPerRun(100, func() { path = f(path[:0], 3600); path = f(path[:0], 7200) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestPaths(t *testing.T) {
	for _, good := range []string{"", "a", "dt=2026-01-02/hour=03", "a.b/c..", "_x", "ä", "a b", strings.Repeat("x", maxName)} {
		if err := CheckPath(good); err != nil {
			t.Error(err)
		}
	}
	for _, evil := range []string{
		"/", "/a", "a/", "a//b", ".", "..", "../x", "a/../..", "a/./b", ".hidden", "a/.b", "a\x00b", "a\nb", `a\b`, "\xff",
		strings.Repeat("x", maxName+1), strings.Repeat("x/", maxPath),
	} {
		if err := CheckPath(evil); err == nil || !strings.Contains(err.Error(), "AppendEscaped") {
			t.Errorf("%q was taken: %v", evil, err)
		}
		escaped := "user=" + string(AppendEscaped(nil, evil))
		if len(escaped) <= maxName && CheckPath(escaped) != nil {
			t.Errorf("%q, escaped from %q: %v", escaped, evil, CheckPath(escaped))
		}
	}
}

func TestEscape(t *testing.T) {
	for _, c := range []struct{ before, s, want string }{
		{"", "plain-Text_1.2=+@~", "plain-Text_1.2=+@~"},
		{"", "a/b%c d", "a%2Fb%25c%20d"},
		{"", "..", "%2E."},
		{"x/", ".", "x/%2E"},
		{"x=", ".", "x=."},
		{"", "ä\xff", "%C3%A4%FF"},
	} {
		if got := string(AppendEscaped([]byte(c.before), c.s)); got != c.want {
			t.Errorf("%q behind %q: got %q, want %q", c.s, c.before, got, c.want)
		}
	}
}

func TestRolling(t *testing.T) {
	for _, c := range []struct {
		r    Rolling
		size int64
		age  time.Duration
		want bool
	}{
		{Rolling{}, DefaultSize - 1, time.Hour, false},
		{Rolling{}, DefaultSize, 0, true},
		{Rolling{Size: 10}, 9, 0, false},
		{Rolling{Size: 10}, 10, 0, true},
		{Rolling{Size: -1}, 1 << 50, 0, false},
		{Rolling{Age: time.Minute}, 0, time.Minute - 1, false},
		{Rolling{Age: time.Minute}, 0, time.Minute, true},
		{Rolling{Age: -1}, 0, 0, false},
	} {
		if got := c.r.Due(c.size, c.age); got != c.want {
			t.Errorf("%+v with %d bytes and %v: %v", c.r, c.size, c.age, got)
		}
	}
}

func TestName(t *testing.T) {
	n := Name{Operator: "out", Epoch: 7, Slot: 2, Token: "abc", Number: 3, Suffix: ".csv"}
	if got := n.String(); got != "part-out-000000000007-2-abc-0003.csv" {
		t.Error(got)
	}
	n.Epoch, n.Prefix = 0, "x."
	if got := n.String(); got != "x.out-2-abc-0003.csv" {
		t.Error(got)
	}
	if InName("a/b") || InName("a\x00") || !InName("a.b") {
		t.Error("InName")
	}
}
