package files_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/files"
	"github.com/weirline/weirline/enumerator"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/source"
	"github.com/weirline/weirline/source/sourcetest"
)

func write(t testing.TB, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// zipped makes one gzip member of each text.
func zipped(t testing.TB, texts ...string) string {
	t.Helper()
	var b bytes.Buffer
	for _, text := range texts {
		w := gzip.NewWriter(&b)
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// sample is a directory of awkward files, and the lines in them.
func sample(t testing.TB) (dir string, want []string) {
	t.Helper()
	dir = t.TempDir()
	write(t, dir, "a.txt", "a1\na2\r\n\n\r\na5 is longer than the others are\n")
	write(t, dir, "b.txt", "b1\nb2 has no end")
	write(t, dir, "c.txt", "")
	write(t, dir, "d.txt", "\n")
	write(t, dir, "e.gz", zipped(t, "e1\ne2 goes on", " in a second member\ne3"))
	write(t, dir, "packed-without-a-hint", zipped(t, "p1\np2\n"))
	write(t, dir, "_SUCCESS", "not read\n")
	write(t, dir, ".hidden", "not read\n")
	write(t, dir, "sub/s.txt", "s1\ns2\ns3\n")
	return dir, []string{
		"a1", "a2", "", "", "a5 is longer than the others are", "b1", "b2 has no end", "",
		"e1", "e2 goes on in a second member", "e3", "p1", "p2", "s1", "s2", "s3",
	}
}

func TestContract(t *testing.T) {
	dir, want := sample(t)
	bad := []files.Split{
		{Name: "gone", Parts: []enumerator.Part{{Path: dir + "/gone", To: -1}}},
		{Name: "short", Parts: []enumerator.Part{{Path: dir + "/a.txt", To: -1}}, Offset: 1000},
	}
	for name, src := range map[string]files.Source[string]{
		"files":       {},
		"one split":   {Splits: 1},
		"seven":       {Splits: 7},
		"many splits": {Splits: 300},
		"directories": {PerDirectory: true},
		"watch":       {Watch: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			src.Paths, src.Recursive = []string{dir}, true
			sourcetest.Run(t, sourcetest.Case[string, files.Split]{Source: src, Want: want, Bad: bad, Restarts: 15})
		})
	}
	t.Run("borrowed", func(t *testing.T) {
		src := files.Source[[]byte]{Paths: []string{dir}, Recursive: true, Splits: 3}
		var lines [][]byte
		for _, l := range want {
			lines = append(lines, []byte(l))
		}
		sourcetest.Run(t, sourcetest.Case[[]byte, files.Split]{
			Source: src, Want: lines, Bad: bad, Key: func(b []byte) string { return string(b) },
		})
	})
	t.Run("long lines", func(t *testing.T) {
		src := files.Source[string]{Paths: []string{dir}, Recursive: true, Splits: 3, MaxLine: 13}
		short := slices.DeleteFunc(slices.Clone(want), func(l string) bool { return len(l) > 13 })
		sourcetest.Run(t, sourcetest.Case[string, files.Split]{
			Source: src, Want: short, Bad: bad, Rejects: len(want) - len(short),
		})
	})
}

// readAll reads splits one after the other with batches of limit.
func readAll[T any](t testing.TB, src files.Source[T], limit int) (out source.Batch[T], err error) {
	t.Helper()
	e, err := src.Enumerator(t.Context(), source.Task{Parallelism: 1})
	if err != nil {
		return out, err
	}
	splits, _, err := e.Discover(t.Context())
	if err != nil {
		return out, err
	}
	r, err := src.Reader(t.Context(), source.Task{Parallelism: 1})
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for _, s := range splits {
		if err := r.Add(t.Context(), s); err != nil {
			return out, err
		}
		for {
			out.Limit(len(out.Values) + len(out.Rejects) + limit)
			if _, err := r.Read(t.Context(), &out); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return out, err
			}
		}
	}
	return out, nil
}

// TestSplitsCoverEveryLine cuts random files in every number of places; block, line and batch sizes vary.
func TestSplitsCoverEveryLine(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 30 {
		dir := t.TempDir()
		var want []string
		for f := range 1 + rng.IntN(4) {
			var text strings.Builder
			for range rng.IntN(20) {
				line := fmt.Sprint(rng.Uint64())[:rng.IntN(12)]
				want = append(want, line)
				text.WriteString(line + "\n")
			}
			write(t, dir, fmt.Sprintf("f%d", f), text.String())
		}
		for _, n := range []int{1, 2, 3, 5, 17, 100} {
			got, err := readAll(t, files.Source[string]{Paths: []string{dir}, Splits: n}, 1+rng.IntN(9))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.Values, want) {
				t.Fatalf("%d splits: got %q, want %q", n, got.Values, want)
			}
		}
	}
}

