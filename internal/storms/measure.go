package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/weirline/weirline/engine"
)

// arrivals is what has come to a destination that counts by itself.
type arrivals struct {
	seen     []atomic.Uint32 // by record
	records  *[shards]atomic.Int64
	requests *[shards]atomic.Int64
}

func newArrivals() arrivals {
	return arrivals{make([]atomic.Uint32, mostRecords), new([shards]atomic.Int64), new([shards]atomic.Int64)}
}

func (a *arrivals) arrived(id int64) {
	a.seen[id].Add(1)
	a.records[shardOf(id)].Add(1)
}

func (a *arrivals) count(context.Context) (t tally, _ error) {
	for i := range shards {
		t.records[i], t.requests[i] = a.records[i].Load(), a.requests[i].Load()
	}
	return t, nil
}

func (a *arrivals) times(context.Context) ([]uint32, error) {
	n := make([]uint32, len(a.seen))
	for i := range a.seen {
		n[i] = a.seen[i].Load()
	}
	return n, nil
}

// mark is what had come by a moment.
type mark struct {
	at time.Time
	tally
}

// marks are those of a phase, one every markEvery, and the checkpoints in it.
type marks struct {
	all         []mark
	checkpoints int64
	longest     time.Duration // of them
}

const markEvery = 250 * time.Millisecond

// since returns the part that begins after the weather has settled.
func (m *marks) settled() []mark { return m.all[min(int(settle/markEvery), len(m.all)):] }

// perSecond is a rate of chosen shards over some marks.
func perSecond(ms []mark, chosen func(shard int) bool, of func(tally) [shards]int64) float64 {
	if len(ms) < 2 {
		return 0
	}
	a, b := ms[0], ms[len(ms)-1]
	var n int64
	for i := range shards {
		if chosen(i) {
			n += of(b.tally)[i] - of(a.tally)[i]
		}
	}
	return float64(n) / b.at.Sub(a.at).Seconds()
}

func recordsOf(t tally) [shards]int64  { return t.records }
func requestsOf(t tally) [shards]int64 { return t.requests }

// watcher takes marks while the job runs.
type watcher struct {
	d   destination
	p   *engine.Pipeline
	log io.Writer
}

// phase is a time of one weather.
type phase struct {
	lasts time.Duration // at most
	begin func(context.Context) error
	marks *marks
}

// watch lets a phase begin and takes its marks, until it is over or the job ends.
func (w *watcher) watch(ctx context.Context, ph phase, over func() bool, done chan error) error {
	if ph.begin != nil {
		if err := ph.begin(ctx); err != nil {
			return err
		}
	}
	before := w.p.Status().Epochs.Completed
	tick := time.NewTicker(markEvery)
	defer tick.Stop()
	for i := 0; i <= int(ph.lasts/markEvery) && !over(); i++ {
		t, err := w.d.count(ctx)
		if err != nil {
			return fmt.Errorf("count what has arrived: %w", err)
		}
		ph.marks.add(mark{time.Now(), t}, w.p.Status().Epochs, before, w.log)
		select {
		case <-tick.C:
		case err := <-done:
			done <- err // for the caller too
			return errors.New("the job has ended by itself")
		}
	}
	return nil
}

func (m *marks) add(now mark, e engine.EpochStatus, before int64, log io.Writer) {
	m.all = append(m.all, now)
	m.checkpoints = e.Completed - before
	if m.checkpoints > 0 {
		m.longest = max(m.longest, e.LastDuration)
	}
	if n := len(m.all); log != nil && n > 4 && n%4 == 1 {
		any := func(int) bool { return true }
		ms := m.all[n-5:]
		fmt.Fprintf(log, "      %6.0f records, %5.0f requests a second", perSecond(ms, any, recordsOf), perSecond(ms, any, requestsOf))
		for i := range shards {
			fmt.Fprintf(log, " %5.0f", perSecond(ms, func(s int) bool { return s == i }, recordsOf))
		}
		fmt.Fprintf(log, "  checkpoint %v\n", e.LastDuration.Round(time.Millisecond))
	}
}

// figures are what a trial comes to.
type figures struct {
	hit                 map[int]bool
	calm, storm, healed marks
	times               []uint32 // each record's arrivals
	dead                *letters
	failed              int64 // checkpoints
}

// lost are the records that are nowhere.
func (f *figures) lost() (n int) {
	for id, times := range f.times {
		if times == 0 && len(f.dead.causes[int64(id)]) == 0 {
			n++
		}
	}
	return n
}

