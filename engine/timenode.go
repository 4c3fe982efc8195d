package engine

import (
	"sync/atomic"
	"time"

	"github.com/weirline/weirline/source"
)

// timeNode gives records their event time and feeds the clocks of the splits they come from.
type timeNode[T any] struct {
	f      func(T) time.Time
	next   node[T]
	clocks *clocks
}

func (n *timeNode[T]) push(b *source.Batch[T]) error {
	if f := n.f; f != nil {
		times := b.Times[:0]
		for _, v := range b.Values {
			at := source.NoTime
			if t := f(v); !t.IsZero() {
				at = t.UnixMicro()
			}
			times = append(times, at)
		}
		b.Times = times
	}
	newest := n.clocks.cur.newest
	for _, at := range b.Times {
		newest = max(newest, at)
	}
	n.clocks.cur.newest = newest
	n.clocks.cur.seen = true
	if err := n.next.push(b); err != nil || !n.clocks.alone {
		return err
	}
	return n.clocks.tick()
}

// advance ignores the clock of what comes before: this node makes its own. Only an end is an end.
func (n *timeNode[T]) advance(c clock) error {
	if c.kind != clockFinished {
		return nil
	}
	n.clocks.over = true
	return n.next.advance(c)
}

// splitClock is the event time of one split at one EventTime operator.
type splitClock struct {
	newest int64 // highest event time seen
	state  clock
	seen   bool      // has records since the last look
	since  time.Time // of the last record, as far as idleness is concerned; zero = now
}

// clocks are the clocks of all splits of a task at one EventTime operator, and what they combine to.
type clocks struct {
	w      Watermarks
	next   lifecycle
	cur    *splitClock // of the split being read
	splits []*splitClock
	sent   clock
	held   bool // splits that nobody has started yet hold the clock back
	alone  bool // not behind a source: one clock for the task
	over   bool
	still  bool // batch: event time moves at the end only

	reached *atomic.Int64 // shown by Status
}

func newClocks(w Watermarks, next lifecycle) *clocks {
	return &clocks{w: w, next: next, held: true, sent: clock{at: minTime}}
}

// standAlone makes the clock one of a task that has no splits.
func (c *clocks) standAlone() {
	c.alone, c.held = true, false
	c.cur = c.add(minTime)
}

// add begins the clock of a split, at what was restored.
func (c *clocks) add(restored int64) *splitClock {
	s := &splitClock{newest: minTime, state: clock{at: minTime}}
	if restored != minTime {
		s.state = clock{kind: clockActive, at: restored}
	}
	c.splits = append(c.splits, s)
	return s
}

// remove forgets a finished split.
func (c *clocks) remove(s *splitClock) {
	for i, x := range c.splits {
		if x == s {
			c.splits = append(c.splits[:i], c.splits[i+1:]...)
			return
		}
	}
}

// tick moves the current split's clock and passes the combined one on if it changed.
func (c *clocks) tick() error {
	s := c.cur
	if !s.seen {
		return nil
	}
	s.seen, s.since = false, time.Time{}
	if s.newest == minTime {
		return nil // no record with a time yet
	}
	at := s.newest - c.w.Delay.Microseconds() - 1
	if s.state.kind == clockActive && at <= s.state.at {
		return nil
	}
	was := s.state
	s.state = clock{kind: clockActive, at: max(at, s.state.at)}
	if was.kind == clockActive && c.sent.kind == clockActive && was.at > c.sent.at {
		return nil // another split is behind: the minimum can't have changed
	}
	return c.send()
}

// send combines and passes on what changed. A clock never goes back.
func (c *clocks) send() error {
	if c.over || c.still {
		return nil
	}
	now := clock{kind: clockNothing, at: minTime}
	if !c.held {
		now = c.combined()
	}
	if now.kind == clockActive && now.at < c.sent.at {
		now.at = c.sent.at
	}
	if now.kind != clockActive {
		now.at = c.sent.at // remembered, so that it doesn't go back when it becomes active again
	}
	if now == c.sent {
		return nil
	}
	if now.kind == clockIdle {
		// Nobody is left to wait for: what the furthest had reached is reached by all.
		for _, s := range c.splits {
			now.at = max(now.at, s.state.at)
		}
		if now.at > c.sent.at {
			c.sent = now
			if err := c.next.advance(clock{kind: clockActive, at: now.at}); err != nil {
				return err
			}
		}
	}
	c.sent = now
	if now.kind == clockActive {
		c.reached.Store(now.at)
	}
	return c.next.advance(now)
}

func (c *clocks) combined() clock {
	out := clock{kind: clockIdle, at: minTime} // a task without splits has nothing to say
	for _, s := range c.splits {
		switch s.state.kind {
		case clockNothing:
			return clock{kind: clockNothing, at: minTime}
		case clockActive:
			if out.kind != clockActive || s.state.at < out.at {
				out = s.state
			}
		case clockIdle, clockFinished:
		}
	}
	return out
}

// idle declares splits idle that have been silent for the time set. quiet means that the task was able to take input since
// the last call; if not, silence says nothing and the clocks of idleness start anew.
func (c *clocks) idle(now time.Time, quiet bool, paused func(*splitClock) bool) error {
	if c.w.Idle <= 0 || c.over {
		return nil
	}
	changed := false
	for _, s := range c.splits {
		switch {
		case !quiet || s.since.IsZero() || paused(s):
			s.since = now
		case s.state.kind != clockIdle && now.Sub(s.since) >= c.w.Idle:
			s.state.kind = clockIdle
			changed = true
		}
	}
	if !changed {
		return nil
	}
	return c.send()
}
