package engine

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/source"
)

// sourceTask is a source in its task, without its types.
type sourceTask interface {
	start(ctx context.Context)
	addSplit(split any, watermark int64) error
	hold(held bool) error              // unstarted splits hold the watermark, or no longer
	positions() ([]store.Split, error) // at a barrier
	stop()                             // suspend: take nothing more
	end()                              // nothing more will come; stop the fetcher
	ack(epoch uint64)                  // the epoch is durable
	tick(now time.Time, quiet bool) error
	read() int64                     // records so far
	allow(at int64, until time.Time) // watermark alignment: splits after at pause, until the lease ends
}

// sourceRun is a source in its task: it owns the positions of the task's splits. Positions move only here, when the records
// they cover have been processed.
type sourceRun[T any, S source.Split] struct {
	t      *task
	v      *vertex
	next   node[T]
	bad    *poisoner
	fetch  *fetcher[T, S]
	pauser source.Pauser
	acker  source.Acker[S]
	splits map[string]*splitRun[S]
	order  []*splitRun[S]
	acks   []epochPositions[S]
	op     *opStats
	ended  bool
	still  bool  // stopped or ended: nothing is read any more
	ahead  bool  // a reader that can't pause single splits waits, since all it has are ahead
	limit  int64 // event time that splits may reach, by alignment; maxTime = any
}

// splitRun is a split of this task.
type splitRun[S source.Split] struct {
	id       string
	at       S
	clocks   []*splitClock
	finished bool
	reported uint64 // first epoch it was reported finished in
	paused   bool
}

type epochPositions[S source.Split] struct {
	epoch uint64
	at    []S
}

func newSourceRun[T any, S source.Split](t *task, v *vertex, r source.Reader[T, S], next node[T], bad *poisoner) *sourceRun[T, S] {
	s := &sourceRun[T, S]{
		t: t, v: v, next: next, bad: bad, splits: map[string]*splitRun[S]{},
		fetch: newFetcher(r, t.job.cfg.sourceBatch()), op: t.op(v.name), limit: maxTime,
	}
	s.pauser, _ = source.As[source.Pauser](r)
	s.acker, _ = source.As[source.Acker[S]](r)
	if t.job.cfg.Memory > 0 {
		s.fetch.size = min(s.fetch.limit, firstRead)
	}
	s.fetch.ch = t.in.addChannel(sourceQueue, t.job.queueBytes, s.fetch.wake)
	return s
}

const (
	sourceQueue = 4  // read batches that may wait for the task
	firstRead   = 64 // records of a task's first read, if memory counts: their size isn't known yet
)

func (s *sourceRun[T, S]) start(ctx context.Context) { s.t.att.loops.Go(func() { s.fetch.run(ctx) }) }

func (s *sourceRun[T, S]) read() int64 { return s.op.in.Load() }

func (s *sourceRun[T, S]) advance(c clock) error { return s.next.advance(c) }

func (s *sourceRun[T, S]) push(*source.Batch[T]) error { return nil }

func (s *sourceRun[T, S]) addSplit(split any, watermark int64) error {
	at := split.(S)
	id := at.ID()
	if old := s.splits[id]; old != nil && !old.finished {
		return fault.New(fault.Misplaced, "split %q was assigned twice", id).At("source " + s.v.name)
	}
	run := &splitRun[S]{id: id, at: at}
	for _, c := range s.t.clocks {
		run.clocks = append(run.clocks, c.add(watermark))
	}
	s.splits[id] = run
	s.order = append(s.order, run)
	s.fetch.tell(func(ctx context.Context) error {
		if err := s.fetch.r.Add(ctx, at); err != nil {
			return fmt.Errorf("open split %q: %w", id, err)
		}
		return nil
	})
	return s.sendClocks()
}

func (s *sourceRun[T, S]) hold(held bool) error {
	for _, c := range s.t.clocks {
		c.held = held
	}
	return s.sendClocks()
}

func (s *sourceRun[T, S]) sendClocks() error {
	for _, c := range s.t.clocks {
		if err := c.send(); err != nil {
			return err
		}
	}
	return nil
}