func TestBlockBorders(t *testing.T) {
	dir := t.TempDir()
	var want []string
	for i := range 60_000 {
		want = append(want, fmt.Sprintf("%d:%s", i, strings.Repeat("x", i%40)))
	}
	want[500] = strings.Repeat("long", 300_000)
	text := strings.Join(want, "\n")
	write(t, dir, "plain", text)
	write(t, dir, "zip.gz", zipped(t, text))
	for _, path := range []string{"plain", "zip.gz"} {
		for _, limit := range []int{7, 1000, 1 << 20} {
			paths := []string{filepath.Join(dir, path)}
			got, err := readAll(t, files.Source[string]{Paths: paths, MaxLine: -1, Splits: 3}, limit)
			if err != nil || !slices.Equal(got.Values, want) {
				t.Errorf("%s by %d: %d values, %v", path, limit, len(got.Values), err)
			}
			lent, err := readAll(t, files.Source[[]byte]{Paths: paths, MaxLine: -1}, limit)
			if err != nil || !slices.EqualFunc(lent.Values, want, func(b []byte, s string) bool { return string(b) == s }) {
				t.Errorf("%s by %d, borrowed: %d values, %v", path, limit, len(lent.Values), err)
			}
		}
	}
}

func TestTooLongLine(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("0123456789", 300_000)
	exact := strings.Repeat("x", 1<<20)
	path := write(t, dir, "f", "first\n"+long+"\nsecond\r\n"+exact+"\r\n"+exact+"y\nthird\n"+long)
	got, err := readAll(t, files.Source[string]{Paths: []string{path}}, 2)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Values, []string{"first", "second", exact, "third"}) {
		t.Errorf("%d values", len(got.Values))
	}
	if len(got.Rejects) != 3 {
		t.Fatalf("%d rejects", len(got.Rejects))
	}
	for i, index := range []int{1, 3, 4} {
		r := got.Rejects[i]
		if fault.CodeOf(r.Err) != fault.LineTooLong.ID || len(r.Raw) != 1024 || r.Index != index || !strings.HasPrefix(r.At, path+" at byte ") {
			t.Errorf("reject %d: %d bytes, index %d, at %s, %v", i, len(r.Raw), r.Index, r.At, r.Err)
		}
	}
}

func TestJSONAndEventTime(t *testing.T) {
	type order struct {
		ID int64
		At int64
	}
	path := write(t, t.TempDir(), "f", `{"ID":1,"At":10}`+"\n\n"+`{"ID":"x"}`+"\n"+`{"ID":2,"At":20,"new":[1]}`)
	src := files.Source[order]{
		Paths: []string{path}, Decode: files.JSON[order],
		EventTime: func(o order) time.Time { return time.UnixMicro(o.At) },
	}
	got, err := readAll(t, src, 10)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Values, []order{{1, 10}, {2, 20}}) || !slices.Equal(got.Times, []int64{10, 20}) {
		t.Errorf("got %v at %v", got.Values, got.Times)
	}
	if len(got.Rejects) != 2 || got.Rejects[1].At != path+" at byte 18" || string(got.Rejects[1].Raw) != `{"ID":"x"}` ||
		fault.CodeOf(got.Rejects[1].Err) != fault.BadRecord.ID {
		t.Errorf("rejects: %+v", got.Rejects)
	}
}

func TestLineKnowsItsPlace(t *testing.T) {
	path := write(t, t.TempDir(), "f", "ab\ncd\nef\n")
	for _, splits := range []int{1, 3} {
		src := files.Source[[]byte]{Paths: []string{path}, Splits: splits, Decode: func(l files.Line) ([]byte, error) {
			return fmt.Appendf(nil, "%s %s@%d", l.Text(), filepath.Base(l.Path()), l.Offset()), nil
		}}
		got, err := readAll(t, src, 1)
		if err != nil || string(bytes.Join(got.Values, []byte(","))) != "ab f@0,cd f@3,ef f@6" {
			t.Errorf("%d splits: %s, %v", splits, got.Values, err)
		}
	}
}

