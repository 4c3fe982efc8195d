package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// tested is a promise that tests of the repository hold: all that match must pass, and there must be as many as expected.
type tested struct {
	name  string
	pkg   string
	match string   // -run
	least int      // tests and subtests that must have passed
	env   []string // beside the caller's
	limit time.Duration
}

func (t tested) check(ctx context.Context, e *env) (string, error) {
	limit := t.limit
	if limit == 0 {
		limit = 5 * time.Minute
	}
	began := time.Now()
	p, err := e.start(ctx, func(c *exec.Cmd) { c.Env = append(os.Environ(), t.env...) },
		"go", "test", "-count=1", "-v", "-timeout", limit.String(), "-run", t.match, t.pkg)
	if err != nil {
		return "", err
	}
	if err := p.finish(limit + time.Minute); err != nil {
		return "", err
	}
	passed := strings.Count(p.text(), "--- PASS: ")
	figure := fmt.Sprintf("%d tests, %.1f s%s", passed, time.Since(began).Seconds(), said(p.text()))
	return figure, want(passed >= max(t.least, 1), "only %d tests match %s in %s, want %d", passed, t.match, t.pkg, max(t.least, 1))
}

// logged is a line that a test logged as a figure for people: "file.go:12: figure: ...".
var logged = regexp.MustCompile(`(?m)^ *\S+\.go:\d+: figure: (.*)$`)

func said(text string) string {
	var b strings.Builder
	for _, m := range logged.FindAllStringSubmatch(text, 4) {
		b.WriteString("; " + m[1])
	}
	return b.String()
}

// lastLine is a promise that a command of the Makefile prints as its last line.
type lastLine struct {
	name  string
	args  []string // of make
	wants string   // regular expression that the whole line must match
	limit time.Duration
}

func (l lastLine) check(ctx context.Context, e *env) (string, error) {
	began := time.Now()
	p, err := e.start(ctx, nil, "make", append([]string{"--no-print-directory"}, l.args...)...)
	if err != nil {
		return "", err
	}
	if err := p.finish(l.limit); err != nil {
		return "", err
	}
	lines := strings.Split(strings.TrimSpace(p.text()), "\n")
	last := lines[len(lines)-1]
	ok, err := regexp.MatchString("^(?:"+l.wants+")$", last)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s (%.1f minutes)", last, time.Since(began).Minutes()), want(ok, "the last line isn't %s", l.wants)
}
