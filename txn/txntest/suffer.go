package txntest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/savepoint"
	"github.com/weirline/weirline/sink"
)

// told is what [Mishaps] tells a child beside where it dies.
type told struct {
	Notes  string // the file for what it does; "" = nothing is noted
	Lossy  bool
	From   string // what it begins from
	Rewind bool
	Save   string // where it puts a savepoint
	Storm  int    // how often its store fails in a row
	Fails  string // the operator whose writers fail
}

// Job is a pipeline.
type Job interface {
	Run(ctx context.Context) error
	Savepoint(ctx context.Context, location string) (epoch uint64, err error)
}

// Begin is what the engine's Config.Begin wants.
func (c *Child) Begin(own store.Store) error {
	if c.told.From == "" {
		return nil
	}
	log := slog.New(slog.NewTextHandler(c, &slog.HandlerOptions{Level: slog.LevelWarn}))
	err := savepoint.Start{Job: c.job, From: c.told.From, Rewind: c.told.Rewind, Log: log}.Begin(own)
	if err == nil {
		c.note("begun from %s", c.told.From)
	}
	return err
}

// Run runs the job to its end, and takes a savepoint of it meanwhile if that is what the process is for.
func (c *Child) Run(p Job) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	saved := make(chan error, 1)
	go func() { saved <- c.save(ctx, p) }()
	err := p.Run(context.Background())
	cancel()
	return errors.Join(err, <-saved)
}

func (c *Child) save(ctx context.Context, p Job) error {
	if c.told.Save == "" {
		return nil
	}
	select {
	case <-c.weather.some:
	case <-ctx.Done():
		return errors.New("the job has ended before it was saved")
	}
	if _, err := p.Savepoint(ctx, c.told.Save); err != nil {
		return err
	}
	c.note("saved")
	return nil
}

// note adds a line to the notes, which outlive the process.
func (c *Child) note(format string, args ...any) {
	if _, err := c.Write(fmt.Appendf(nil, format+"\n", args...)); err != nil {
		panic(err)
	}
}

// Write adds to the notes what a log has to say.
func (c *Child) Write(b []byte) (int, error) {
	if c.told.Notes == "" {
		return len(b), nil
	}
	f, err := os.OpenFile(c.told.Notes, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return 0, err
	}
	n, err := f.Write(b)
	return n, errors.Join(err, f.Close())
}

// noted is a committer's metrics.
type noted struct {
	sink.Metrics
	c *Child
}

func (n noted) Count(name string, by int64) {
	n.Metrics.Count(name, by)
	if name == "lost_transactions" {
		n.c.note("lost %d", by)
	}
}

// noting has what a committer counts and lists noted.
func (c *Child) noting(t sink.Task) sink.Task {
	if c.told.Notes != "" {
		t.Metrics = noted{t.Metrics, c}
		t.Log = slog.New(slog.NewTextHandler(c, &slog.HandlerOptions{Level: slog.LevelError}))
	}
	return t
}

const regionFails = 5 // how often a region fails

// fails is the error of a write, if it is time for one: a few epochs after the last.
func (c *Child) fails(op string) error {
	w := &c.weather
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.told.Fails != op || w.calm < aFew || w.failed == regionFails {
		return nil
	}
	w.calm, w.failed = 0, w.failed+1
	c.note("failed %s", op)
	return errors.New("planted")
}

const aFew = 3 // epochs that are complete before something happens

// weather is how the store fares.
type weather struct {
	mu     sync.Mutex
	calm   int           // epochs that were completed since the last storm, or the last failure of a region
	next   int           // of storms; while left is above 0 the one that rages
	left   int           // calls that it makes fail
	failed int           // times a region has failed
	some   chan struct{} // closed when a few epochs are complete
}

// A storm is a call to the store that fails, and how.
type storm struct {
	publish bool
	err     error
}

var storms = []storm{
	{true, errors.New("planted: the store is out of order")},
	{true, fault.New(fault.StoreFull, "planted: the store is full")},
	{false, errors.New("planted: the store can't record commits")},
}

// call lets a call to the store through, or fails it.
func (c *Child) call(publish bool, f func() error) error {
	if err := c.struck(publish); err != nil {
		return err
	}
	err := f()
	if err == nil && publish {
		c.passed()
	}
	return err
}

func (c *Child) struck(publish bool) error {
	w := &c.weather
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.left == 0 || storms[w.next].publish != publish {
		return nil
	}
	err := storms[w.next].err
	if w.left--; w.left == 0 {
		w.next, w.calm = w.next+1, 0
		c.note("the store is whole again")
	}
	return err
}

// passed is called when an epoch is complete.
func (c *Child) passed() {
	w := &c.weather
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calm++; w.calm != aFew {
		return
	}
	if c.told.Save != "" {
		close(w.some)
	}
	if w.next < len(storms) {
		w.left = c.told.Storm
	}
}
