package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// accessLog is the log the counts are checked on, in two halves: files, then topic.
type accessLog struct {
	files, live []string
	from        string // for figures
}

func (l *accessLog) lines() int { return len(l.files) + len(l.live) }

// accessLog is read or made up once.
func (e *env) accessLog() (*accessLog, error) {
	if e.log != nil {
		return e.log, nil
	}
	name := os.Getenv("WEIRLINE_ACCESS_LOG")
	if name == "" {
		e.log = halves(madeUp(10_000), "made-up log")
		return e.log, nil
	}
	lines, err := readLines(name)
	if err != nil {
		return nil, fmt.Errorf("read WEIRLINE_ACCESS_LOG: %w", err)
	}
	e.log = halves(lines, "real log")
	return e.log, nil
}

func halves(lines []string, from string) *accessLog {
	n := len(lines) / 2
	return &accessLog{files: lines[:n:n], live: lines[n:], from: from}
}

// padded has so many bytes more at the end of each line of the topic, which no compression makes small.
func (l *accessLog) padded(n int) *accessLog {
	rnd := rand.New(rand.NewPCG(13, 14)) //nolint:gosec // the same each time
	out := &accessLog{files: l.files, from: l.from}
	for _, line := range l.live {
		pad := make([]byte, n)
		for i := range pad {
			pad[i] = 'A' + byte(rnd.IntN(58))
		}
		out.live = append(out.live, line+string(pad))
	}
	return out
}

func readLines(name string) ([]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(name, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			return nil, err
		}
	}
	var lines []string
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<24)
	for s.Scan() {
		lines = append(lines, s.Text())
	}
	return lines, s.Err()
}

// madeUp is a log of n lines over some hours, out of order by up to 59 s, with lines among them that don't count.
func madeUp(n int) []string {
	rnd := rand.New(rand.NewPCG(11, 12)) //nolint:gosec // the same each time
	start := time.Date(2024, 2, 29, 22, 10, 0, 0, time.UTC)
	lines := make([]string, n)
	for i := range lines {
		if i%997 == 500 {
			lines[i] = "not a line of an access log"
			continue
		}
		at := start.Add(time.Duration(i)*2*time.Second - time.Duration(rnd.IntN(60))*time.Second)
		page := fmt.Sprintf("/page/%d", rnd.IntN(rnd.IntN(40)+1))
		if rnd.IntN(3) == 0 {
			page += fmt.Sprintf("?from=%d", rnd.IntN(9))
		}
		lines[i] = fmt.Sprintf(`10.0.%d.%d - - [%s] "GET %s HTTP/1.1" 200 %d "-" "browser"`, rnd.IntN(3), rnd.IntN(90),
			at.In(time.FixedZone("", 5400)).Format(clock), page, rnd.IntN(1e5))
	}
	return lines
}

const clock = "02/Jan/2006:15:04:05 -0700"

var counts = regexp.MustCompile(`(\S+) \S+ \S+ \[([^\]]*)\] "(\S+) (\S+)`)

// truth computes the results from the lines, in the plainest way there is: the CSV, and how many lines count.
func truth(lines ...[]string) (out []byte, counted int) {
	type cell struct {
		minute int64
		page   string
	}
	views, visitors := map[cell]int{}, map[cell]map[string]bool{}
	for _, line := range slices.Concat(lines...) {
		m := counts.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		at, err := time.Parse(clock, m[2])
		if err != nil {
			continue
		}
		counted++
		page, _, _ := strings.Cut(m[4], "?")
		for p := range map[string]bool{"*": true, page: true} {
			c := cell{at.Unix() - (at.Unix()%60+60)%60, p}
			if views[c]++; visitors[c] == nil {
				visitors[c] = map[string]bool{}
			}
			visitors[c][m[1]] = true
		}
	}
	cells := make([]cell, 0, len(views))
	for c := range views {
		cells = append(cells, c)
	}
	slices.SortFunc(cells, func(a, b cell) int {
		if a.minute != b.minute {
			return int(a.minute - b.minute)
		}
		return strings.Compare(a.page, b.page)
	})
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.Write([]string{"minute", "page", "pv", "uv"}) //nolint:errcheck // into memory
	for _, c := range cells {
		w.Write([]string{ //nolint:errcheck // into memory
			time.Unix(c.minute, 0).UTC().Format(time.RFC3339), c.page, strconv.Itoa(views[c]), strconv.Itoa(len(visitors[c])),
		})
	}
	w.Flush()
	return b.Bytes(), counted
}

// same says in which row two results differ.
func same(got, want []byte) error {
	if bytes.Equal(got, want) {
		return nil
	}
	g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Errorf("row %d of %d is %q, want %q", i, len(g), g[i], w[i])
		}
	}
	return fmt.Errorf("%d rows, want %d", len(g), len(w))
}
