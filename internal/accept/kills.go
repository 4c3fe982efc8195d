package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/weirline/weirline/engine/store"
)

func killChecks() []check {
	return []check{
		{"kills/embedded", func(ctx context.Context, e *env) (string, error) { return killed(ctx, e, false) }},
		{"kills/real", func(ctx context.Context, e *env) (string, error) { return killed(ctx, e, true) }},
	}
}

const (
	allKills, fileKills, seamKills, topicKills = 20, 5, 3, 5 // how many there must be, in all and of each kind
	killParts                                  = 4           // partitions
)

// killer kills one job again and again, at places it chooses.
type killer struct {
	job                *job
	rnd                *rand.Rand
	rate               int // lines a second
	epoch              int // lines an epoch has
	at                 int // lines that the newest epoch covers
	kills              int
	files, seam, topic int
	restored, rescaled int
	parallelism        int
}

// killed runs the scenario; if its kills missed a place that wants some, it runs once more with another seed. What a run
// counts is compared in any case, and a difference ends the check.
func killed(ctx context.Context, e *env, real bool) (figure string, err error) {
	l, err := e.accessLog()
	if err != nil {
		return "", err
	}
	for n := range uint64(3) {
		figure, err = killedOnce(ctx, e, l, real, e.seed+n)
		if !errors.Is(err, errMissed) {
			break
		}
	}
	return figure, err
}

// errMissed says that too few kills hit a place.
var errMissed = fmt.Errorf("too few kills of a kind: want %d in the files, %d within an epoch of the seam, %d in the topic",
	fileKills, seamKills, topicKills)

func killedOnce(ctx context.Context, e *env, l *accessLog, real bool, seed uint64) (string, error) {
	flags := []string{"-partitions", strconv.Itoa(killParts)}
	if real {
		var err error
		if flags, err = e.real(ctx, killParts); err != nil {
			return "", err
		}
	}
	j, err := e.newJob(l, evenly(4), flags...)
	if err != nil {
		return "", err
	}
	k := &killer{job: j, rnd: rand.New(rand.NewPCG(seed, 1)), rate: l.lines() / 10, parallelism: 2} //nolint:gosec // repeatable
	k.epoch = k.rate / 10
	for k.kills < allKills {
		if err := k.once(ctx); err != nil {
			return k.figure(seed), err
		}
	}
	began := time.Now()
	p, err := j.start(ctx, "-parallelism", "3")
	if err != nil {
		return "", err
	}
	if err := p.finish(5 * time.Minute); err != nil {
		return k.figure(seed), err
	}
	figure, err := j.compare(p, time.Since(began))
	if err == nil {
		err = j.offsets(p, killParts)
	}
	if err == nil {
		err = k.enough()
	}
	return k.figure(seed) + "; " + figure + "; no offset missing or double", err
}

func (k *killer) figure(seed uint64) string {
	return fmt.Sprintf("seed %d: %d kills (files %d, seam %d, topic %d), %d restarts restored an epoch, %d at another parallelism",
		seed, k.kills, k.files, k.seam, k.topic, k.restored, k.rescaled)
}

func (k *killer) enough() error {
	switch {
	case k.files < fileKills, k.seam < seamKills, k.topic < topicKills:
		return errMissed
	case k.restored < k.kills-1:
		return fmt.Errorf("%d of %d restarts restored no epoch", k.kills-1-k.restored, k.kills-1)
	case k.rescaled < (k.kills-1)/2:
		return fmt.Errorf("only %d restarts had another parallelism", k.rescaled)
	}
	return nil
}

