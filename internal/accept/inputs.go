package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/weirline/weirline/internal/testsvc"
)

// refusal is what weblog must say to bad input: exit code, error code and a fix, within a time limit.
type refusal struct {
	exit  int // failed = 1 or 2, whatever was found out first
	code  string
	says  string // a piece of what it says; "" = none
	limit time.Duration
	// prepare spoils something and returns flags; done undoes what outlives the check.
	prepare func(ctx context.Context, j *job) (flags []string, as func(*exec.Cmd), done func(), err error)
}

const failed = -1

func inputChecks() (all []check) {
	flags := func(flags ...string) func(context.Context, *job) ([]string, func(*exec.Cmd), func(), error) {
		return func(context.Context, *job) ([]string, func(*exec.Cmd), func(), error) { return flags, nil, nil, nil }
	}
	for _, c := range []struct {
		name string
		refusal
	}{
		{"unknown-flag", refusal{2, "WL1501", "did you mean", 5 * time.Second, flags("-log", "x")}},
		{"empty-directory", refusal{failed, "WL1201", "", 20 * time.Second, emptyLogs}},
		{"unreadable-directory", refusal{failed, "WL1202", "", 20 * time.Second, unreadableLogs}},
		{"wrong-topic", refusal{failed, "WL1206", "nosuch", 20 * time.Second, wrongTopic}},
		{"unreachable-broker", refusal{failed, "WL1207", "", 30 * time.Second, unreachable}},
		{"wrong-password", refusal{failed, "WL1208", "", 20 * time.Second, wrongPassword}},
		{"line-too-long", refusal{failed, "WL1204", "", 30 * time.Second, longLine}},
		{"gzip-cut-short", refusal{failed, "WL1205", "", 30 * time.Second, cutShort}},
		{"state-of-another-job", refusal{failed, "WL1102", "", 20 * time.Second, otherJob}},
		{"newer-format", refusal{failed, "WL1103", "", 20 * time.Second, newerFormat}},
		{"second-copy", refusal{3, "WL1101", "held by process", 20 * time.Second, secondCopy}},
		{"taken-port", refusal{2, "WL1502", "-addr", 20 * time.Second, takenPort}},
	} {
		all = append(all, check{"bad-input/" + c.name, c.check})
	}
	return append(all, check{"bad-input/malformed-lines", malformed})
}

func (r refusal) check(ctx context.Context, e *env) (string, error) {
	l := halves(madeUp(2000), "made-up log")
	j, err := e.newJob(l, nil)
	if err != nil {
		return "", err
	}
	flags, as, done, err := r.prepare(ctx, j)
	if done != nil {
		defer done()
	}
	if err != nil {
		return "", err
	}
	bin, err := e.reachable("weblog")
	if err != nil {
		return "", err
	}
	args := append([]string{"-once", "-logs", j.path("logs"), "-live", j.path("live"), "-state", j.path("state"), "-out", j.path("out.csv")}, flags...)
	began := time.Now()
	p, err := e.start(ctx, as, bin, args...)
	if err != nil {
		return "", err
	}
	exit, err := p.wait(r.limit)
	if err != nil {
		return "", err
	}
	return r.judge(exit, p.text(), time.Since(began))
}

// judge looks at the line that begins with "error:".
func (r refusal) judge(exit int, text string, took time.Duration) (string, error) {
	line := ""
	for _, l := range strings.Split(text, "\n") {
		if strings.HasPrefix(l, "error: ") {
			line = l
		}
	}
	figure := fmt.Sprintf("exit %d in %.1f s: %s", exit, took.Seconds(), line)
	switch {
	case line == "":
		return figure, errors.New("no line begins with the word error")
	case r.exit != failed && exit != r.exit:
		return figure, fmt.Errorf("want exit code %d", r.exit)
	case exit != 1 && exit != 2 && r.exit == failed:
		return figure, errors.New("want exit code 1 or 2")
	case !strings.Contains(line, r.code+":"):
		return figure, fmt.Errorf("want code %s", r.code)
	case !strings.Contains(line, "fix: "):
		return figure, errors.New("it names no fix")
	case !strings.Contains(line, r.says):
		return figure, fmt.Errorf("it doesn't say %q", r.says)
	}
	return figure, nil
}

// reachable is a copy of a binary that other users may run.
func (e *env) reachable(name string) (string, error) {
	from, err := e.binary(name)
	if err != nil {
		return "", err
	}
	to := filepath.Join(e.tmp, name)
	if _, err := os.Stat(to); err == nil {
		return to, nil
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return "", err
	}
	return to, os.WriteFile(to, b, 0o755)
}

func emptyLogs(_ context.Context, j *job) ([]string, func(*exec.Cmd), func(), error) {
	return nil, nil, nil, os.Remove(j.path("logs/a.log"))
}

// unreadableLogs runs weblog as a user who may not look into the directory.
func unreadableLogs(_ context.Context, j *job) ([]string, func(*exec.Cmd), func(), error) {
	as, uid := anotherUser()
	err := os.Chmod(j.path("logs"), 0o700)
	if uid >= 0 {
		err = errors.Join(err, os.Mkdir(j.path("state"), 0o700), os.Chown(j.path("state"), uid, -1))
	} else {
		err = errors.Join(err, os.Chmod(j.path("logs"), 0))
	}
	return nil, as, func() { os.Chmod(j.path("logs"), 0o700) }, err //nolint:errcheck // it is removed
}

