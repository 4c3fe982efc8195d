package parquet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/weirline/weirline/sink/parts"
)

type order struct {
	ID    int64     `parquet:"id"`
	At    time.Time `parquet:"at,timestamp(microsecond)"`
	Shop  string    `parquet:"shop,dict"`
	Tags  []string  `parquet:"tags,list"`
	Total *float64  `parquet:"total,optional"`
}

func orders(from, n int) (out []order) {
	for i := from; i < from+n; i++ {
		o := order{ID: int64(i), At: time.UnixMicro(int64(i)).UTC(), Shop: fmt.Sprint("shop ", i%7)}
		if i%3 > 0 {
			total := float64(i) / 4
			o.Total, o.Tags = &total, []string{"a", fmt.Sprint(i)}
		}
		out = append(out, o)
	}
	return out
}

// file is what an encoder makes of records, after another file that was given up.
func file[T any](t *testing.T, f Format[T], vs []T) []byte {
	t.Helper()
	enc, err := f.Encoder()
	if err != nil {
		t.Fatal(err)
	}
	var gone, b bytes.Buffer
	for _, w := range []io.Writer{&gone, &b} {
		err := enc.Begin(w)
		for _, v := range vs {
			err = errors.Join(err, enc.Append(v))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := enc.End(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func read(t *testing.T, file []byte) (rows []order, groups int) {
	t.Helper()
	f, err := parquet.OpenFile(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	rows, err = parquet.Read[order](bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		rows[i].At = rows[i].At.UTC()
		if len(rows[i].Tags) == 0 {
			rows[i].Tags = nil
		}
	}
	return rows, len(f.RowGroups())
}

func TestRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, pending, 1000} {
		rows, _ := read(t, file(t, Format[order]{}, orders(0, n)))
		if len(rows) != n || n > 0 && !reflect.DeepEqual(rows, orders(0, n)) {
			t.Errorf("%d records: read back %d", n, len(rows))
		}
	}
}

func TestRowGroups(t *testing.T) {
	for size, want := range map[int64]int{0: 1, -1: 1, 1: 8, 16 << 10: 3} {
		rows, groups := read(t, file(t, Format[order]{RowGroup: size}, orders(0, 1000)))
		if groups != want || !reflect.DeepEqual(rows, orders(0, 1000)) {
			t.Errorf("row groups of %d bytes: %d of them, want %d, with %d records", size, groups, want, len(rows))
		}
	}
}

func TestSizeGrows(t *testing.T) {
	enc, err := Format[order]{}.Encoder()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	err = enc.Begin(&b)
	last := enc.Size()
	for _, part := range [][]order{orders(0, 500), orders(500, 500)} {
		for _, v := range part {
			err = errors.Join(err, enc.Append(v))
		}
		if enc.Size() <= last {
			t.Errorf("size was %d and is %d", last, enc.Size())
		}
		last = enc.Size()
	}
	if err := errors.Join(err, enc.End()); err != nil || last < int64(b.Len())/4 {
		t.Errorf("size was %d at the end of a file of %d bytes: %v", last, b.Len(), err)
	}
}

func TestJoin(t *testing.T) {
	var small, large []*io.SectionReader
	for i := range 5 {
		b := file(t, Format[order]{}, orders(i*100, 100))
		small = append(small, io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b))))
		large = append(large, io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b))))
	}
	for _, c := range []struct {
		name   string
		f      Format[order]
		files  []*io.SectionReader
		groups int
	}{
		{"small files into one row group", Format[order]{}, small, 1},
		{"large files as they are", Format[order]{RowGroup: 1000}, large, 5},
		{"another compression", Format[order]{Options: []parquet.WriterOption{parquet.Compression(&parquet.Zstd)}}, small, 1},
		{"nothing", Format[order]{}, nil, 0},
	} {
		var b bytes.Buffer
		if err := c.f.Join(&b, c.files); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		rows, groups := read(t, b.Bytes())
		if groups != c.groups || len(rows) != 100*len(c.files) || len(rows) > 0 && !reflect.DeepEqual(rows, orders(0, 500)) {
			t.Errorf("%s: %d row groups with %d records", c.name, groups, len(rows))
		}
	}
	damaged := []*io.SectionReader{small[0], io.NewSectionReader(strings.NewReader("PAR1"), 0, 4)}
	if err := (Format[order]{}).Join(io.Discard, damaged); err == nil || !strings.Contains(err.Error(), "file 2 of 2") {
		t.Errorf("a damaged file: %v", err)
	}
}

func TestWhatCantBeParquet(t *testing.T) {
	_, err1 := Format[int]{}.Encoder()
	_, err2 := Format[struct{ F func() }]{}.Encoder()
	_, err3 := Format[struct{}]{}.Encoder()
	_, err4 := Format[order]{Options: []parquet.WriterOption{parquet.PageBufferSize(-1)}}.Encoder()
	for i, err := range []error{err1, err2, err3, err4} {
		if err == nil || !strings.Contains(err.Error(), " as Parquet") {
			t.Errorf("case %d: %v", i+1, err)
		}
	}
}

// full is a file on a full disk.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

var errFull = errors.New("no space")

func TestErrorsOfTheFileComeThrough(t *testing.T) {
	enc, err := Format[order]{RowGroup: 1}.Encoder()
	if err := errors.Join(err, enc.Begin(full{})); err != nil {
		t.Fatal(err)
	}
	for _, o := range orders(0, 100_000) {
		if err = enc.Append(o); err != nil {
			break
		}
	}
	if err == nil {
		err = enc.End()
	}
	if !errors.Is(err, errFull) || parts.IsBad(err) {
		t.Error(err)
	}
}
