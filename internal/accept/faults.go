package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/weirline/weirline/internal/testsvc"
)

func faultChecks() []check {
	return []check{
		{"faults/broker-killed", outage{
			kill: func(k *testsvc.KafkaServer, _ *testsvc.RedisServer) error { k.Kill(); return nil },
			heal: func(ctx context.Context, k *testsvc.KafkaServer, _ *testsvc.RedisServer) error { return k.Restart(ctx) },
			pad:  12 << 10, warns: "kafka", heals: "reachable again",
		}.check},
		{"faults/redis-killed", outage{
			kill:  func(_ *testsvc.KafkaServer, r *testsvc.RedisServer) error { r.Kill(); return nil },
			heal:  func(ctx context.Context, _ *testsvc.KafkaServer, r *testsvc.RedisServer) error { return r.Restart(ctx) },
			warns: "send failed", heals: "takes records again",
		}.check},
		{"faults/redis-slow", outage{
			kill: func(_ *testsvc.KafkaServer, r *testsvc.RedisServer) error { return r.Pause() },
			heal: func(_ context.Context, _ *testsvc.KafkaServer, r *testsvc.RedisServer) error { return r.Resume() },
		}.check},
		{"faults/disk-full", diskFull},
	}
}

// outage is a service that goes away during a run and comes back.
type outage struct {
	kill  func(*testsvc.KafkaServer, *testsvc.RedisServer) error
	heal  func(context.Context, *testsvc.KafkaServer, *testsvc.RedisServer) error
	pad   int    // bytes added to each line of the topic, so that it isn't fetched whole before the outage
	warns string // in the message of the warning; "" = none is needed
	heals string // in the message that tells of the end
}

const (
	faultSeconds = 8.0 // a run without faults
	outageLasts  = 3 * time.Second
)

func (o outage) check(ctx context.Context, e *env) (string, error) {
	l, err := e.accessLog()
	if err != nil {
		return "", err
	}
	k, r, stop, err := e.own(ctx)
	if err != nil {
		return "", err
	}
	defer stop()
	flags, err := realFlags(ctx, k, r, "fault", 3)
	if err != nil {
		return "", err
	}
	j, err := e.newJob(l.padded(o.pad), evenly(4), flags...)
	if err != nil {
		return "", err
	}
	began := time.Now()
	p, err := j.startSlowly(ctx)
	if err != nil {
		return "", err
	}
	rest(time.Duration(0.65 * faultSeconds * float64(time.Second))) // in the topic; before it no window closes, so nothing is written
	if err := o.happen(ctx, p, k, r); err != nil {
		return "", err
	}
	if err := p.finish(2 * time.Minute); err != nil {
		return "", err
	}
	figure, err := j.compare(p, time.Since(began))
	if err != nil {
		return figure, err
	}
	reports, err := o.reported(p)
	return figure + fmt.Sprintf(", away for %v, %s", outageLasts, reports), err
}

func (j *job) startSlowly(ctx context.Context, more ...string) (*process, error) {
	p, err := j.start(ctx, append(more, "-parallelism", "2", "-rate", strconv.Itoa(int(float64(j.log.lines())/faultSeconds)))...)
	if err == nil {
		err = p.await(time.Minute, "a start", func() bool { return p.started() != nil })
	}
	return p, err
}

func (o outage) happen(ctx context.Context, p *process, k *testsvc.KafkaServer, r *testsvc.RedisServer) error {
	if err := want(p.alive(), "it ended before the outage; last said: %s", p.tail()); err != nil {
		return err
	}
	if err := o.kill(k, r); err != nil {
		return err
	}
	rest(outageLasts)
	if err := want(p.alive(), "it didn't wait: it ended during the outage; last said: %s", p.tail()); err != nil {
		return errors.Join(err, o.heal(ctx, k, r))
	}
	return o.heal(ctx, k, r)
}

