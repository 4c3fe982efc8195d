package engine_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/enumerator"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/reader"
	"github.com/weirline/weirline/source"
)

// These tests read sources of one or two alignment groups whose splits follow random schedules, in virtual time. An
// independent bookkeeper sees every record leave a source and holds it against the rules of alignment.

// tick is a record of a schedule: when it is there, and its event time, both after the start.
type tick struct{ due, at time.Duration }

// lane is a split with its schedule.
type lane struct {
	name  string
	ticks []tick
	gap   time.Duration // the shortest time between two records
	step  time.Duration // the longest stretch of event time between two records
}

// timetable is a source whose records become available by a schedule, whether they are read or not.
type timetable struct {
	lanes map[string]*lane
	began time.Time
	plain bool // its reader can't pause single splits
}

// seat is a position: the lane and the next record.
type seat struct {
	Lane string
	Next int
}

func (s seat) ID() string { return s.Lane }

// car is what it reads.
type car struct {
	Lane string
	At   time.Duration
}

func (s *timetable) Enumerator(ctx context.Context, t source.Task) (source.Enumerator[seat], error) {
	var all []seat
	for name := range s.lanes {
		all = append(all, seat{Lane: name})
	}
	return enumerator.With(enumerator.Options{Policy: enumerator.Spread}, enumerator.Static(all...))(ctx, t)
}

func (s *timetable) Reader(ctx context.Context, t source.Task) (source.Reader[car, seat], error) {
	r, err := reader.Poll(s.read)(ctx, t)
	if s.plain {
		return plainReader{r}, err
	}
	return r, err
}

// plainReader hides that a reader can pause splits.
type plainReader struct{ source.Reader[car, seat] }

func (s *timetable) read(ctx context.Context, at seat, out *source.Batch[car]) (seat, error) {
	l := s.lanes[at.Lane]
	if at.Next >= len(l.ticks) {
		return at, io.EOF
	}
	wait := time.NewTimer(time.Until(s.began.Add(l.ticks[at.Next].due)))
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
		return at, ctx.Err()
	}
	out.Add(car{at.Lane, l.ticks[at.Next].at})
	at.Next++
	return at, nil
}

// bookkeeper is the naive model: the newest record of each lane that isn't finished.
type bookkeeper struct {
	mu     sync.Mutex
	newest map[string]time.Duration
	left   map[string]int
	lanes  map[string]*lane
	group  map[string]string // by lane
	drift  map[string]time.Duration
	last   time.Time // of any record
	errs   []string
	worst  time.Duration
}

// announced is how old the limit may be that a split runs under: two rounds of 200 ms, and the grain of the clocks.
const announced = 450 * time.Millisecond

// inHand is how many records of a split may be on their way from its reader when it is paused: those of the queue, the one
// being read and the one being processed. The schedules give one a read.
const inHand = 7

// saw takes a record down. bound says whether leads are checked: not with idle splits, which may come back far behind.
func (b *bookkeeper) saw(c car, bound bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.newest[c.Lane] = c.At
	b.last = time.Now()
	if b.left[c.Lane]--; b.left[c.Lane] == 0 {
		delete(b.newest, c.Lane) // it has nothing more to say
	}
	l := b.lanes[c.Lane]
	allowed := b.drift[b.group[c.Lane]] + l.step*(time.Duration(announced/l.gap)+inHand)
	for other, at := range b.newest {
		if b.group[other] != b.group[c.Lane] {
			continue
		}
		b.worst = max(b.worst, c.At-at)
		if bound && c.At-at > allowed && len(b.errs) < 5 {
			b.errs = append(b.errs, fmt.Sprintf("%s is %v ahead of %s, at most %v are allowed", c.Lane, c.At-at, other, allowed))
		}
	}
}

// starving is the lanes that have a record waiting for longer than patience while nothing was read for as long.
func (b *bookkeeper) starving(began time.Time, patience time.Duration) (names []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if now.Sub(b.last) < patience {
		return nil
	}
	for name, l := range b.lanes {
		if left := b.left[name]; left > 0 && now.Sub(began.Add(l.ticks[len(l.ticks)-left].due)) > patience {
			names = append(names, name)
		}
	}
	return names
}

