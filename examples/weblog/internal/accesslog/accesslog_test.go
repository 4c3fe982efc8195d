package accesslog

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

// The rule in the words of the package comment.
var rule = regexp.MustCompile(`^(\S+) \S+ \S+ \[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] "(\S+) (\S+)`)

func byRule(line string) (Hit, bool) {
	m := rule.FindStringSubmatch(line)
	if m == nil {
		return Hit{}, false
	}
	at, err := time.Parse(dateLayout, m[2])
	if err != nil {
		return Hit{}, false
	}
	page, _, _ := strings.Cut(m[4], "?")
	return Hit{At: at.UnixMicro(), Page: page, Visitor: m[1]}, true
}

const good = `83.149.9.216 - - [17/May/2015:10:05:03 +0000] "GET /a/b.png?q=1 HTTP/1.1" 200 203023 "-" "agent"`

var lines = []string{
	good, "", " ", "-", strings.Replace(good, "GET /a/b.png?q=1 HTTP/1.1", "-", 1),
	strings.Replace(good, "/a/b.png?q=1", "?x", 1), strings.Replace(good, "May", "may", 1),
	strings.Replace(good, "May", "ayJ", 1), strings.Replace(good, "17/", "32/", 1), strings.Replace(good, "17/May", "29/Feb", 1),
	strings.Replace(good, "17/May/2015", "29/Feb/2016", 1), strings.Replace(good, "17/May/2015", "29/Feb/1900", 1),
	strings.Replace(good, "17/May/2015", "01/Jan/0000", 1), strings.Replace(good, "17/May/2015", "31/Dec/9999", 1),
	strings.Replace(good, "+0000", "-2460", 1), strings.Replace(good, "+0000", "+2461", 1), strings.Replace(good, "+0000", "+2500", 1),
	strings.Replace(good, ":03", ":60", 1), strings.Replace(good, ":03", ":03.5", 1), strings.Replace(good, " - - ", "  - ", 1),
	strings.Replace(good, " - - ", " \v - ", 1), strings.Replace(good, " - - ", " - ", 1), strings.Replace(good, "83.", "\xff\xfe", 1),
	good[:40], good[:47], good[:48], good[:52], good[:53], good[:54],
}

func TestParse(t *testing.T) {
	h, ok := Parse(good)
	want := Hit{At: time.Date(2015, 5, 17, 10, 5, 3, 0, time.UTC).UnixMicro(), Page: "/a/b.png", Visitor: "83.149.9.216"}
	if !ok || h != want {
		t.Errorf("Parse = %+v, %v; want %+v", h, ok, want)
	}
	for _, l := range lines {
		same(t, l)
	}
}

// Every day of 800 years, and of the years around 0 and 9999.
func TestDates(t *testing.T) {
	for _, span := range [][2]int{{0, 2}, {1600, 2400}, {9998, 9999}} {
		end := time.Date(span[1], 12, 31, 0, 0, 0, 0, time.UTC)
		for d := time.Date(span[0], 1, 1, 7, 8, 9, 0, time.UTC); d.Before(end); d = d.AddDate(0, 0, 1) {
			h, ok := Parse(string(Append(nil, d, "v", "/p", 200, 1, "a")))
			if !ok || h.At != d.UnixMicro() {
				t.Fatalf("%s: %d, %v; want %d", d, h.At, ok, d.UnixMicro())
			}
		}
	}
}

func same(t *testing.T, line string) {
	t.Helper()
	got, ok := Parse(line)
	want, wantOK := byRule(line)
	if ok != wantOK || ok && got != want {
		t.Errorf("Parse(%q)\n got %+v, %v\nwant %+v, %v", line, got, ok, want, wantOK)
	}
}

// FuzzParse holds the parser against the regular expression.
func FuzzParse(f *testing.F) {
	for _, l := range lines {
		f.Add(l)
	}
	f.Fuzz(same)
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	b.SetBytes(int64(len(good)))
	for b.Loop() {
		if _, ok := Parse(good); !ok {
			b.Fatal("the line doesn't count")
		}
	}
}