// receive processes what a read returned: records and position first, then the error.
func (s *sourceRun[T, S]) receive(payload any) error {
	x := payload.(*fetched[T, S])
	if x.dead {
		return x.err
	}
	nothing := len(x.batch.Values)+len(x.batch.Rejects) == 0
	if nothing && x.err != nil && x.err != io.EOF { //nolint:errorlint // only io.EOF itself ends a split
		return fmt.Errorf("read: %w", x.err) // next may be the zero value
	}
	run, id := s.find(x.next)
	if run == nil && nothing && x.err == nil {
		s.fetch.recycle(x)
		return nil // nothing read and nothing moved
	}
	if run == nil {
		return fault.New(fault.Misplaced, "the reader returned split %q, which it was not given", id).At("source " + s.v.name)
	}
	if err := s.process(run, x); err != nil {
		return err
	}
	run.at = x.next
	err := x.err
	s.fetch.recycle(x)
	switch err {
	case nil:
		return nil
	case io.EOF:
		return s.finish(run)
	}
	return fmt.Errorf("read split %q: %w", id, err)
}

func (s *sourceRun[T, S]) find(at S) (*splitRun[S], string) {
	id := at.ID()
	return s.splits[id], id
}

func (s *sourceRun[T, S]) process(run *splitRun[S], x *fetched[T, S]) error {
	for i, c := range s.t.clocks {
		c.cur = run.clocks[i]
	}
	if n := len(x.batch.Values); n > 0 {
		s.t.stats.running.Store(s.op)
		s.op.in.Add(int64(n))
		if err := s.next.push(&x.batch); err != nil {
			return err
		}
	}
	for _, r := range x.batch.Rejects {
		if err := s.bad.reject(r, run.id); err != nil {
			return err
		}
	}
	for _, c := range s.t.clocks {
		if err := c.tick(); err != nil {
			return err
		}
	}
	if s.limit != maxTime && s.leads(run) {
		s.align(run)
	}
	return nil
}

func (s *sourceRun[T, S]) finish(run *splitRun[S]) error {
	if run.finished {
		return nil
	}
	run.finished = true
	for i, c := range s.t.clocks {
		c.remove(run.clocks[i])
	}
	pos, err := source.EncodeSplit(run.at)
	if err != nil {
		return err
	}
	left := 0
	for _, r := range s.order {
		if !r.finished {
			left++
		}
	}
	s.t.att.coord.post(splitFinished{s: s.t.att.sourceOf(s.v), task: s.t.index, id: run.id, at: run.at, pos: pos, wanted: left == 0})
	return s.sendClocks()
}

func (s *sourceRun[T, S]) positions() ([]store.Split, error) {
	out := make([]store.Split, 0, len(s.order))
	held := epochPositions[S]{epoch: s.t.epoch}
	for _, r := range s.order {
		pos, err := source.EncodeSplit(r.at)
		if err != nil {
			return nil, fault.Wrap(fault.BadPosition, err, "encode position of split %q", r.id).At("source " + s.v.name)
		}
		row := store.Split{ID: r.id, Position: pos, Finished: r.finished, Started: true, Watermark: minTime}
		for i, c := range r.clocks {
			if at := c.state.at; c.state.kind != clockNothing && (i == 0 || at < row.Watermark) {
				row.Watermark = at
			}
		}
		out = append(out, row)
		held.at = append(held.at, r.at)
		if r.finished && r.reported == 0 {
			r.reported = s.t.epoch
		}
	}
	if s.acker != nil && len(held.at) > 0 {
		s.acks = append(s.acks, held)
	}
	return out, nil
}

func (s *sourceRun[T, S]) stop() {
	s.still = true
	s.fetch.hold(true)
	s.t.in.block(0)
}

func (s *sourceRun[T, S]) end() {
	s.ended, s.still = true, true
	s.fetch.hold(true)
}

