package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/statefiles"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/source"
)

// task is a chain of fused operators: one goroutine that owns all their state. It is a loop over control messages, input,
// unfinished work and room; user code in it never waits for another task.
type task struct {
	_     [128]byte
	name  string // of the first operator
	index int
	job   *job
	att   *attempt
	log   *slog.Logger
	ctx   context.Context // ends with the attempt
	in    *inbox

	head    lifecycle
	receive func(payload any) error
	aside   func(payload any) error // takes what is broadcast to an operator of two inputs; nil for others
	src     sourceTask              // nil unless the first operator is a source
	outs    []output
	edges   map[*link]output
	ops     []*opStats

	clocks    []*clocks      // of EventTime operators
	gates     []gate         // writers
	exits     []*channel     // to other tasks
	works     []func() error // resumable work: windows, timers in processing time
	checks    []func() error // asked when woken: errors and rejects of background writers
	finishers []func() error // at the end of input
	closers   []func() error // at the end of the task
	poisoners map[*vertex]*poisoner

	parts   []*part
	restore *restorer
	disks   map[string]*statefiles.Disk // by operator
	opened  error                       // first error of restoring while building

	chans      []clock   // by input channel
	inClock    clock     // combined; at never goes back
	ended      int       // channels that have ended
	epoch      uint64    // last barrier passed
	aligning   uint64    // epoch being aligned; 0 = none
	arrived    int       // barriers of it
	alignAt    time.Time // of its first barrier
	aborted    []uint64  // epochs given up whose barriers may still come
	overtaking uint64    // epoch whose barriers may overtake; 0 = none
	replaying  int       // channels whose stored records aren't all here
	capture    *capture
	busyWork   bool
	alarm      atomic.Int64 // when the first timer in processing time is due, in microseconds; 0 = none. The tick clears it
	ending     bool
	draining   bool // all input is here, and finishers aren't done
	drained    bool
	lease      time.Time
	starved    bool        // had no room since the last tick
	told       atomic.Bool // a writer has something to collect, perhaps

	stats taskStats
	_     [128]byte
}

// taskStats is written by the task and read by anybody.
type taskStats struct {
	ackFailures, pauses, lapsed atomic.Int64
	idleNanos, blockedNanos     atomic.Int64
	watermark                   atomic.Int64 // microseconds; minTime = none
	longestPause                atomic.Int64 // nanoseconds: barrier work or one sweep
	slowest, fastest            atomic.Int64 // lowest and highest event time of a source's splits; maxTime and minTime = none
	started                     time.Time

	// For the watchdog.
	moves     atomic.Int64 // items taken, and steps of unfinished work
	seen      int64        // moves, when the coordinator looked last
	moved     atomic.Int64 // when it saw moves change, in nanoseconds since 1970
	state     atomic.Int32
	gate      atomic.Pointer[string] // writer that had no room last
	running   atomic.Pointer[opStats]
	pausedNow atomic.Int64 // splits
}

// gate is a writer that may have no room.
type gate struct {
	op   string
	room func() bool
}

// What a task does: taskStats.state.
const (
	stateWorking = iota
	stateInput
	stateRoom
)

// sweepBytes is how much of a capture is copied between two input batches.
const sweepBytes = 32 << 10

// run is the task's goroutine.
func (t *task) run() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = t.recovered(r)
		}
		err = errors.Join(err, t.close())
	}()
	t.stats.started = time.Now()
	if t.src != nil {
		t.src.start(t.ctx)
	}
	for t.ctx.Err() == nil {
		if err := t.step(); err != nil {
			return err
		}
		if t.att.coord.inHand.Load() {
			runtime.Gosched() // whoever writes the epoch needs the processor often and for a moment only
		}
	}
	return nil
}

