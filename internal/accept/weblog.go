package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// job is a bounded run of weblog: its directories and what must come of it.
type job struct {
	e     *env
	dir   string
	flags []string
	log   *accessLog
	want  []byte
	lines int // that count
}

// newJob lays the files out: file says in which one line i of the first half goes.
func (e *env) newJob(l *accessLog, file func(i int) string, flags ...string) (*job, error) {
	dir, err := e.dir("job")
	if err != nil {
		return nil, err
	}
	j := &job{e: e, dir: dir, flags: flags, log: l}
	j.want, j.lines = truth(l.files, l.live)
	byFile := map[string][]string{}
	for i, line := range l.files {
		name := "a.log"
		if file != nil {
			name = file(i)
		}
		byFile[name] = append(byFile[name], line)
	}
	for name, lines := range byFile {
		if err := j.write("logs/"+name, lines); err != nil {
			return nil, err
		}
	}
	return j, j.write("live/b.log", l.live)
}

func (j *job) path(name string) string { return filepath.Join(j.dir, filepath.FromSlash(name)) }

func (j *job) write(name string, lines []string) error {
	if err := os.MkdirAll(filepath.Dir(j.path(name)), 0o755); err != nil {
		return err
	}
	text := strings.Join(lines, "\n")
	if len(lines) > 0 {
		text += "\n"
	}
	return os.WriteFile(j.path(name), []byte(text), 0o644)
}

// start starts the binary; later flags win.
func (j *job) start(ctx context.Context, more ...string) (*process, error) {
	bin, err := j.e.binary("weblog")
	if err != nil {
		return nil, err
	}
	args := append([]string{
		"-once", "-logs", j.path("logs"), "-live", j.path("live"), "-state", j.path("state"), "-out", j.path("out.csv"),
		"-log-format", "json", "-checkpoint", "100ms",
	}, j.flags...)
	return j.e.start(ctx, nil, bin, append(args, more...)...)
}

// finish runs it to its end and compares the results.
func (j *job) finish(ctx context.Context, more ...string) (figure string, err error) {
	began := time.Now()
	p, err := j.start(ctx, more...)
	if err != nil {
		return "", err
	}
	if err := p.finish(5 * time.Minute); err != nil {
		return "", err
	}
	return j.compare(p, time.Since(began))
}

// compare holds the file and what the run said about it against the truth.
func (j *job) compare(p *process, took time.Duration) (figure string, err error) {
	got, err := os.ReadFile(j.path("out.csv"))
	if err != nil {
		return "", fmt.Errorf("%w; last said: %s", err, p.tail())
	}
	if err := same(got, j.want); err != nil {
		return "", err
	}
	said := p.said("results written")
	if said == nil {
		return "", fmt.Errorf("it doesn't say what it wrote; last said: %s", p.tail())
	}
	if said.number("late") != 0 || said.number("views") != float64(j.lines) ||
		said.number("file_lines") != float64(len(j.log.files)) || said.number("topic_lines") != float64(len(j.log.live)) {
		return "", fmt.Errorf("it counted %v file lines, %v topic lines, %v views, %v late; want %d, %d, %d, 0", said["file_lines"],
			said["topic_lines"], said["views"], said["late"], len(j.log.files), len(j.log.live), j.lines)
	}
	rows := strings.Count(string(got), "\n") - 1
	return fmt.Sprintf("%s: %d rows equal, late 0, %.1f s", j.log.from, rows, took.Seconds()), nil
}

// offsets wants every partition read from 0 to its end without a gap: line i of the topic is record i/n of partition i mod n.
func (j *job) offsets(p *process, partitions int) error {
	var parts []string
	for i := range min(partitions, len(j.log.live)) {
		parts = append(parts, fmt.Sprintf("%d:0-%d", i, (len(j.log.live)-i-1)/partitions))
	}
	want, got := strings.Join(parts, " "), p.said("results written").text("offsets")
	if got != want {
		return fmt.Errorf("offsets read: %q, want %q", got, want)
	}
	return nil
}

// suspend starts it slowly, stops it as Ctrl-C does after a while, and wants a line that says so.
func (j *job) suspend(ctx context.Context, after time.Duration, more ...string) error {
	p, err := j.start(ctx, append(more, "-rate", strconv.Itoa(j.log.lines()/6))...)
	if err != nil {
		return err
	}
	if err := p.await(20*time.Second, "a start", func() bool { return p.started() != nil }); err != nil {
		return err
	}
	rest(after)
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	if err := p.finish(30 * time.Second); err != nil {
		return err
	}
	if _, err := os.Stat(j.path("out.csv")); err == nil {
		return fmt.Errorf("it wrote results instead of suspending")
	}
	return want(strings.Contains(p.text(), "suspended"), "no line says that it was suspended; last said: %s", p.tail())
}

// started is the line with which a job begins or goes on.
func (p *process) started() entry {
	if l := p.said("job resumes"); l != nil {
		return l
	}
	return p.said("job starts")
}
