package engine

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestScriptTask plays scripts against a task with several input channels: alignment of barriers (behaviours.md C8.2, F1 to
// F4, tests 20 and 59).
//
//   - align.txt: a channel waits behind its barrier until all have delivered theirs; the end of a channel keeps its barriers
//   - abort.txt: F1 a barrier of n+1 before n is whole, F2 a late barrier of an older epoch, F3 n is given up when n+1 has
//     begun, F4 a channel ends while it is blocked
//   - clocks.txt: test 20 (idle ones are left out, time never goes back, all idle moves to the furthest) and the end
//
// F5 to F8 are of captures and unaligned barriers and have tests of their own.
func TestScriptTask(t *testing.T) {
	runScripts(t, "task", func(t *testing.T) actor { return &taskActor{test: t} })
}

// taskActor drives one task without its goroutine.
type taskActor struct {
	test *testing.T
	t    *task
	out  []string
}

// listen is what follows the task: it notes event time and what is sent.
type listen struct{ a *taskActor }

func (l listen) advance(c clock) error {
	l.a.say("event time %s", showClock(c))
	return nil
}

// scriptOut is the sending side.
type scriptOut struct{ a *taskActor }

func (o scriptOut) hasRoom() bool           { return true }
func (o scriptOut) settle(func() time.Time) {}
func (o scriptOut) flush()                  {}
func (o scriptOut) replay(any, int) error   { return nil }
func (o scriptOut) send(it item) {
	o.a.say("%s", map[itemKind]string{itemBarrier: fmt.Sprint("barrier ", it.epoch, " goes on"), itemEnd: "the end goes on"}[it.kind])
}

func showClock(c clock) string {
	return [...]string{"nothing", fmt.Sprint(c.at), "idle", "finished"}[c.kind]
}

func (a *taskActor) say(format string, args ...any) {
	a.out = append(a.out, fmt.Sprintf(format, args...))
}

func (a *taskActor) event(name string, args []string) []string {
	a.out = nil
	number := func(i int) int64 {
		n, err := strconv.ParseInt(args[i], 10, 64)
		if err != nil {
			a.test.Fatalf("%s %v: %v", name, args, err)
		}
		return n
	}
	put := func(it item) {
		it.clock = a.t.chans[number(0)]
		a.t.in.chans[number(0)].put(it)
		a.drain()
	}
	switch name {
	case "channels":
		a.start(int(number(0)))
	case "barrier":
		put(item{kind: itemBarrier, epoch: uint64(number(1))})
	case "batch":
		put(item{kind: itemBatch, payload: args[1]})
	case "end":
		put(item{kind: itemEnd})
	case "clock":
		c := clock{kind: clockActive}
		if args[1] == "idle" {
			c = clock{kind: clockIdle, at: a.t.chans[number(0)].at}
		} else {
			c.at = number(1)
		}
		a.t.in.chans[number(0)].put(item{kind: itemMark, clock: c})
		a.drain()
	case "abort":
		a.t.abort(uint64(number(0)))
		a.drain()
	case "complete":
		a.t.complete(uint64(number(0)))
	default:
		a.test.Fatalf("no event %s", name)
	}
	return a.out
}

func (a *taskActor) start(channels int) {
	j := &job{log: slog.New(slog.DiscardHandler), cfg: Config{}.withDefaults()}
	c := newCoord(j, nil)
	a.t = &task{
		name: "t", job: j, att: &attempt{job: j, coord: c}, ctx: context.Background(), in: newInbox(),
		inClock: clock{at: minTime}, log: j.log, poisoners: map[*vertex]*poisoner{},
	}
	for range channels {
		a.t.in.addChannel(100, 1<<20, func() {})
		a.t.chans = append(a.t.chans, clock{at: minTime})
	}
	a.t.head = listen{a}
	a.t.outs = []output{scriptOut{a}}
	a.t.receive = func(payload any) error { a.say("batch %v", payload); return nil }
	a.t.addPart("op").completed = func(epoch uint64) { a.say("hears that %d is complete", epoch) }
}

// drain lets the task take all it can, and says which channels wait.
func (a *taskActor) drain() {
	for it, from, ok := a.t.in.take(); ok; it, from, ok = a.t.in.take() {
		if err := a.t.handle(it, from); err != nil {
			a.say("fails: %v", err)
		}
	}
	synctest.Wait()
	c := a.t.att.coord
	c.mu.Lock()
	for _, ev := range c.queue {
		switch ev := ev.(type) {
		case ack:
			a.say("acks %d", ev.epoch)
		case taskDrained:
			a.say("has drained")
		}
	}
	c.queue = nil
	c.mu.Unlock()
	var blocked []string
	for i, ch := range a.t.in.chans {
		if ch.blocked {
			blocked = append(blocked, strconv.Itoa(i))
		}
	}
	if len(blocked) > 0 {
		a.say("waiting: %s", strings.Join(blocked, " "))
	}
}
