package deadletter_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/deadletter"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lines are letters as JSON lines.
func lines(t *testing.T, ls ...deadletter.Letter) []byte {
	var out []byte
	for _, l := range ls {
		b, err := json.Marshal(l)
		must(t, err)
		out = append(append(out, b...), '\n')
	}
	return out
}

func zipped(t *testing.T, b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(b)
	must(t, err)
	must(t, w.Close())
	return out.Bytes()
}

// letter is one of operator "out" with a record.
func letter(v any) deadletter.Letter {
	l := deadletter.Of(v)
	l.Operator, l.Cause, l.Job, l.Found = "out", "no place for it", "job", time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	return l
}

func scan(t *testing.T, from deadletter.Log) (out []string) {
	t.Helper()
	must(t, from.Scan(t.Context(), func(at deadletter.Place, l deadletter.Letter) error {
		out = append(out, fmt.Sprintf("%s %d %s", at.Part, at.N, l.Value))
		return nil
	}))
	return out
}

func TestFilesAreScanned(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "day", ".hidden"), 0o755))
	whole := lines(t, letter("a"), letter("b"))
	for name, b := range map[string][]byte{
		"2.jsonl":              append(append([]byte("\n"), whole...), `{"operator":"out","cau`...),
		"day/1.jsonl.gz":       zipped(t, whole),
		"day/.hidden/1.jsonl":  whole,
		".replayed-other.json": []byte("{}"),
	} {
		must(t, os.WriteFile(filepath.Join(dir, filepath.FromSlash(name)), b, 0o600))
	}
	want := []string{"2.jsonl 2 a", "2.jsonl 3 b", "day/1.jsonl 1 a", "day/1.jsonl 2 b"}
	if got := scan(t, deadletter.Files{Path: dir}); !slices.Equal(got, want) {
		t.Errorf("scanned %q, want %q", got, want)
	}
	if got := scan(t, deadletter.Files{Path: filepath.Join(dir, "2.jsonl")}); !slices.Equal(got, want[:2]) {
		t.Errorf("one file: %q", got)
	}
	for name, b := range map[string]string{"not-json": "x\n", "other-json": `{"a":1}` + "\n", "cut.gz": string(zipped(t, whole)[:20])} {
		at := filepath.Join(t.TempDir(), name)
		must(t, os.WriteFile(at, []byte(b), 0o600))
		err := deadletter.Files{Path: at}.Scan(t.Context(), func(deadletter.Place, deadletter.Letter) error { return nil })
		if err == nil || !strings.Contains(err.Error(), "WL1213") || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLetterKeepsItsForm holds the JSON that users' tools read.
func TestLetterKeepsItsForm(t *testing.T) {
	l := deadletter.Letter{
		Operator: "out", Cause: "refused", Attempts: 3, Found: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Job: "job", Task: 1, At: "split 7",
		Epoch: 9, Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Key: "k", Value: "v", Raw: []byte("raw"), Record: []byte{0xff},
	}
	const full = `{"operator":"out","cause":"refused","attempts":3,"found":"2026-01-02T03:04:05Z","job":"job","task":1,"at":"split 7","epoch":9,` +
		`"time":"2026-01-01T00:00:00Z","key":"k","value":"v","raw":"cmF3","record":"/w=="}` + "\n"
	if got := string(lines(t, l)); got != full {
		t.Errorf("a letter is %swant %s", got, full)
	}
	l = deadletter.Letter{Operator: "in", Cause: "cut", Found: l.Found, Raw: []byte("x")}
	const least = `{"operator":"in","cause":"cut","found":"2026-01-02T03:04:05Z","job":"","task":0,"epoch":0,"raw":"eA=="}` + "\n"
	if got := string(lines(t, l)); got != least {
		t.Errorf("a letter is %swant %s", got, least)
	}
}

func TestRecordOfALetter(t *testing.T) {
	type secret struct{ name string }
	for _, v := range []any{nil, secret{"x"}, func() {}, struct{ V any }{1}, make(chan int)} {
		if l := deadletter.Of(v); l.Record != nil {
			t.Errorf("%T has a record", v)
		}
	}
	long := strings.Repeat("x", 1000)
	if l := deadletter.Of(long); len(l.Value) > 600 || len(l.Record) < 1000 {
		t.Errorf("%d bytes of a value are printed, %d recorded", len(l.Value), len(l.Record))
	}
}

func TestMinute(t *testing.T) {
	var m deadletter.Minute
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		after     time.Duration
		n, before int
	}{{0, 1, 0}, {59 * time.Second, 2, 0}, {time.Second, 1, 2}, {time.Hour, 1, 1}, {0, 2, 0}} {
		at = at.Add(c.after)
		if n, before := m.Add(at); n != c.n || before != c.before {
			t.Errorf("at %v: %d, %d before; want %+v", at, n, before, c)
		}
	}
}
