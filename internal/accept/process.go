package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// process is a child whose output goes into a kept file.
type process struct {
	cmd   *exec.Cmd
	log   string // its path
	began time.Time
	done  chan struct{}
	err   error // once done is closed
}

// start starts a child; prepare, if not nil, may change it first. It is killed when ctx ends.
func (e *env) start(ctx context.Context, prepare func(*exec.Cmd), name string, args ...string) (*process, error) {
	f, err := e.keep()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p := &process{cmd: exec.CommandContext(ctx, name, args...), log: f.Name(), began: time.Now(), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = f, f
	p.cmd.WaitDelay = 5 * time.Second
	if prepare != nil {
		prepare(p.cmd)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { // ended by the child's end, which kill and ctx bring about
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// alive says whether it hasn't ended.
func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// wait waits for the end and returns the exit code; -1 after a signal.
func (p *process) wait(limit time.Duration) (code int, err error) {
	select {
	case <-p.done:
	case <-time.After(limit):
		p.kill()
		return -1, fmt.Errorf("it didn't end within %v; last said: %s", limit, p.tail())
	}
	if exit := (*exec.ExitError)(nil); p.err != nil && !errors.As(p.err, &exit) {
		return -1, p.err
	}
	return p.cmd.ProcessState.ExitCode(), nil
}

// finish wants the exit code 0.
func (p *process) finish(limit time.Duration) error {
	code, err := p.wait(limit)
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d; last said: %s", code, p.tail())
	}
	return err
}

// kill ends it with SIGKILL and waits until it is gone.
func (p *process) kill() {
	p.cmd.Process.Kill() //nolint:errcheck // it may have ended
	<-p.done
}

// text is all it has written so far.
func (p *process) text() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (p *process) tail() string {
	lines := strings.Split(strings.TrimSpace(p.text()), "\n")
	return strings.Join(lines[max(0, len(lines)-2):], " | ")
}

// entry is one line of a log in JSON.
type entry map[string]any

func (l entry) text(key string) string { s, _ := l[key].(string); return s }

func (l entry) number(key string) float64 { n, _ := l[key].(float64); return n }

// entries are the lines of its log.
func (p *process) entries() (out []entry) {
	for line := range bytes.Lines([]byte(p.text())) {
		l := entry{}
		if json.Unmarshal(line, &l) == nil {
			out = append(out, l)
		}
	}
	return out
}

// said is the last entry with this message, nil if there is none.
func (p *process) said(msg string) entry {
	var last entry
	for _, l := range p.entries() {
		if l.text("msg") == msg {
			last = l
		}
	}
	return last
}

// await waits until holds or the child has ended.
func (p *process) await(limit time.Duration, what string, holds func() bool) error {
	end := time.Now().Add(limit)
	for !holds() {
		if !p.alive() {
			return fmt.Errorf("it ended before %s; last said: %s", what, p.tail())
		}
		if time.Now().After(end) {
			return fmt.Errorf("no %s within %v; last said: %s", what, limit, p.tail())
		}
		rest(10 * time.Millisecond)
	}
	return nil
}

// rest lets real time pass: children live in it.
func rest(d time.Duration) { <-time.After(d) }
