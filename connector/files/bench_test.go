package files_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/weirline/weirline/connector/files"
	"github.com/weirline/weirline/enumerator"
	"github.com/weirline/weirline/source"
)

const benchLines = 400_000

func benchFile(b *testing.B) string {
	var text bytes.Buffer
	for i := range benchLines {
		fmt.Fprintf(&text, "%09d some line of a log with a few words in it, %d\n", i, i%97)
	}
	path := b.TempDir() + "/lines.log"
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

// bare is what is to be reached: blocks, IndexByte, a slice of lines.
func bare(path string) (n int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf := make([]byte, 256<<10)
	lines := make([][]byte, 0, 1024)
	end := 0
	for {
		m, err := f.Read(buf[end:])
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		end += m
		data := buf[:end]
		for {
			i := bytes.IndexByte(data, '\n')
			if i < 0 {
				break
			}
			if len(lines) == cap(lines) {
				lines = lines[:0]
			}
			lines = append(lines, data[:i:i])
			n++
			data = data[i+1:]
		}
		end = copy(buf, data)
	}
}

func through[T any](b *testing.B, path string) (n int) {
	r, err := files.Source[T]{Paths: []string{path}}.Reader(b.Context(), source.Task{Parallelism: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	if err := r.Add(b.Context(), files.Split{Name: path, Parts: []enumerator.Part{{Path: path, To: -1}}}); err != nil {
		b.Fatal(err)
	}
	var batch source.Batch[T]
	batch.Limit(1024)
	for {
		batch.Reset()
		_, err := r.Read(b.Context(), &batch)
		n += len(batch.Values)
		if errors.Is(err, io.EOF) {
			return n
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLines compares with a bare loop; values=bytes must take less than twice as long.
func BenchmarkLines(b *testing.B) {
	path := benchFile(b)
	for _, c := range []struct {
		name string
		run  func() int
	}{
		{"values=bare", func() int {
			n, err := bare(path)
			if err != nil {
				b.Fatal(err)
			}
			return n
		}},
		{"values=bytes", func() int { return through[[]byte](b, path) }},
		{"values=text", func() int { return through[string](b, path) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if got := c.run(); got != benchLines {
					b.Fatalf("%d lines, want %d", got, benchLines)
				}
				n += benchLines
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds()/1e6, "Mrec/s")
		})
	}
}
