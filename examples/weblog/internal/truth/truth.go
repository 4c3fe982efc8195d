// Package truth computes what weblog must come to, in the plainest way there is: one loop, a regular expression, maps. It
// shares no code with the job. Tests and acceptance use it.
//
//	r, err := truth.Of(file1, file2)
//	want := r.CSV()
//
// Everything is kept in memory; nothing is started.
package truth

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"regexp"
	"sort"
	"strings"
	"time"
)

var counts = regexp.MustCompile(`^(\S+) \S+ \S+ \[([0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4})\] "(\S+) (\S+)`)

type cell struct {
	views    int
	visitors map[string]bool
}

// Result is the counts by minute and page.
type Result struct {
	Counted, Skipped int
	cells            map[string]map[string]*cell // minute, page
}

// New is a Result without lines.
func New() *Result { return &Result{cells: map[string]map[string]*cell{}} }

// Line counts a line.
func (r *Result) Line(line string) {
	m := counts.FindStringSubmatch(line)
	if m == nil {
		r.Skipped++
		return
	}
	at, err := time.Parse("02/Jan/2006:15:04:05 -0700", m[2])
	if err != nil {
		r.Skipped++
		return
	}
	r.Counted++
	minute := at.UTC().Format("2006-01-02T15:04:00Z")
	page := strings.SplitN(m[4], "?", 2)[0]
	for p := range map[string]bool{page: true, "*": true} {
		if r.cells[minute] == nil {
			r.cells[minute] = map[string]*cell{}
		}
		c := r.cells[minute][p]
		if c == nil {
			c = &cell{visitors: map[string]bool{}}
			r.cells[minute][p] = c
		}
		c.views++
		c.visitors[m[1]] = true
	}
}

// CSV is the file that weblog must write.
func (r *Result) CSV() []byte {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	rows := [][]string{{"minute", "page", "pv", "uv"}}
	var minutes []string
	for m := range r.cells {
		minutes = append(minutes, m)
	}
	sort.Strings(minutes)
	for _, m := range minutes {
		var pages []string
		for p := range r.cells[m] {
			pages = append(pages, p)
		}
		sort.Strings(pages)
		for _, p := range pages {
			c := r.cells[m][p]
			rows = append(rows, []string{m, p, fmt.Sprint(c.views), fmt.Sprint(len(c.visitors))})
		}
	}
	if err := w.WriteAll(rows); err != nil {
		panic(err) // a buffer takes everything
	}
	return b.Bytes()
}

// Of counts the lines of files, plain or, with names that end in .gz, compressed.
func Of(files ...string) (*Result, error) {
	r := New()
	for _, name := range files {
		lines, err := Lines(name)
		if err != nil {
			return nil, err
		}
		for _, l := range lines {
			r.Line(l)
		}
	}
	return r, nil
}

// Lines is the lines of a file without their ends.
func Lines(name string) ([]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var in io.Reader = f
	if strings.HasSuffix(name, ".gz") {
		if in, err = gzip.NewReader(f); err != nil {
			return nil, err
		}
	}
	s := bufio.NewScanner(in)
	s.Buffer(nil, 64<<20)
	var lines []string
	for s.Scan() {
		lines = append(lines, s.Text())
	}
	return lines, s.Err()
}
