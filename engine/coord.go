package engine

import (
	"context"
	"sync"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/source"
)

// coord is the coordinator of one attempt: one goroutine that owns the split tables and the epoch being taken. It does no
// I/O itself; enumerators, the store and committers work on goroutines of their own and post what came of it.
//
// A task's inbox is first in, first out, and nothing in it is lost while the attempt lives: a split assigned before a barrier
// reaches its task before that barrier, one assigned after it, after. That is what gates are for elsewhere (C1.3), and why
// there are none here.
type coord struct {
	att     *attempt
	sources []*sourceCoord
	bySrc   map[string]*sourceCoord

	mu    sync.Mutex
	queue []any
	ready chan struct{}

	// Owned by the goroutine.
	pending     *epochRun
	requested   bool
	nextAt      time.Time // of the next periodic epoch
	failures    int
	lastFailure error
	retryAt     time.Time // after a failed epoch that was requested
	stopping    store.End // Suspended or Drained once asked for
	drained     int
	ended       bool // the last epoch is complete
	outcome     store.End
	uncommitted map[string]sink.Handle // by token: in a complete epoch, commit not recorded
	queued      map[string]bool        // by token: given to the commit loop, and perhaps still reported
	waits       int                    // epochs with handles that are being committed
	stopAt      time.Time
	aligned     time.Time // alignment was last looked at
}

// sourceCoord is a source on the coordinator's side.
type sourceCoord struct {
	v         *vertex
	d         splitDriver
	tasks     []*task
	held      bool
	exhausted bool
	switching bool   // Next was asked for, or its epoch isn't complete
	derived   bool   // Next has answered; the next epoch carries the switch
	carried   uint64 // epoch that carries it
	finished  chan []any
	resume    chan struct{}
}

// What is posted to the coordinator.
type (
	splitFinished struct {
		source string
		task   int
		id     string
		at     any
		pos    []byte
		wanted bool
	}
	newsFound struct {
		s    *sourceCoord
		d    discovered
		next bool
	}
	discoverFailed struct {
		s   *sourceCoord
		err error
	}
	taskDrained struct{ t *task }
	epochAsked  struct{}
	stopAsked   struct{ end store.End }
	published   struct {
		e   *epochRun
		err error
	}
	committed struct {
		epoch   uint64
		handles []sink.Handle
		err     error // permanent
	}
)

func newCoord(a *attempt) *coord {
	return &coord{
		att: a, bySrc: map[string]*sourceCoord{}, ready: make(chan struct{}, 1),
		uncommitted: map[string]sink.Handle{}, queued: map[string]bool{},
	}
}

// post hands the coordinator something to do. Never blocks, from any goroutine.
func (c *coord) post(ev any) {
	c.mu.Lock()
	c.queue = append(c.queue, ev)
	c.mu.Unlock()
	select {
	case c.ready <- struct{}{}:
	default:
	}
}

// request asks for an epoch soon. From any goroutine.
func (c *coord) request() { c.post(epochAsked{}) }

