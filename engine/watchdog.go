package engine

import (
	"fmt"
	"strings"
	"time"
)

// What a task does, as TaskStatus.State tells it.
const (
	StateWorking = "working"           // in an operator's code, or between two steps
	StateInput   = "waiting for input" // and there is none it may take
	StateRoom    = "waiting for room"  // behind it: see WaitsFor
)

// The order is that of taskStats.state.
var taskStates = [...]string{StateWorking, StateInput, StateRoom}

// watchEvery is how often it is looked whether tasks move, and so the grain of TaskStatus.Still.
const watchEvery = time.Second

// watch is the deadlock watchdog. It only reads what tasks tell everybody, so a task that hangs can't make it hang.
func (c *coord) watch(now time.Time) {
	for _, t := range c.tasks {
		if n := t.stats.moves.Load(); n != t.stats.seen || t.stats.moved.Load() == 0 {
			t.stats.seen = n
			t.stats.moved.Store(now.UnixNano())
		}
	}
	for _, r := range c.regions {
		why := ""
		if r.att != nil && c.job.cfg.Watchdog > 0 {
			why = r.att.stuck(now, c.job.cfg.Watchdog)
		}
		if why != "" && !r.stuck {
			c.job.log.Warn("nothing moves: "+why, "region", r.name)
			for _, t := range r.att.tasks {
				s := t.status(now)
				c.job.log.Warn("position", "task", t.place(), "state", s.State, "operator", s.Running,
					"for", s.Still, "waits_for", s.WaitsFor, "queued", s.Queued, "watermark", s.Watermark)
			}
		}
		r.stuck = why != ""
	}
}

// stuck says why an attempt looks stuck: a task has been in one call for too long, or no task has moved though there is input,
// and no destination is known to be slow.
func (a *attempt) stuck(now time.Time, limit time.Duration) string {
	still, input := true, false
	for _, t := range a.tasks {
		s := t.status(now)
		old := s.Still >= limit
		if old && s.State == StateWorking {
			return fmt.Sprintf("operator %s in task %s has been in one call for %v", s.Running, t.place(), s.Still)
		}
		still = still && old && t.slowSink() == ""
		input = input || s.Queued > 0 || t.stats.pausedNow.Load() > 0
	}
	if still && input {
		return fmt.Sprintf("there is input, and no task has taken any for %v", limit)
	}
	return ""
}

// slowSink is the sink that has no room, if that is what the task waits for.
func (t *task) slowSink() string {
	if g := t.stats.gate.Load(); g != nil && t.stats.state.Load() == stateRoom && len(t.full()) == 0 {
		return *g
	}
	return ""
}

// full names the tasks that have no room for more of this one.
func (t *task) full() (names []string) {
	for _, c := range t.exits {
		if c.full() {
			names = append(names, c.receiver)
		}
	}
	return names
}

// waitsFor is what has to happen before the task goes on.
func (t *task) waitsFor() string {
	var out []string
	if full := t.full(); len(full) > 0 && t.stats.state.Load() == stateRoom {
		out = append(out, "room in "+strings.Join(full, ", "))
	}
	if op := t.slowSink(); op != "" {
		out = append(out, "room in sink "+op)
	}
	if late := t.in.late(); len(late) > 0 {
		out = append(out, "the barrier from "+strings.Join(late, ", "))
	}
	if n := t.stats.pausedNow.Load(); n > 0 {
		out = append(out, fmt.Sprintf("slower sources: alignment pauses %d splits", n))
	}
	return strings.Join(out, "; ")
}

// late names the senders whose barrier others wait for.
func (in *inbox) late() (names []string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, c := range in.chans {
		if !c.blocked {
			names = append(names, c.sender)
		}
	}
	if len(names) == len(in.chans) {
		return nil // nobody waits
	}
	return names
}
