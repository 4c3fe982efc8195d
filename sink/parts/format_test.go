package parts

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"
)

// file is what an encoder makes of records, and which of them it refuses.
func file[T any](t *testing.T, f Format[T], vs ...T) (text string, refused []int) {
	t.Helper()
	enc, err := f.Encoder()
	if err != nil {
		t.Fatal(err)
	}
	var b, gone bytes.Buffer
	for _, w := range []io.Writer{&gone, &b} { // the first file is given up
		if err := enc.Begin(w); err != nil {
			t.Fatal(err)
		}
		refused = nil
		for i, v := range vs {
			if err := enc.Append(v); IsBad(err) {
				refused = append(refused, i)
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
	size := enc.Size()
	if err := enc.End(); err != nil {
		t.Fatal(err)
	}
	if size != int64(b.Len()) || enc.Size() != size {
		t.Errorf("size is %d before the end and %d after it, want %d", size, enc.Size(), b.Len())
	}
	return b.String(), refused
}

type item struct {
	Name string  `json:"name"`
	N    float64 `json:"n"`
}

func itemRow(r *Row, v item) error {
	if v.N < 0 {
		r.Text("half a row")
		return errors.New("negative")
	}
	r.Text(v.Name)
	r.Float(v.N)
	if v.N == 9 {
		r.Bool(true)
	}
	return nil
}

func TestFormats(t *testing.T) {
	long := strings.Repeat("x", bufferSize)
	items := []item{{"a,<b>", 1}, {"c\n\"d\"", math.NaN()}, {"e", -1}, {"f", 9}, {long, 0.5}}
	text := func(vs ...string) string { s, _ := file(t, Text[string]{}, vs...); return s }
	own := Text[int]{Encode: func(dst []byte, v int) []byte { return append(dst, byte(v)) }}
	ownText, _ := file(t, own, 1, 2, 3)
	bytesText, _ := file(t, Text[[]byte]{}, []byte("x"), nil)
	structText, _ := file(t, Text[item]{}, item{"a", 1})
	jsonText, jsonRefused := file(t, JSON[item]{}, items...)
	csvText, csvRefused := file(t, CSV[item]{Header: []string{"name", "n"}, Row: itemRow}, items...)
	tsvText, _ := file(t, CSV[item]{Comma: '\t', Row: itemRow}, items...)
	empty, _ := file(t, CSV[item]{Header: []string{"name", "n"}, Row: itemRow})
	for _, c := range []struct{ name, got, want string }{
		{"text", text("b", "", long), "b\n\n" + long + "\n"},
		{"bytes", bytesText, "x\n\n"},
		{"struct", structText, "{a 1}\n"},
		{"own", ownText, "\x01\x02\x03"},
		{"json", jsonText, `{"name":"a,<b>","n":1}` + "\n" + `{"name":"e","n":-1}` + "\n" + `{"name":"f","n":9}` + "\n" + `{"name":"` + long + `","n":0.5}` + "\n"},
		{"csv", csvText, "name,n\n\"a,<b>\",1\n\"c\n\"\"d\"\"\",NaN\n" + long + ",0.5\n"},
		{"tsv", tsvText, "a,<b>\t1\n\"c\n\"\"d\"\"\"\tNaN\n" + long + "\t0.5\n"},
		{"no records", empty, "name,n\n"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %.200q, want %.200q", c.name, c.got, c.want)
		}
	}
	if !reflect.DeepEqual(jsonRefused, []int{1}) || !reflect.DeepEqual(csvRefused, []int{2, 3}) {
		t.Errorf("refused: %v of JSON, %v of CSV", jsonRefused, csvRefused)
	}
}

func TestWrongCSV(t *testing.T) {
	row := func(*Row, int) error { return nil }
	for _, c := range []CSV[int]{{}, {Row: row, Comma: '"'}, {Row: row, Comma: '\n'}, {Row: row, Comma: 0xe4}} {
		if _, err := c.Encoder(); err == nil {
			t.Errorf("comma %q was taken", c.Comma)
		}
	}
	if _, refused := file(t, CSV[int]{Row: row}, 1); len(refused) != 1 {
		t.Error("a record without fields was taken")
	}
}

// FuzzCSV compares with what encoding/csv reads, and, but for a line of one empty field, with what it writes.
func FuzzCSV(f *testing.F) {
	for _, s := range []string{"", "a", "a,b", `a"b"`, "\n", "\r\n", " a", "\u00a0a", `\.`, "\xff", "\"", ";\x1f;"} {
		f.Add(s, "x")
		f.Add("x", s)
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, fields := range [][]string{{a}, {a, b}, {b, "", a}} {
			got, _ := file(t, CSV[[]string]{Comma: ';', Row: func(r *Row, v []string) error {
				for _, s := range v {
					r.Text(s)
				}
				return nil
			}}, fields, fields)
			r := csv.NewReader(strings.NewReader(got))
			r.Comma = ';'
			back, err := r.ReadAll()
			for i := range fields {
				fields[i] = strings.ReplaceAll(fields[i], "\r\n", "\n") // as the reader does
			}
			if want := [][]string{fields, fields}; err != nil || !reflect.DeepEqual(back, want) {
				t.Fatalf("%q: read back %q, %v, want %q", got, back, err, want)
			}
		}
		var want strings.Builder
		w := csv.NewWriter(&want)
		err := errors.Join(w.Write([]string{a, b}), func() error { w.Flush(); return w.Error() }())
		got, _ := file(t, CSV[string]{Row: func(r *Row, v string) error { r.Text(v); r.Text(b); return nil }}, a)
		if err != nil || got != want.String() {
			t.Errorf("got %q, want %q, %v", got, want.String(), err)
		}
	})
}

func TestNumbersInCSV(t *testing.T) {
	got, _ := file(t, CSV[int]{Row: func(r *Row, v int) error {
		r.Int(int64(v))
		r.Uint(math.MaxUint64)
		r.Float(0.1)
		r.Bool(false)
		return nil
	}}, -7)
	if want := "-7,18446744073709551615,0.1,false\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	c, err := CSV[item]{Row: itemRow}.Encoder()
	if err != nil {
		t.Fatal(err)
	}
	j, err := JSON[item]{}.Encoder()
	if err != nil {
		t.Fatal(err)
	}
	x, err := Text[string]{}.Encoder()
	if err := errors.Join(err, c.Begin(io.Discard), j.Begin(io.Discard), x.Begin(io.Discard)); err != nil {
		t.Fatal(err)
	}
	v := item{"a \"name\"", 1.5}
	n := testing.AllocsPerRun(10_000, func() {
		if err := errors.Join(c.Append(v), j.Append(v), x.Append(v.Name)); err != nil {
			t.Error(err)
		}
	})
	if n >= 1 {
		t.Errorf("%v allocations a record", n)
	}
}

func TestJoin(t *testing.T) {
	withHeader := CSV[item]{Header: []string{"name", "n"}, Row: itemRow}
	a, _ := file(t, withHeader, item{"a", 1})
	b, _ := file(t, withHeader, item{"b", 2})
	none, _ := file(t, withHeader)
	for _, c := range []struct {
		name  string
		j     Joiner
		files []string
		want  string
	}{
		{"text", Text[string]{}, []string{"a\n", "", "b\nc\n"}, "a\nb\nc\n"},
		{"json", JSON[string]{}, []string{"1\n", "2\n"}, "1\n2\n"},
		{"csv", CSV[item]{}, []string{"a,1\n", "b,2\n"}, "a,1\nb,2\n"},
		{"csv with a header", withHeader, []string{a, none, b}, "name,n\na,1\nb,2\n"},
		{"csv with a header, the first without records", withHeader, []string{none, b}, "name,n\nb,2\n"},
	} {
		var got strings.Builder
		if err := c.j.Join(&got, sections(c.files)); err != nil || got.String() != c.want {
			t.Errorf("%s: got %q, %v, want %q", c.name, got.String(), err, c.want)
		}
	}
	for _, other := range []string{"a,1\n", "", "name,m\nb,2\n"} {
		if err := withHeader.Join(io.Discard, sections([]string{a, other})); err == nil || !strings.Contains(err.Error(), "header") {
			t.Errorf("file %q without the header: %v", other, err)
		}
	}
}

func sections(files []string) (out []*io.SectionReader) {
	for _, s := range files {
		out = append(out, io.NewSectionReader(strings.NewReader(s), 0, int64(len(s))))
	}
	return out
}