func wrongTopic(ctx context.Context, j *job) ([]string, func(*exec.Cmd), func(), error) {
	flags, err := j.e.real(ctx, 1)
	return append(flags, "-topic", "nosuch"), nil, nil, err
}

func unreachable(context.Context, *job) ([]string, func(*exec.Cmd), func(), error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, nil, err
	}
	addr := l.Addr().String()
	return []string{"-kafka", addr}, nil, nil, l.Close() // nobody listens there now
}

func wrongPassword(ctx context.Context, j *job) ([]string, func(*exec.Cmd), func(), error) {
	r, err := testsvc.StartRedis(ctx, j.path("redis"), testsvc.RedisOptions{Password: "right-password"})
	if err != nil {
		return nil, nil, nil, err
	}
	as := func(c *exec.Cmd) { c.Env = append(os.Environ(), "WEBLOG_REDIS_PASSWORD=wrong-password") }
	return []string{"-redis", r.Addr}, as, r.Kill, nil
}

func longLine(_ context.Context, j *job) ([]string, func(*exec.Cmd), func(), error) {
	return nil, nil, nil, j.write("logs/a.log", append(j.log.files[:9:9], strings.Repeat("x", 2<<20)))
}

func cutShort(_ context.Context, j *job) ([]string, func(*exec.Cmd), func(), error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write([]byte(strings.Join(j.log.files, "\n")))
	err = errors.Join(err, z.Close(), os.Remove(j.path("logs/a.log")),
		os.WriteFile(j.path("logs/a.log.gz"), b.Bytes()[:b.Len()/2], 0o644))
	return nil, nil, nil, err
}

// once runs the job to its end, so that there is state.
func (j *job) once(ctx context.Context) error {
	_, err := j.finish(ctx)
	return err
}

// otherJob gives weblog the state of a job with another name, which examples/hello leaves behind.
func otherJob(ctx context.Context, j *job) ([]string, func(*exec.Cmd), func(), error) {
	if err := errors.Join(j.write("hello/logs/a.json", []string{`{"at":"2026-01-02T03:04:05Z","page":"/"}`}),
		os.MkdirAll(j.path("hello/counts"), 0o755), os.MkdirAll(j.path("state"), 0o700)); err != nil {
		return nil, nil, nil, err
	}
	bin := j.path("hello/hello")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", bin, "./examples/hello").CombinedOutput(); err != nil {
		return nil, nil, nil, fmt.Errorf("build examples/hello: %w: %s", err, out)
	}
	p, err := j.e.start(ctx, func(c *exec.Cmd) { c.Dir = j.path("hello") }, bin, "-state", j.path("state/job"))
	if err != nil {
		return nil, nil, nil, err
	}
	return nil, nil, nil, p.finish(30 * time.Second)
}

// newerFormat raises the version in the pointer and in the newest epoch, as a newer binary would write it.
func newerFormat(ctx context.Context, j *job) ([]string, func(*exec.Cmd), func(), error) {
	if err := j.once(ctx); err != nil {
		return nil, nil, nil, err
	}
	names, err := filepath.Glob(j.path("state/job/epochs/*.epoch"))
	for _, name := range append(names, j.path("state/job/CURRENT")) {
		err = errors.Join(err, raiseVersion(name))
	}
	return nil, nil, nil, err
}

func secondCopy(ctx context.Context, j *job) ([]string, func(*exec.Cmd), func(), error) {
	p, err := j.startSlowly(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	return nil, nil, p.kill, nil
}

func takenPort(context.Context, *job) ([]string, func(*exec.Cmd), func(), error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, nil, err
	}
	return []string{"-addr", l.Addr().String()}, nil, func() { l.Close() }, nil //nolint:errcheck // nothing was sent
}

// malformed lines don't count, and weblog says how many there were.
func malformed(ctx context.Context, e *env) (string, error) {
	l := halves(madeUp(5000), "made-up log")
	for i := range l.files {
		switch i % 50 {
		case 7:
			l.files[i] = "\x00\xff\xfe broken \x01"
		case 8:
			l.files[i] = `10.0.0.1 - - [31/Feb/2024:10:00:00 +0000] "GET / HTTP/1.1" 200 1`
		case 9:
			l.files[i] = ""
		}
	}
	j, err := e.newJob(l, nil)
	if err != nil {
		return "", err
	}
	p, err := j.start(ctx)
	if err != nil {
		return "", err
	}
	began := time.Now()
	if err := p.finish(time.Minute); err != nil {
		return "", err
	}
	figure, err := j.compare(p, time.Since(began))
	if err != nil {
		return figure, err
	}
	skipped := int(p.said("results written").number("skipped"))
	return figure + fmt.Sprintf(", %d lines skipped", skipped), want(skipped == l.lines()-j.lines, "want %d skipped", l.lines()-j.lines)
}

// raiseVersion adds one to the format version of a framed file of package store and corrects the checksum.
func raiseVersion(name string) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	const version, sum, payload = 8, 20, 28 // offsets in the frame
	if len(b) < payload {
		return fmt.Errorf("%s has no frame", name)
	}
	binary.LittleEndian.PutUint32(b[version:], binary.LittleEndian.Uint32(b[version:])+1)
	h := xxhash.New()
	h.Write(b[:sum])     //nolint:errcheck // never fails
	h.Write(b[payload:]) //nolint:errcheck // never fails
	binary.LittleEndian.PutUint64(b[sum:], h.Sum64())
	return os.WriteFile(name, b, 0o600)
}
