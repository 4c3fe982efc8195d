package engine

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/splits"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/source"
)

// coord is the coordinator: one goroutine that owns the split tables, the epoch being taken, and what becomes of regions that
// fail. It lives as long as the job runs, while attempts come and go. It does no I/O itself; enumerators, the store and committers work on goroutines of their own and post what came of it.
//
// A task's inbox is first in, first out, and nothing in it is lost while its attempt lives: a split assigned before a barrier
// reaches its task before that barrier, one assigned after it, after. That is what gates are for elsewhere (C1.3), and why
// there are none here.
type coord struct {
	job     *job
	regions []*region
	workers sync.WaitGroup // records being published
	homes   sync.Map       // epoch -> store.Store, of savepoints
	inHand  atomic.Bool    // an epoch is neither complete nor given up
	frozen  atomic.Bool    // the job was asked to stop: no timer in processing time fires

	mu    sync.Mutex
	queue []any
	ready chan struct{}

	// Owned by the goroutine.
	tasks       []*task // of all attempts that are up
	sources     []*sourceCoord
	allUp       bool         // no region is down
	pending     []*epochRun  // by number; a savepoint is alone
	saves       []*savepoint // to be taken
	unsettled   []*savepoint // durable, but no checkpoint has their transactions yet, so they might be cleared
	requested   bool
	lastAt      time.Time // when the last epoch began, or the attempt; zero = a periodic one is due
	pauseUntil  time.Time // no periodic epoch before that
	failures    int
	lastFailure error
	retryAt     time.Time // after a failed epoch that was requested
	stopping    store.End // Suspended or Drained once asked for
	ended       bool      // the last epoch is complete
	cut         bool      // stopped while a region was down
	outcome     store.End
	stopAt      time.Time
	aligned     time.Time // alignment was last looked at
	watched     time.Time // tasks were
}

// sourceCoord is a source on the coordinator's side.
type sourceCoord struct {
	att       *attempt
	v         *vertex
	d         splits.Driver
	tasks     []*task
	listed    bool // restored: this stage needs no Discover
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
	attemptUp   struct{ a *attempt }
	attemptDown struct {
		a   *attempt
		err error
	}
	splitFinished struct {
		s      *sourceCoord
		task   int
		id     string
		at     any
		pos    []byte
		wanted bool
	}
	newsFound struct {
		s    *sourceCoord
		d    splits.News
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
		a       *attempt
		epoch   uint64
		handles []sink.Handle
		err     error // permanent
	}
)

func newCoord(j *job, rs []*region) *coord {
	return &coord{job: j, regions: rs, ready: make(chan struct{}, 1)}
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

// run runs the regions from rec, which may be nil, until the job has ended as asked or for good. It returns when everything
// it started has ended.
func (c *coord) run(ctx context.Context, rec *store.Record) error {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx)) // the end of ctx suspends; it doesn't kill
	var loops sync.WaitGroup
	for _, r := range c.regions {
		loops.Go(func() { r.run(ctx, c, rec) })
	}
	err := c.loop()
	cancel(errStopped)
	loops.Wait()
	c.workers.Wait()
	return err
}

// loop is the coordinator's goroutine.
func (c *coord) loop() error {
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
	c.inHand.Store(len(c.pending) > 0)
	c.overtake(time.Now())
	c.job.left.Store(c.sum(func(a *attempt) int64 { return int64(len(a.uncommitted)) }))
	c.release()
	return c.finished(time.Now()), nil
}

func (c *coord) handle(ev any) error {
	switch ev := ev.(type) {
	case attemptUp:
		c.up(ev.a)
	case attemptDown:
		return c.fail(ev.a, ev.err)
	case ack:
		return c.acked(ev)
	case published:
		return c.published(ev)
	case committed:
		return c.committed(ev)
	case splitFinished:
		s := ev.s
		s.d.Finish(ev.id, ev.at, ev.pos)
		if ev.wanted {
			c.assign(s, s.d.Event(source.Wanted, ev.task))
		}
		c.settle(s)
	case newsFound:
		c.news(ev)
	case discoverFailed:
		return c.fail(ev.s.att, ev.err)
	case taskDrained:
		ev.t.att.drained++
	case *savepoint:
		c.saves = append(c.saves, ev)
	case epochAsked:
		c.requested = true
	case stopAsked:
		c.stop(ev.end)
	}
	return nil
}

func (c *coord) news(ev newsFound) {
	s := ev.s
	if s.att.failed || s.exhausted {
		return // nobody takes it; the next attempt, or the next run, finds it again
	}
	c.assign(s, s.d.Found(ev.d))
	if ev.next {
		s.derived = ev.d.More
		if ev.d.More {
			c.requested = true
		} else {
			s.switching = false
		}
	}
	c.settle(s)
}

// welcome tells a source's enumerator of its readers.
func (c *coord) welcome(s *sourceCoord) {
	for i := range s.tasks {
		c.assign(s, s.d.Event(source.ReaderUp, i))
	}
	c.settle(s)
}