// step does one round: control first, then one of unfinished work, input, or sleep.
func (t *task) step() error {
	for _, m := range t.in.takeControl() {
		if err := m(t); err != nil {
			return err
		}
	}
	if t.overtaking != 0 {
		if err := t.tryOvertake(); err != nil {
			return err
		}
	}
	if t.capture != nil {
		t.sweep()
	}
	if !t.draining && !t.hasRoom() {
		return t.blocked()
	}
	if t.busyWork {
		return t.work()
	}
	it, from, ok := t.in.take()
	if !ok {
		return t.idle()
	}
	if c := t.capture; c != nil && c.rec != nil {
		c.rec.Taken(from, it.inFlight(c.ack.epoch))
	}
	if err := t.handle(it, from); err != nil {
		return err
	}
	for _, o := range t.outs {
		o.settle(time.Now)
	}
	return nil
}

// hasRoom asks all outputs and writers, so that each registers its wake-up.
func (t *task) hasRoom() bool {
	ok := true
	for _, o := range t.outs {
		ok = o.hasRoom() && ok
	}
	for i := range t.gates {
		if g := &t.gates[i]; !g.room() {
			t.stats.gate.Store(&g.op)
			ok = false
		}
	}
	return ok
}

// blocked waits for room; barriers of sources, cancellation and completions are still served.
func (t *task) blocked() error {
	t.starved = true
	for _, o := range t.outs {
		o.flush()
	}
	more := t.hasRoom
	if c := t.capture; c != nil {
		if !c.stalled {
			return t.check()
		}
		more = func() bool { return t.hasRoom() || c.rec.Waiting(c.peek) }
	}
	t.sleep(false, more, &t.stats.blockedNanos)
	return t.check()
}

// idle waits for input, or for destinations at its end. What is partial goes on first; a capture is finished first.
func (t *task) idle() error {
	if t.capture != nil && !t.capture.stalled {
		return nil
	}
	if t.draining {
		return t.finish()
	}
	for _, o := range t.outs {
		o.flush()
	}
	t.sleep(true, func() bool { return t.told.Swap(false) }, &t.stats.idleNanos)
	return t.check()
}

// tell wakes the task for a writer, also if it is just about to sleep.
func (t *task) tell() {
	t.told.Store(true)
	t.in.signal()
}

func (t *task) sleep(input bool, more func() bool, spent *atomic.Int64) {
	before := time.Now()
	if input {
		t.stats.state.Store(stateInput)
	} else {
		t.stats.state.Store(stateRoom)
	}
	t.in.wait(input, more, t.ctx.Done())
	t.stats.state.Store(stateWorking)
	spent.Add(int64(time.Since(before)))
}

func (t *task) check() error {
	for _, c := range t.checks {
		if err := c(); err != nil {
			return err
		}
	}
	return nil
}

func (t *task) work() error {
	t.stats.moves.Add(1)
	t.busyWork = false
	for _, w := range t.works {
		if err := w(); err != nil {
			return err
		}
	}
	if !t.busyWork && t.ending {
		return t.finish()
	}
	return nil
}

func (t *task) handle(it item, from int) error {
	t.stats.moves.Add(1)
	switch it.kind {
	case itemBatch:
		receive := t.receive
		if t.in.chans[from].aside {
			receive = t.aside
		}
		if err := receive(it.payload); err != nil {
			return err
		}
		if t.src != nil {
			return nil
		}
		return t.setClock(from, it.clock)
	case itemMark:
		return t.setClock(from, it.clock)
	case itemBarrier:
		if err := t.setClock(from, it.clock); err != nil {
			return err
		}
		return t.align(it.epoch, from)
	case itemReplayed:
		if t.replaying--; t.replaying > 0 {
			t.in.block(from)
		} else {
			t.in.unblockAll()
		}
		return nil
	case itemEnd:
		t.ended++
		return t.setClock(from, clock{kind: clockFinished})
	}
	return fmt.Errorf("unknown item kind %d", it.kind)
}