// run is the coordinator's goroutine; it returns when the job has ended as asked, or with the error that ends the attempt.
func (c *coord) run(ctx context.Context) error {
	c.nextAt = c.after(c.att.job.cfg.CheckpointEvery)
	for _, s := range c.sources {
		for i := range s.tasks {
			c.assign(s, s.d.event(source.ReaderUp, i))
		}
		c.settle(s)
	}
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		if done, err := c.step(); done || err != nil {
			return err
		}
		select {
		case <-c.ready:
		case now := <-tick.C:
			c.tick(now)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// tickEvery is the grain of intervals, timeouts, idleness and leases.
const tickEvery = 10 * time.Millisecond

func (c *coord) step() (done bool, err error) {
	c.mu.Lock()
	events := c.queue
	c.queue = nil
	c.mu.Unlock()
	for _, ev := range events {
		if err := c.handle(ev); err != nil {
			return false, err
		}
	}
	if err := c.maybeEpoch(time.Now()); err != nil {
		return false, err
	}
	c.att.job.left.Store(int64(len(c.uncommitted)))
	return c.finished(time.Now()), nil
}

func (c *coord) handle(ev any) error {
	switch ev := ev.(type) {
	case ack:
		return c.acked(ev)
	case published:
		return c.published(ev)
	case committed:
		return c.committed(ev)
	case splitFinished:
		s := c.bySrc[ev.source]
		s.d.finish(ev.id, ev.at, ev.pos)
		if ev.wanted {
			c.assign(s, s.d.event(source.Wanted, ev.task))
		}
		c.settle(s)
	case newsFound:
		c.news(ev)
	case discoverFailed:
		return ev.err
	case taskDrained:
		c.drained++
	case epochAsked:
		c.requested = true
	case stopAsked:
		c.stop(ev.end)
	}
	return nil
}

func (c *coord) news(ev newsFound) {
	s := ev.s
	c.assign(s, s.d.found(ev.d))
	if ev.next {
		s.derived = ev.d.more
		if ev.d.more {
			c.requested = true
		} else {
			s.switching = false
		}
	}
	c.settle(s)
}

// assign sends splits to their tasks.
func (c *coord) assign(s *sourceCoord, as []assignment) {
	for _, a := range as {
		s.tasks[a.reader].in.tell(func(t *task) error { return t.src.addSplit(a.split, a.watermark) })
	}
}

// settle looks at a source after something changed: who holds the watermark, is the stage or the input over?
func (c *coord) settle(s *sourceCoord) {
	n := s.d.state()
	held := !n.discovered || !n.ordered && (n.unstarted > 0 || !n.last)
	if held != s.held {
		s.held = held
		for _, t := range s.tasks {
			t.in.tell(func(t *task) error { return t.src.hold(held) })
		}
	}
	if !n.done || n.unfinished > 0 || s.exhausted || s.switching {
		return
	}
	if !n.last && c.stopping == store.Running {
		s.switching = true
		s.finished <- s.d.finishedSplits()
		return
	}
	if n.last {
		c.exhaust(s)
	}
}

// exhaust ends a source: its tasks send the end on.
func (c *coord) exhaust(s *sourceCoord) {
	s.exhausted = true
	for _, t := range s.tasks {
		t.in.tell(func(t *task) error { return t.end() })
	}
}

// stop begins to suspend or drain.
func (c *coord) stop(end store.End) {
	if c.stopping != store.Running {
		return
	}
	c.stopping = end
	c.stopAt = time.Now()
	c.retryAt = time.Time{}
	if end == store.Drained {
		for _, s := range c.sources {
			if !s.exhausted {
				for _, t := range s.tasks {
					t.in.tell(func(t *task) error { t.src.stop(); return nil })
				}
				c.exhaust(s)
			}
		}
	}
}

// finished says whether the attempt has come to its end: the last epoch complete, its commits confirmed or out of time.
func (c *coord) finished(now time.Time) bool {
	j := c.att.job
	if j.store == nil {
		if c.drained == len(c.att.tasks) {
			c.outcome = c.endKind()
			return true
		}
		if c.stopping == store.Suspended {
			c.outcome = store.Suspended
			return true
		}
		return false
	}
	if !c.ended {
		return false
	}
	if c.waits == 0 {
		return true
	}
	if c.stopping != store.Running && now.Sub(c.stopAt) > j.cfg.CommitWait {
		for _, h := range c.uncommitted {
			j.log.Warn("uncommitted at stop; the next start commits it", "operator", h.Operator, "epoch", h.Epoch, "transaction", h.Slot.Name)
		}
		return true
	}
	return false
}

// endKind is how a job ends whose tasks have all drained.
func (c *coord) endKind() store.End {
	if c.stopping == store.Drained {
		return store.Drained
	}
	return store.Finished
}

func (c *coord) tick(now time.Time) {
	for _, s := range c.sources {
		if !s.v.source.ticks {
			continue
		}
		for _, t := range s.tasks {
			t.in.tell(func(t *task) error {
				quiet := !t.starved
				t.starved = false
				return t.src.tick(now, quiet)
			})
		}
	}
	if now.Sub(c.aligned) >= alignEvery {
		c.aligned = now
		c.align(now)
	}
}

// after is the time d from now; a negative d means never.
func (c *coord) after(d time.Duration) time.Time {
	if d < 0 || c.att.job.store == nil {
		return time.Time{}
	}
	return time.Now().Add(d)
}

// discoverLoop is the goroutine of a source's enumerator.
func (s *sourceCoord) discoverLoop(ctx context.Context, c *coord, done bool) {
	defer func() {
		if r := recover(); r != nil {
			c.post(discoverFailed{s, panicError("enumerator of "+s.v.name, r)})
		}
	}()
	for ctx.Err() == nil {
		if !done {
			d, err := retried(ctx, c.att, s.v.name, func() (discovered, error) { return s.d.discover(ctx) })
			if err != nil {
				c.post(discoverFailed{s, fault.At(err, "source "+s.v.name)})
				return
			}
			c.post(newsFound{s: s, d: d})
			if done = d.done; !done {
				continue
			}
		}
		var finished []any
		select {
		case finished = <-s.finished:
		case <-ctx.Done():
			return
		}
		d, err := retried(ctx, c.att, s.v.name, func() (discovered, error) { return s.d.next(ctx, finished) })
		if err != nil {
			c.post(discoverFailed{s, fault.At(err, "source "+s.v.name)})
			return
		}
		c.post(newsFound{s: s, d: d, next: true})
		if !d.more {
			return
		}
		select {
		case <-s.resume:
		case <-ctx.Done():
		}
		done = false
	}
}

// retried calls an enumerator's I/O, which may fail for a while.
func retried(ctx context.Context, a *attempt, name string, f func() (discovered, error)) (discovered, error) {
	const tries = 5
	delay := 100 * time.Millisecond
	for n := 1; ; n++ {
		d, err := f()
		if err == nil || ctx.Err() != nil || n == tries || isFinal(err) {
			return d, err
		}
		a.job.log.Warn("discover splits", "operator", name, "error", err, "retry_in", delay)
		select {
		case <-time.After(delay):
		case <-ctx.Done():
		}
		delay *= 2
	}
}