// assign sends splits to their tasks, and says whether others hold the watermark if that has changed. Both in one message: a task
// reads no record of its splits before it knows.
func (c *coord) assign(s *sourceCoord, as []splits.Assignment) {
	n := s.d.State()
	held := !n.Discovered || !n.Ordered && (n.Unstarted > 0 || !n.Last)
	turned := held != s.held
	s.held = held
	for i, t := range s.tasks {
		mine := slices.DeleteFunc(slices.Clone(as), func(a splits.Assignment) bool { return a.Reader != i })
		if len(mine) == 0 && !turned {
			continue
		}
		t.in.tell(func(t *task) error {
			for _, a := range mine {
				if err := t.src.addSplit(a.Split, a.Watermark); err != nil {
					return err
				}
			}
			if turned {
				return t.src.hold(held)
			}
			return nil
		})
	}
}

// settle looks at a source after something changed: who holds the watermark, is the stage or the input over?
func (c *coord) settle(s *sourceCoord) {
	c.assign(s, nil)
	n := s.d.State()
	if !n.Done || n.Unfinished > 0 || s.exhausted || s.switching {
		return
	}
	if !n.Last && c.stopping == store.Running {
		s.switching = true
		s.finished <- s.d.Finished()
		return
	}
	if n.Last {
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
	if end == store.Suspended && !c.allUp {
		c.cut = true
		c.job.log.Warn("stopped while a region is down; the next start resumes from the last checkpoint", "epoch", c.job.lastEpoch())
		return
	}
	if c.stopping != store.Running {
		return
	}
	c.stopping, c.stopAt = end, time.Now()
	c.frozen.Store(true)
	c.retryAt = time.Time{}
	for _, r := range c.regions {
		if end == store.Drained && r.att != nil {
			c.drain(r.att)
		}
	}
}

// drain ends the input of an attempt.
func (c *coord) drain(a *attempt) {
	for _, s := range a.sources {
		if !s.exhausted {
			for _, t := range s.tasks {
				t.in.tell(func(t *task) error { t.src.stop(); return nil })
			}
			c.exhaust(s)
		}
	}
}

// allDrained says whether every task has seen the end of its input.
func (c *coord) allDrained() bool {
	return c.allUp && c.sum(func(a *attempt) int64 { return int64(a.drained) }) == int64(len(c.tasks))
}

// finished says whether the job has come to its end: the last epoch complete, its commits confirmed or out of time.
func (c *coord) finished(now time.Time) bool {
	j := c.job
	if j.store == nil {
		if c.allDrained() {
			c.outcome = c.endKind()
			return true
		}
		if c.stopping == store.Suspended {
			c.outcome = store.Suspended
			return true
		}
		return false
	}
	if c.cut {
		c.outcome = store.Running // even if the input has ended: a region that is down may have something to commit
		return true
	}
	if !c.ended || !c.allUp || len(c.pending) > 0 || len(c.saves) > 0 && len(c.tasks) > 0 {
		return false
	}
	if c.sum(func(a *attempt) int64 { return int64(a.waits) }) == 0 {
		return true
	}
	if c.stopping != store.Running && now.Sub(c.stopAt) > j.cfg.CommitWait {
		for _, r := range c.regions {
			for _, h := range r.att.uncommitted {
				j.log.Warn("uncommitted at stop; the next start commits it", "operator", h.Operator, "epoch", h.Epoch, "transaction", h.Slot.Name)
			}
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
	for _, t := range c.tasks {
		t.wake(now.UnixMicro())
	}
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
	if now.Sub(c.watched) >= watchEvery {
		c.watched = now
		c.watch(now)
	}
}

// discoverLoop is the goroutine of a source's enumerator.
func (s *sourceCoord) discoverLoop(ctx context.Context, c *coord) {
	defer func() {
		if r := recover(); r != nil {
			c.post(discoverFailed{s, panicError("enumerator of "+s.v.name, r)})
		}
	}()
	failed := func(err error) {
		if ctx.Err() == nil { // else the attempt has ended, and what was cut short is no failure
			c.post(discoverFailed{s, fault.At(err, "source "+s.v.name)})
		}
	}
	for done := s.listed; ctx.Err() == nil; done = false {
		if !done {
			d, err := s.retried(ctx, func() (splits.News, error) { return s.d.Discover(ctx) })
			if err != nil {
				failed(err)
				return
			}
			c.post(newsFound{s: s, d: d})
			if done = d.Done; !done {
				continue
			}
		}
		var finished []any
		select {
		case finished = <-s.finished:
		case <-ctx.Done():
			return
		}
		d, err := s.retried(ctx, func() (splits.News, error) { return s.d.Next(ctx, finished) })
		if err != nil {
			failed(err)
			return
		}
		c.post(newsFound{s: s, d: d, next: true})
		if !d.More {
			return
		}
		select {
		case <-s.resume:
		case <-ctx.Done():
		}
	}
}

// retried calls an enumerator's I/O, which may fail for a while.
func (s *sourceCoord) retried(ctx context.Context, f func() (splits.News, error)) (splits.News, error) {
	const tries = 5
	delay := 100 * time.Millisecond
	for n := 1; ; n++ {
		d, err := f()
		if err == nil || ctx.Err() != nil || n == tries || isFinal(err) {
			return d, err
		}
		s.att.job.log.Warn("discover splits", "operator", s.v.name, "error", err, "retry_in", delay)
		sleep(ctx, delay)
		delay *= 2
	}
}