// setClock takes the clock of a channel and moves the task's.
func (t *task) setClock(from int, c clock) error {
	if t.chans[from] == c || t.chans[from].kind == clockFinished || t.in.chans[from].aside && c.kind != clockFinished {
		return nil
	}
	t.chans[from] = c
	now := combine(t.chans)
	if now.kind == clockFinished {
		return t.end()
	}
	if now.kind != clockActive {
		now.at = t.inClock.at
	} else if now.at < t.inClock.at {
		now.at = t.inClock.at
	}
	if now == t.inClock {
		return nil
	}
	if now.kind == clockIdle {
		return t.allIdle(now)
	}
	t.inClock = now
	if now.kind == clockActive {
		t.stats.watermark.Store(now.at)
	}
	return t.head.advance(now)
}

// allIdle moves on to what the furthest channel had reached, since nobody is left to wait for.
func (t *task) allIdle(now clock) error {
	for _, c := range t.chans {
		if c.kind == clockIdle {
			now.at = max(now.at, c.at)
		}
	}
	before := t.inClock.at
	t.inClock = now
	if now.at > before {
		t.stats.watermark.Store(now.at)
		if err := t.head.advance(clock{kind: clockActive, at: now.at}); err != nil {
			return err
		}
	}
	return t.head.advance(now)
}

// end begins the end of input: windows fire, writers drain, then the end goes on.
func (t *task) end() error {
	if t.ending {
		return nil
	}
	t.ending = true
	if t.src != nil {
		t.src.end()
	}
	if err := t.head.advance(clock{kind: clockFinished}); err != nil {
		return err
	}
	if t.busyWork {
		return nil
	}
	return t.finish()
}

func (t *task) finish() error {
	if t.drained {
		return nil
	}
	for t.draining = true; len(t.finishers) > 0; t.finishers = t.finishers[1:] {
		if err := t.finishers[0](); errors.Is(err, errUndelivered) {
			return t.check()
		} else if err != nil {
			return err
		}
	}
	if err := t.check(); err != nil {
		return err
	}
	t.draining, t.drained = false, true
	for _, o := range t.outs {
		o.send(item{kind: itemEnd})
	}
	t.att.coord.post(taskDrained{t})
	return nil
}

// close ends everything the task opened, in reverse order.
func (t *task) close() error {
	var errs []error
	for i := len(t.closers) - 1; i >= 0; i-- {
		if err := t.closers[i](); err != nil && !errors.Is(err, context.Canceled) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// lateRecords counts records that came too late; that some are dropped is logged once.
func (t *task) lateRecords(op *opStats, n int, dropped bool) {
	if op.late.Add(int64(n)) == int64(n) && dropped {
		t.log.Warn("late records are dropped; consume Late() to keep them", "operator", op.name, "records", n)
	}
}

// addClocks registers the clocks of an EventTime operator.
func (t *task) addClocks(c *clocks) {
	c.reached = &t.stats.watermark
	t.clocks = append(t.clocks, c)
}

// openDisk puts a disk behind an operator's keyed state, if the job has a backend, with what was stored for the task.
func (t *task) openDisk(op string, s statefiles.Scope) {
	var old store.Operator
	if t.restore != nil {
		old = t.restore.rec.Operators[op]
	}
	d, err := t.job.work.Disk(s, old, t.job.cfg.KeyGroups)
	if t.fail(err); d == nil {
		return
	}
	if t.disks == nil {
		t.disks = map[string]*statefiles.Disk{}
	}
	t.disks[op] = d
}

// fail keeps the first error of building.
func (t *task) fail(err error) {
	if err != nil && t.opened == nil {
		t.opened = err
	}
}

func (t *task) sourceTask(v *vertex) source.Task {
	return source.Task{
		Job: t.job.cfg.Name, Operator: v.name, Index: t.index, Parallelism: v.tasks,
		Log: t.log.With("operator", v.name), Metrics: t.job.metrics.Of(v.name, t.index), Request: t.att.coord.request,
		Replays: t.att.replays,
	}
}

func (t *task) sinkTask(v *vertex) sink.Task {
	return sink.Task{
		Job: t.job.cfg.Name, Operator: v.name, Index: t.index, Parallelism: v.tasks,
		Log: t.log.With("operator", v.name), Metrics: t.job.metrics.Of(v.name, t.index), Request: t.att.coord.request,
	}
}