// randomLane makes a schedule. With silences, some records come long after the one before.
func randomLane(rnd *rand.Rand, name string, silences bool) *lane {
	l := &lane{name: name, gap: time.Duration(1+rnd.IntN(40)) * time.Millisecond, step: time.Duration(1+rnd.IntN(3000)) * time.Millisecond}
	due, at := -l.gap, time.Duration(0)
	if silences {
		due, at = time.Duration(rnd.IntN(2000))*time.Millisecond, time.Duration(rnd.IntN(20))*time.Second
	}
	for range 20 + rnd.IntN(150) {
		due += l.gap
		if silences && rnd.IntN(30) == 0 {
			due += time.Duration(rnd.IntN(6000)) * time.Millisecond
		}
		at += time.Duration(rnd.Int64N(int64(l.step) + 1))
		l.ticks = append(l.ticks, tick{due, at})
	}
	return l
}

func alignSeeds(t *testing.T) []uint64 {
	if s := os.Getenv("WEIRLINE_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return []uint64{seed}
	}
	n := uint64(40)
	if os.Getenv("WEIRLINE_SOAK") == "1" {
		n = 2000
	}
	first := uint64(time.Now().UnixNano()) //nolint:gosec // a seed
	var out []uint64
	for i := range n {
		out = append(out, first+i)
	}
	return out
}

// TestAlignmentUnderRandomSchedules checks that no split leads by more than the documented bound, that groups don't hold each
// other up, and that everything is read.
func TestAlignmentUnderRandomSchedules(t *testing.T) {
	for _, seed := range alignSeeds(t) {
		bubble.Test(t, func(t *testing.T) { alignedRun(t, seed, false) })
	}
}

// TestSomethingAlwaysRuns is the same with silent splits and an idle timeout: whenever a split has data, some split is read.
func TestSomethingAlwaysRuns(t *testing.T) {
	for _, seed := range alignSeeds(t) {
		bubble.Test(t, func(t *testing.T) { alignedRun(t, seed, true) })
	}
}

func alignedRun(t *testing.T, seed uint64, silences bool) {
	rnd := rand.New(rand.NewPCG(seed, 7))
	began := time.Now()
	b := &bookkeeper{
		newest: map[string]time.Duration{}, left: map[string]int{}, lanes: map[string]*lane{}, group: map[string]string{},
		drift: map[string]time.Duration{"a": time.Duration(1+rnd.IntN(20)) * time.Second, "b": time.Duration(1+rnd.IntN(60)) * time.Second},
		last:  began,
	}
	p := engine.New(engine.Config{Name: "align", Parallelism: 1 + rnd.IntN(3)})
	for i := range 2 + rnd.IntN(3) {
		name := fmt.Sprintf("s%d", i)
		group := []string{"a", "a", "b"}[rnd.IntN(3)]
		src := &timetable{lanes: map[string]*lane{}, began: began, plain: silences && rnd.IntN(3) == 0}
		for k := range 1 + rnd.IntN(4) {
			l := randomLane(rnd, fmt.Sprintf("%s-%d", name, k), silences)
			src.lanes[l.name], b.lanes[l.name], b.left[l.name], b.group[l.name] = l, l, len(l.ticks), group
		}
		w := engine.Watermarks{Align: group, MaxDrift: b.drift[group]}
		if silences {
			w.Idle = time.Second
		}
		s := engine.From(p, name, src).EventTime(func(c car) time.Time { return time.UnixMilli(0).Add(c.At) }, w)
		engine.To(s.Filter(name+"-seen", func(c car) bool { b.saw(c, !silences); return true }), name+"-out", &enginetest.Collect[car]{})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	ended := make(chan struct{})
	go watchStarving(t, seed, b, began, ended, cancel)
	err := p.Run(ctx)
	close(ended)
	if err != nil || ctx.Err() != nil {
		t.Errorf("seed %d: run: %v, %v; replay: WEIRLINE_SEED=%d go test ./engine -run '%s'", seed, err, ctx.Err(), seed, t.Name())
	}
	for _, e := range b.errs {
		t.Errorf("seed %d: %s; replay: WEIRLINE_SEED=%d go test ./engine -run '%s'", seed, e, seed, t.Name())
	}
	for name, left := range b.left {
		if left != 0 {
			t.Errorf("seed %d: %d records of %s were not read", seed, left, name)
		}
	}
}

// watchStarving looks every now and then whether some split runs if one has data. The idle timeout may pass first, and two rounds
// of announcements; and that for one silent split after the other, since the time a split is paused doesn't count as silence.
func watchStarving(t *testing.T, seed uint64, b *bookkeeper, began time.Time, ended <-chan struct{}, cancel func()) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
		}
		if names := b.starving(began, time.Duration(len(b.lanes))*1500*time.Millisecond); len(names) > 0 {
			t.Errorf("seed %d: %v have data and nothing is read; replay: WEIRLINE_SEED=%d go test ./engine -run '%s'", seed, names, seed, t.Name())
			cancel()
			return
		}
	}
}