// twice are arrivals beyond the first.
func (f *figures) twice() (n int64) {
	for _, times := range f.times {
		if times > 1 {
			n += int64(times - 1)
		}
	}
	return n
}

// healthy is the rate of the shards that aren't hit, as a part of that in calm weather.
func (f *figures) healthy() float64 {
	spared := func(shard int) bool { return !f.hit[shard] }
	return perSecond(f.storm.all, spared, recordsOf) / perSecond(f.calm.settled(), spared, recordsOf)
}

// requests is the rate of requests at the shards that are hit, as a part of what is allowed.
func (f *figures) requests(allowed float64) float64 {
	return perSecond(f.storm.settled(), func(shard int) bool { return f.hit[shard] }, requestsOf) / allowed
}

// recovery is the time until each shard has gone at its full rate for a second; negative if that never happened.
func (f *figures) recovery() time.Duration {
	const second = int(time.Second / markEvery)
	ms := f.healed.all
	for i := 0; i+second < len(ms); i++ {
		full := true
		for s := range shards {
			this := func(shard int) bool { return shard == s }
			full = full && perSecond(ms[i:i+second+1], this, recordsOf) >= enough*perSecond(f.calm.settled(), this, recordsOf)
		}
		if full {
			return ms[i].at.Sub(ms[0].at)
		}
	}
	return -1
}

// What a row must be.
const (
	enough        = 0.8
	tooMuch       = 1.2
	recoverWithin = 10 * time.Second
	checkpointMax = 2 * time.Second
	missing       = 2 // checkpoints of a storm
)

// judge says all that doesn't hold.
func (f *figures) judge(s storm) error {
	var errs []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	want(f.lost() == 0, "%d of %d records are lost", f.lost(), len(f.times))
	want(s.repeats || f.twice() == 0, "%d records arrived twice without a reason", f.twice())
	errs = append(errs, f.judgeDead(s))
	if s.hits > 0 {
		want(f.healthy() >= enough, "healthy shards have %.0f %% of their full rate", 100*f.healthy())
	}
	if s.allowed > 0 {
		r := f.requests(s.allowed)
		want(r >= enough && r <= tooMuch, "the throttling server gets %.0f %% of the requests it allows", 100*r)
	}
	r := f.recovery()
	want(r >= 0 && r <= recoverWithin, "full rate isn't reached within %v", recoverWithin)
	least := int64(stormFor/time.Second) - missing
	want(f.storm.checkpoints >= least, "%d checkpoints during the storm, want %d", f.storm.checkpoints, least)
	want(f.storm.longest <= checkpointMax, "a checkpoint took %v", f.storm.longest)
	want(f.failed == 0, "%d checkpoints failed", f.failed)
	return errors.Join(errs...)
}

// judgeDead compares the dead letters with what the destination refuses.
func (f *figures) judgeDead(s storm) error {
	if len(f.dead.odd) > 0 {
		return fmt.Errorf("%d dead letters of no record, such as %s", len(f.dead.odd), f.dead.odd[0])
	}
	for id, times := range f.times {
		causes := f.dead.causes[int64(id)]
		refused := s.refuses && refusable(int64(id))
		switch {
		case refused && (times > 0 || len(causes) != 1 || causes[0] != errRefused.Error()):
			return fmt.Errorf("refused record %d arrived %d times and has the dead letters %q", id, times, causes)
		case !refused && len(causes) > 0:
			return fmt.Errorf("record %d, which arrived %d times, has the dead letters %q", id, times, causes)
		}
	}
	return nil
}

// line is the row.
func (f *figures) line(s storm) string {
	line := fmt.Sprintf("lost %d, twice %d, dead %d", f.lost(), f.twice(), len(f.dead.causes))
	if s.hits > 0 {
		line += fmt.Sprintf(", healthy %.0f %%", 100*f.healthy())
	}
	if s.allowed > 0 {
		line += fmt.Sprintf(", requests %.0f %%", 100*f.requests(s.allowed))
	}
	if r := f.recovery(); r >= 0 {
		line += fmt.Sprintf(", full rate after %.1f s", r.Seconds())
	} else {
		line += ", full rate never"
	}
	return line + fmt.Sprintf(", %d checkpoints of at most %d ms", f.storm.checkpoints, f.storm.longest.Milliseconds())
}