// ack forgets finished splits that a durable epoch has, and tells the reader what is durable, from the fetch goroutine: of
// each split the newest position. Epochs that begin from here on find such splits finished in the coordinator's table; one
// that had begun before has been told to us before, and has them from us.
func (s *sourceRun[T, S]) ack(epoch uint64) {
	s.order = slices.DeleteFunc(s.order, func(r *splitRun[S]) bool {
		done := r.finished && r.reported != 0 && r.reported <= epoch
		if done {
			delete(s.splits, r.id)
		}
		return done
	})
	newest := map[string]S{}
	for len(s.acks) > 0 && s.acks[0].epoch <= epoch {
		for _, at := range s.acks[0].at {
			newest[at.ID()] = at
		}
		s.acks = s.acks[1:]
	}
	if len(newest) == 0 {
		return
	}
	s.fetch.tellSoon(func(ctx context.Context) error {
		if err := s.acker.Ack(ctx, slices.Collect(maps.Values(newest))); err != nil && ctx.Err() == nil {
			s.t.stats.ackFailures.Add(1)
			s.t.log.Warn("acknowledge positions outside", "source", s.v.name, "epoch", epoch, "error", err)
		}
		return nil
	})
}

func (s *sourceRun[T, S]) tick(now time.Time, quiet bool) error {
	lowest, highest := s.span()
	paused := int64(0)
	for _, r := range s.order {
		if r.paused {
			paused++
		}
	}
	s.t.stats.pausedNow.Store(paused)
	s.t.stats.slowest.Store(lowest)
	s.t.stats.fastest.Store(highest)
	if s.ended {
		return nil
	}
	for i, c := range s.t.clocks {
		paused := func(sc *splitClock) bool {
			for _, r := range s.order {
				if r.clocks[i] == sc {
					return r.paused
				}
			}
			return false
		}
		if err := c.idle(now, quiet, paused); err != nil {
			return err
		}
	}
	return s.lease(now)
}

// span is the lowest and the highest event time of the splits that have one, for alignment. Finished, idle and silent splits
// don't count.
func (s *sourceRun[T, S]) span() (lowest, highest int64) {
	lowest, highest = maxTime, minTime
	for _, r := range s.order {
		for _, c := range r.clocks {
			if !r.finished && c.state.kind == clockActive {
				lowest, highest = min(lowest, c.state.at), max(highest, c.state.at)
			}
		}
	}
	return lowest, highest
}

// allow pauses the splits that are after at, until the lease ends, and lets the others go on. The next announcement isn't
// awaited when a split passes the limit meanwhile: process looks after each batch.
func (s *sourceRun[T, S]) allow(at int64, until time.Time) {
	s.t.lease, s.limit = until, at
	for _, r := range s.order {
		s.align(r)
	}
}

// align pauses a split that is after the limit. A reader that can't pause single splits is paused as a whole, once all of its
// splits are.
func (s *sourceRun[T, S]) align(r *splitRun[S]) {
	if s.pauser != nil {
		s.pause(r, s.leads(r))
		return
	}
	all, some := true, false
	for _, r := range s.order {
		if !r.finished {
			all, some = all && s.leads(r), true
		}
	}
	s.wait(all && some)
}

// leads says whether a split is after the limit.
func (s *sourceRun[T, S]) leads(r *splitRun[S]) bool {
	for _, c := range r.clocks {
		if c.state.kind == clockActive && c.state.at > s.limit {
			return !r.finished
		}
	}
	return false
}

// wait pauses the whole reader, or lets it go on.
func (s *sourceRun[T, S]) wait(on bool) {
	if s.ahead == on {
		return
	}
	s.ahead = on
	s.fetch.hold(on || s.still)
	for _, r := range s.order {
		r.paused = on && !r.finished
	}
	if on {
		s.t.stats.pauses.Add(1)
	}
}

func (s *sourceRun[T, S]) pause(r *splitRun[S], on bool) {
	if r.paused == on {
		return
	}
	r.paused = on
	if on {
		s.pauser.Pause(r.id)
		s.t.stats.pauses.Add(1)
	} else {
		s.pauser.Resume(r.id)
	}
}

// lease resumes everything when the coordinator has not renewed the pause in time.
func (s *sourceRun[T, S]) lease(now time.Time) error {
	if s.t.lease.IsZero() || now.Before(s.t.lease) {
		return nil
	}
	s.t.lease, s.limit = time.Time{}, maxTime
	if s.ahead {
		s.t.stats.lapsed.Add(1)
		s.wait(false)
	}
	for _, r := range s.order {
		if r.paused && !r.finished {
			s.t.stats.lapsed.Add(1)
			s.pause(r, false)
		}
	}
	return nil
}