// until waits for the moment of the next kill.
func (k *killer) until(p *process) error {
	seam, end := len(k.job.log.files), k.job.log.lines()
	switch {
	case k.files <= fileKills:
		k.wait((seam - 2*k.epoch - k.at) / (fileKills + 3 - k.files))
		return nil
	case k.seam <= seamKills && k.at < seam-k.epoch: // wait for an epoch that is the seam's neighbour
		return p.await(time.Minute, "seam", func() bool {
			files, topic, err := k.job.progress()
			return err == nil && files+topic >= seam-k.epoch // an error: the epoch was removed while it was copied
		})
	case k.seam <= seamKills && k.at <= seam+k.epoch:
		rest(time.Duration(20+k.rnd.IntN(100)) * time.Millisecond)
		return nil
	}
	k.wait((end - 3*k.epoch - k.at) / (allKills - k.kills + 1))
	return nil
}

// wait lets the job read about so many lines, and an epoch at least.
func (k *killer) wait(lines int) {
	seconds := float64(lines+k.rnd.IntN(k.epoch)) / float64(k.rate)
	rest(max(time.Duration(seconds*float64(time.Second)), 120*time.Millisecond))
}

// once runs the job for a while and kills it.
func (k *killer) once(ctx context.Context) error {
	if k.kills%2 == 1 {
		other := 1 + k.rnd.IntN(3)
		if other >= k.parallelism {
			other++
		}
		k.parallelism = other
		k.rescaled++
	}
	p, err := k.job.start(ctx, "-rate", strconv.Itoa(k.rate), "-parallelism", strconv.Itoa(k.parallelism))
	if err != nil {
		return err
	}
	if err := p.await(time.Minute, "a start", func() bool { return p.started() != nil }); err != nil {
		return err
	}
	if k.kills > 0 && p.said("job resumes").number("epoch") > 0 {
		k.restored++
	}
	if err := k.until(p); err != nil {
		return err
	}
	if !p.alive() {
		return fmt.Errorf("kill %d: the process had ended; last said: %s", k.kills+1, p.tail())
	}
	p.kill()
	k.kills++
	return k.look()
}

// look finds out what the newest epoch covers and counts the kill. The one that was under way is within an epoch of it.
func (k *killer) look() error {
	files, topic, err := k.job.progress()
	if err != nil {
		return fmt.Errorf("after kill %d: %w", k.kills, err)
	}
	k.at = files + topic
	seam := len(k.job.log.files)
	switch {
	case k.at >= seam-k.epoch && k.at <= seam+k.epoch:
		k.seam++
	case k.at < seam:
		k.files++
	default:
		k.topic++
	}
	return nil
}

// progress reads, from a copy of the state, how many lines of the files and of the topic the newest epoch covers.
func (j *job) progress() (files, topic int, err error) {
	dir, err := j.e.dir("copy")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir)
	if err := os.CopyFS(filepath.Join(dir, "job"), os.DirFS(j.path("state/job"))); err != nil {
		return 0, 0, err
	}
	d, err := store.Open(filepath.Join(dir, "job"), store.Options{Job: "weblog"})
	if err != nil {
		return 0, 0, err
	}
	defer d.Close()
	rec, err := d.Latest()
	if err != nil || rec == nil {
		return 0, 0, err
	}
	for _, s := range rec.Sources {
		for _, split := range s.Splits {
			f, t, err := j.covered(split)
			if err != nil {
				return 0, 0, err
			}
			files, topic = files+f, topic+t
		}
	}
	return files, topic, nil
}

// covered is how many lines of a split were read.
func (j *job) covered(s store.Split) (files, topic int, err error) {
	var at struct {
		Stage int
		Name  string
		Inner struct {
			Offset int64
			Next   int64
		}
	}
	if err := json.Unmarshal(s.Position, &at); err != nil {
		return 0, 0, fmt.Errorf("read position of split %s: %w", s.ID, err)
	}
	if at.Stage > 0 {
		return 0, int(at.Inner.Next), nil
	}
	text, err := os.ReadFile(at.Name)
	if err != nil {
		return 0, 0, err
	}
	if !s.Finished {
		text = text[:min(int64(len(text)), at.Inner.Offset)]
	}
	return bytes.Count(text, []byte("\n")), 0, nil
}
