package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// record is number ID of the input.
type record struct {
	ID    int64
	Shard int
}

// input is the name of the source.
const input = "input"

func makeRecord(seq int64) record { return record{seq, shardOf(seq)} }

func shardOf(id int64) int { return int(id % shards) }

// destination is what a job writes to.
type destination interface {
	// sink writes to it, with these settings of the async sink.
	sink(a async.Sink[record]) sink.Sink[record]

	storm(ctx context.Context) error
	heal(ctx context.Context) error

	// count is what has come to each shard so far.
	count(ctx context.Context) (tally, error)

	// times is how often each record has arrived, as far as can be known.
	times(ctx context.Context) ([]uint32, error)

	close()
}

// tally counts what has come to each shard.
type tally struct{ records, requests [shards]int64 }

// trial is one storm being tried.
type trial struct {
	storm   storm
	dir     string
	without string // what is left out
	rnd     *rand.Rand
	log     io.Writer // nil = nothing is told
	chosen  map[int]bool
}

// hit are the shards that the storm hits.
func (t *trial) hit() map[int]bool {
	if t.chosen == nil {
		t.chosen = map[int]bool{}
		n := t.storm.hits
		if n == 0 {
			n = shards
		}
		for _, s := range t.rnd.Perm(shards)[:n] {
			t.chosen[s] = true
		}
	}
	return t.chosen
}

// run has the job run from the beginning of its input to the end, with the storm in between.
func (t *trial) run(ctx context.Context) (*figures, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d, err := t.storm.open(t)
	if err != nil {
		return &figures{}, err
	}
	defer d.close()
	f := &figures{hit: t.hit(), dead: &letters{causes: map[int64][]string{}}}
	p := t.pipeline(d, f.dead)
	w := &watcher{d: d, p: p, log: t.log}
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	for _, ph := range []phase{{calmFor, nil, &f.calm}, {stormFor, d.storm, &f.storm}, {healedFor, d.heal, &f.healed}} {
		over := func() bool { return ph.marks == &f.healed && f.recovery() >= 0 }
		if err := w.watch(ctx, ph, over, done); err != nil {
			cancel()
			return f, errors.Join(err, ended(done, patience))
		}
	}
	p.Stop(engine.Drain)
	if err := ended(done, time.Minute); err != nil {
		return f, fmt.Errorf("the job: %w", err)
	}
	s := p.Status()
	f.failed = s.Epochs.Failed
	times, err := d.times(ctx)
	if err != nil {
		return f, fmt.Errorf("look for what has arrived: %w", err)
	}
	f.times = times[:read(s)]
	return f, nil
}

// patience is how long a job that is cancelled may take.
const patience = 15 * time.Second

// ended waits for the end of the job.
func ended(done <-chan error, within time.Duration) error {
	select {
	case err := <-done:
		return err
	case <-time.After(within):
		return fmt.Errorf("it hasn't ended after %v", within)
	}
}

// read is how many records the source has read.
func read(s engine.Status) (n int64) {
	for _, t := range s.Tasks {
		for _, o := range t.Operators {
			if o.Name == input {
				n += o.In
			}
		}
	}
	return n
}

// pipeline is the job.
func (t *trial) pipeline(d destination, dead *letters) *engine.Pipeline {
	log := slog.New(slog.DiscardHandler)
	if t.log != nil {
		log = slog.New(slog.NewTextHandler(t.log, nil))
	}
	policy := engine.Poison{Policy: engine.PoisonDeadLetter, Budget: -1}
	if t.without == breakLetters {
		policy.Policy = engine.PoisonSkip
		dead = nil
	}
	p := engine.New(engine.Config{
		Name: "storm", Dir: filepath.Join(t.dir, strings.NewReplacer("/", "-", " ", "-").Replace(t.storm.name)), Log: log,
		Parallelism: 1, CheckpointEvery: time.Second, Poison: policy,
	})
	in := engine.From(p, input, gen.Source[record]{Make: makeRecord, PerSecond: cmp.Or(t.storm.rate, rate)})
	a := async.Sink[record]{
		Shard:    func(r record) string { return fmt.Sprint(r.Shard) },
		MaxBatch: maxBatch, MaxInFlight: maxInFlight, MaxBuffered: maxBuffered, Timeout: timeout,
		Retry: async.Retry{Max: 2 * time.Second},
	}
	switch t.without {
	case breakShard:
		a.Shard = nil
	case breakPace:
		a.Fixed = true
	}
	engine.To(in, "output", t.broken(d.sink(a)))
	if dead != nil {
		p.DeadLetters(dead)
	}
	return p
}

// broken is the sink without what is left out.
func (t *trial) broken(s sink.Sink[record]) sink.Sink[record] {
	a, plain := s.(async.Sink[record])
	if !plain {
		return s
	}
	send := a.Send
	switch t.without {
	case breakRetry:
		a.Send = func(ctx context.Context, batch []record) error {
			err := send(ctx, batch)
			if _, some := errors.AsType[*sink.Rejected](err); some {
				return err
			}
			return nil
		}
	case breakWait:
		return flushed{a}
	}
	return a
}

// flushed is a sink whose writers hold up the barrier until all is delivered.
type flushed struct{ of async.Sink[record] }

type flushedWriter struct{ sink.Writer[record] }

func (f flushed) Writer(ctx context.Context, t sink.Task) (sink.Writer[record], error) {
	w, err := f.of.Writer(ctx, t)
	return flushedWriter{w}, err
}

// letters is a sink for dead letters that keeps them.
type letters struct {
	mu     sync.Mutex
	causes map[int64][]string // by record
	odd    []string           // those of no record
}

// Writer implements sink.Sink.
func (l *letters) Writer(context.Context, sink.Task) (sink.Writer[engine.DeadLetter], error) {
	return l, nil
}

// Write implements sink.Writer.
func (l *letters) Write(_ context.Context, batch []engine.DeadLetter) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range batch {
		var r record
		if _, err := fmt.Sscanf(d.Value, "{ID:%d Shard:%d}", &r.ID, &r.Shard); err != nil {
			l.odd = append(l.odd, d.Value)
			continue
		}
		l.causes[r.ID] = append(l.causes[r.ID], d.Cause)
	}
	return nil
}

// Flush implements sink.Writer.
func (l *letters) Flush(context.Context) error { return nil }

// Close implements sink.Writer.
func (l *letters) Close() error { return nil }
