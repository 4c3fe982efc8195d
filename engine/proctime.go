package engine

import (
	"errors"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/source"
)

// ProcessingTimerProcessor is a Processor with timers in processing time: the time of this machine's clock.
type ProcessingTimerProcessor[K comparable, O any] interface {
	// OnProcessingTimer is called when the clock has reached a timer set through Ctx.AtProcessing, some 10 ms after it at
	// best, with the state of its key. The moment has no event time, nor has what Emit sends on: windows refuse it. Use
	// EmitAt with a time after the watermark where event time matters. An error fails the task.
	OnProcessingTimer(ctx *Ctx[K], at time.Time, out *Out[O]) error
}

// AtProcessing sets a timer of this key in processing time, with the grain of a microsecond. Setting it twice is setting it
// once; one that isn't after now fires soon. Timers are part of checkpoints: one whose time passes while the job is down
// fires when it's up again. None fires once the job was asked to stop or the task's input has ended: those left stay in the
// last checkpoint. The processor must be a ProcessingTimerProcessor, otherwise the job fails.
func (c *Ctx[K]) AtProcessing(t time.Time) {
	if c.wall == nil {
		panic(fault.New(fault.BadPipeline, "a timer is set in processing time, but the processor has no method OnProcessingTimer"))
	}
	c.wall.Add(t.UnixMicro())
	c.task.wakeAt(t.UnixMicro())
}

// CancelProcessing removes a timer of this key.
func (c *Ctx[K]) CancelProcessing(t time.Time) {
	if c.wall != nil {
		c.wall.Delete(t.UnixMicro())
	}
}

// wakeAt has the coordinator's tick wake the task at a time, unless it does so earlier.
func (t *task) wakeAt(at int64) {
	at = max(at, 1)
	for was := t.alarm.Load(); (was == 0 || at < was) && !t.alarm.CompareAndSwap(was, at); {
		was = t.alarm.Load()
	}
}

// wake wakes the task if a timer in processing time is due.
func (t *task) wake(now int64) {
	if at := t.alarm.Load(); at != 0 && at <= now && t.alarm.CompareAndSwap(at, 0) {
		t.in.tell(func(t *task) error { t.busyWork = true; return nil })
	}
}

// wallPortion is how many timers fire before the task looks at its inbox again.
const wallPortion = 256

var errPortion = errors.New("there may be more")

// fireWall fires timers in processing time that are due, as unfinished work of the task.
func (n *processNode[K, I, O]) fireWall() error {
	t, now, fired := n.ctx.task, time.Now(), 0
	if t.drained || t.att.coord.frozen.Load() {
		return nil
	}
	t.stats.running.Store(n.bad.stats)
	n.keyed.scope.Tick(now)
	n.out.begin(false)
	n.ctx.at, n.out.at = source.NoTime, source.NoTime
	err := n.ctx.wall.Pop(now.UnixMicro(), func(k K, h uint64, at int64) error {
		n.keyed.scope.SetKey(k, h)
		err := n.onWall(&n.ctx, time.UnixMicro(at).UTC(), &n.out)
		if fired++; err == nil && fired == wallPortion {
			return errPortion
		}
		return err
	})
	t.busyWork = t.busyWork || err == errPortion //nolint:errorlint // it never leaves this file
	if err != nil && err != errPortion {         //nolint:errorlint // as above
		return userError(n.bad.op, err)
	}
	if at, ok := n.ctx.wall.Next(); ok {
		t.wakeAt(at)
	}
	return n.emit()
}

// leaveWall says how many timers the end of input leaves.
func (n *processNode[K, I, O]) leaveWall() error {
	if left := n.ctx.wall.Len(); left > 0 {
		n.ctx.task.log.Info("timers in processing time are left unfired; they stay in the last checkpoint", "operator", n.bad.op, "timers", left)
	}
	return nil
}