func TestFaults(t *testing.T) {
	dir := t.TempDir()
	plain := write(t, dir, "plain.txt", "text\n")
	write(t, dir, "empty/.hidden", "")
	whole := zipped(t, strings.Repeat("line\n", 5000))
	cut := write(t, dir, "cut.gz", whole[:len(whole)-5])
	head := write(t, dir, "head.gz", whole[:4])
	nothing := write(t, dir, "nothing.gz", "")
	corrupt := write(t, dir, "corrupt.gz", whole[:12]+"\xff\xff\xff\xff"+whole[16:])
	fake := write(t, dir, "fake.gz", "this isn't compressed at all\n")
	if err := os.Symlink(dir+"/nowhere", dir+"/dangling"); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		src       files.Source[string]
		code      fault.Code
		preflight bool // found before the first record
		says      string
	}{
		"missing file":    {files.Source[string]{Paths: []string{dir + "/no.txt"}}, fault.NoInput, true, "no.txt"},
		"no match":        {files.Source[string]{Paths: []string{dir + "/*.csv"}}, fault.NoInput, true, "*.csv"},
		"bad pattern":     {files.Source[string]{Paths: []string{dir + "/[x"}}, fault.NoInput, true, "[x"},
		"empty directory": {files.Source[string]{Paths: []string{dir + "/empty"}}, fault.NoInput, true, "empty"},
		"dangling link":   {files.Source[string]{Paths: []string{dir + "/dangl*"}}, fault.NoInput, true, "dangling"},
		"device":          {files.Source[string]{Paths: []string{os.DevNull}}, fault.Unreadable, true, os.DevNull},
		"no paths":        {files.Source[string]{}, fault.BadPipeline, true, "Paths"},
		"two ways to cut": {files.Source[string]{Paths: []string{plain}, Splits: 2, PerDirectory: true}, fault.BadPipeline, true, "PerDirectory"},
		"cut short":       {files.Source[string]{Paths: []string{cut}}, fault.CutShort, false, "cut.gz"},
		"only a header":   {files.Source[string]{Paths: []string{head}}, fault.CutShort, false, "head.gz"},
		"empty gz":        {files.Source[string]{Paths: []string{nothing}}, fault.CutShort, false, "nothing.gz"},
		"corrupt":         {files.Source[string]{Paths: []string{corrupt}}, fault.Unreadable, false, "corrupt.gz"},
		"not compressed":  {files.Source[string]{Paths: []string{fake}}, fault.Unreadable, false, "fake.gz"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.src.Preflight(t.Context())
			if c.preflight != (err != nil) {
				t.Errorf("Preflight: %v", err)
			}
			if !c.preflight {
				_, err = readAll(t, c.src, 100)
			}
			var f *fault.Error
			if !errors.As(err, &f) || f.Code != c.code || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "; fix: ") {
				t.Errorf("got %v, want %s that names %q and a fix", err, c.code.ID, c.says)
			}
		})
	}
	if err := (files.Source[int]{Paths: []string{plain}}).Preflight(t.Context()); fault.CodeOf(errors.Unwrap(err)) != "" ||
		!strings.Contains(fmt.Sprint(err), "Decode") {
		t.Errorf("no Decode: %v", err)
	}
}

func TestCutShortDeliversWhatIsWhole(t *testing.T) {
	whole := zipped(t, "one\ntwo\nthree\n")
	path := write(t, t.TempDir(), "f.gz", whole+zipped(t, strings.Repeat("more\n", 9))[:20])
	got, err := readAll(t, files.Source[string]{Paths: []string{path}}, 100)
	if fault.CodeOf(errors.Unwrap(err)) != fault.CutShort.ID && fault.CodeOf(err) != fault.CutShort.ID {
		t.Errorf("err = %v", err)
	}
	for _, v := range got.Values {
		if !slices.Contains([]string{"one", "two", "three", "more"}, v) {
			t.Errorf("half a line was handed over: %q", v)
		}
	}
}

func TestShorterThanPosition(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{write(t, dir, "p", "one\ntwo\n"), write(t, dir, "z.gz", zipped(t, "one\ntwo\n"))} {
		r, err := files.Source[string]{Paths: []string{path}}.Reader(t.Context(), source.Task{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		s := files.Split{Name: path, Parts: []enumerator.Part{{Path: path, To: -1}}, Offset: 9}
		if err := r.Add(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		var b source.Batch[string]
		b.Limit(10)
		_, err = r.Read(t.Context(), &b)
		if fault.CodeOf(err) != fault.BadPosition.ID || !strings.Contains(err.Error(), path) {
			t.Errorf("err = %v", err)
		}
	}
}

func TestListing(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.log", "a.log", "x/c.log", "x/y/d.log", ".git/e.log"} {
		write(t, dir, name, name+"\n")
	}
	for name, c := range map[string]struct {
		src  files.Source[string]
		want string
	}{
		"sorted, once":   {files.Source[string]{Paths: []string{dir + "/b.log", dir + "/*.log", dir}}, "a.log b.log"},
		"recursive":      {files.Source[string]{Paths: []string{dir}, Recursive: true}, "a.log b.log x/c.log x/y/d.log"},
		"hidden if told": {files.Source[string]{Paths: []string{dir + "/.git/e.log"}}, ".git/e.log"},
		"per directory":  {files.Source[string]{Paths: []string{dir}, Recursive: true, PerDirectory: true}, "a.log b.log x/c.log x/y/d.log"},
	} {
		got, err := readAll(t, c.src, 3)
		if err != nil || strings.Join(got.Values, " ") != c.want {
			t.Errorf("%s: %v, %v; want %s", name, got.Values, err, c.want)
		}
	}
}

func TestWatchFindsNewFiles(t *testing.T) {
	dir := t.TempDir()
	src := files.Source[string]{Paths: []string{dir}, Watch: time.Millisecond}
	if src.Bounded() {
		t.Error("a source that watches is bounded")
	}
	e, err := src.Enumerator(t.Context(), source.Task{})
	if err != nil {
		t.Fatal(err)
	}
	if found, done, err := e.Discover(t.Context()); len(found) != 0 || done || err != nil {
		t.Fatalf("empty directory: %v, %v, %v", found, done, err)
	}
	write(t, dir, "new", "x\n")
	if found, done, err := e.Discover(t.Context()); len(found) != 1 || done || err != nil {
		t.Fatalf("new file: %v, %v, %v", found, done, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := e.Discover(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