// reported counts the warnings: at most one for each streak and task, at least one in all.
func (o outage) reported(p *process) (string, error) {
	streaks, most, replay, healed := map[string]int{}, 0, false, false
	for _, l := range p.entries() {
		healed = healed || o.heals != "" && strings.Contains(l.text("msg"), o.heals)
		if l.text("level") != "WARN" {
			continue
		}
		key := fmt.Sprint(l.text("msg"), l["operator"], l["task"], l["broker"], l["split"])
		streaks[key]++
		most = max(most, streaks[key])
		for key := range l {
			replay = replay || strings.Contains(key, "restart")
		}
	}
	figure := fmt.Sprintf("%d kinds of warnings, each at most %d times", len(streaks), most)
	if o.warns == "" {
		return figure, want(most <= 1, "a streak was reported more than once")
	}
	found := false
	for key := range streaks {
		found = found || strings.Contains(key, o.warns)
	}
	switch {
	case !found:
		return figure, fmt.Errorf("no warning says %q", o.warns)
	case most > 1:
		return figure, errors.New("a streak was reported more than once")
	case !healed:
		return figure, fmt.Errorf("no line tells of the end of the outage (%s)", o.heals)
	case !replay:
		return figure, errors.New("no warning says what a restart would replay")
	}
	return figure, nil
}

// diskFull has the state on a small file system that fills up during the run.
func diskFull(ctx context.Context, e *env) (string, error) {
	l, err := e.accessLog()
	if err != nil {
		return "", err
	}
	flags, err := e.real(ctx, 3)
	if err != nil {
		return "", err
	}
	j, err := e.newJob(l, evenly(4), flags...)
	if err != nil {
		return "", err
	}
	disk := j.path("state")
	if err := os.Mkdir(disk, 0o700); err != nil {
		return "", err
	}
	if out, err := exec.CommandContext(ctx, "mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", disk).CombinedOutput(); err != nil {
		return "", fmt.Errorf("mount a small file system, which takes root: %w: %s", err, out)
	}
	defer exec.Command("umount", "-l", disk).Run() //nolint:errcheck // the directory is removed with all others
	began := time.Now()
	p, err := j.startSlowly(ctx)
	if err != nil {
		return "", err
	}
	defer p.kill()
	rest(2 * time.Second)
	filled, err := fill(filepath.Join(disk, "ballast"))
	if err != nil {
		return "", err
	}
	const says = "checkpoint failed; the job goes on and retries"
	if err := p.await(10*time.Second, "warning that a checkpoint failed", func() bool { return p.said(says) != nil }); err != nil {
		return "", err
	}
	rest(2 * time.Second)
	if err := os.Remove(filepath.Join(disk, "ballast")); err != nil {
		return "", err
	}
	if err := p.await(10*time.Second, "word that checkpoints succeed again", func() bool { return p.said("checkpoints succeed again") != nil }); err != nil {
		return "", err
	}
	failed := p.said("checkpoints succeed again").number("failed")
	if err := p.finish(2 * time.Minute); err != nil {
		return "", err
	}
	figure, err := j.compare(p, time.Since(began))
	if err != nil {
		return figure, err
	}
	warned := strings.Count(p.text(), says)
	replay := p.said(says).number("a_restart_would_replay_records")
	figure += fmt.Sprintf(", %d bytes of ballast, %v checkpoints failed, %d warning, a restart would have replayed %v records", filled, failed, warned, replay)
	return figure, want(warned == 1 && replay > 0 && strings.Contains(p.said(says).text("error"), "WL1110"),
		"want one warning with WL1110 that says what a restart would replay: %v", p.said(says))
}

// fill writes a file until no byte more has room.
func fill(name string) (n int64, err error) {
	f, err := os.Create(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for chunk := make([]byte, 1<<16); len(chunk) > 0; {
		k, err := f.Write(chunk)
		n += int64(k)
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, io.ErrShortWrite) {
			chunk = chunk[:len(chunk)/2]
		} else if err != nil {
			return n, err
		}
	}
	return n, nil
}
