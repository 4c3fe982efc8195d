package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/splits"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/source"
)

// TestScriptCoord plays scripts against the coordinator with its split tables, alignment groups and commit bookkeeping. The
// tasks are stand-ins that do what they are told when the script says so; the store answers as the script says.
//
//   - splits.txt: C1.2 to C1.5, F1, F3, F5; tests 1, 2, 13, 14 (assigned after the epoch comes back, before it doesn't; asked
//     again after a restart; splits without a reader; more readers than splits)
//   - rescale.txt: C1.7, C1.8, F8, F10; test 12
//   - epochs.txt: C8.1, C8.5 to C8.7, C8.10, F9, F10; test 59 (late ack, timeout, unknown outcome, failures counted once)
//   - final.txt: C8.9, F11, F12; test 60
//   - hybrid.txt: C2, F1 to F4, F6; tests 15, 17, 18
//   - align.txt: C3.2 to C3.8, F1, F6; tests 22, 23, 25
//   - commits.txt: C8.6, C8.7: handles ride until an epoch with them is complete, slots are free when commits are recorded
//
// Not here, as the engine has no such part: gates (C1 F2, F4, tests 5, 6: an inbox loses nothing, see coord), buckets of an
// assignment tracker (F6, F7: a table has a row for each split), markers of readers (F8's report of readers first), C2 F5 and F7 and test
// 19 (a reader asks nobody which stage it is in). Elsewhere: tests 3 and 7 in the simulation, 4 in package source (an
// assignment to a reader that isn't live is ignored), 8 to 11 in package reader and ack_test.go, 16 in package hybrid, 20 in
// TestScriptTask, 21 and 24 in the tests of event time.
func TestScriptCoord(t *testing.T) {
	runScripts(t, "coord", func(t *testing.T) actor { return newCoordActor(t) })
}

// place is a split and the position in it.
type place struct {
	Name string
	At   int
}

func (p place) ID() string { return p.Name }

// coordActor is a job with one source, whose tasks write to a two-phase sink.
type coordActor struct {
	test  *testing.T
	job   *job
	c     *coord
	a     *attempt
	s     *sourceCoord
	store *scriptStore
	srcs  []*scriptSource
	enum  *scriptEnum
	tasks int
	out   []string
	ended bool
	asks  bool  // Next was asked for and hasn't answered
	drift int64 // of the alignment group; 0 = there is none
}

func newCoordActor(t *testing.T) *coordActor {
	a := &coordActor{test: t, store: &scriptStore{committed: map[string]bool{}}, tasks: 2, enum: &scriptEnum{}}
	a.store.say = a.say
	return a
}

func (a *coordActor) say(format string, args ...any) {
	a.out = append(a.out, fmt.Sprintf(format, args...))
}

// start makes the job anew, from the newest epoch, as a restart does.
func (a *coordActor) start() {
	cfg := Config{
		Name: "script", CheckpointEvery: 100 * time.Millisecond, CheckpointTimeout: time.Second, TolerateFailures: 2,
		CommitWait: 3 * time.Second, Uncommitted: 1, Parallelism: a.tasks,
	}
	p := New(cfg)
	v := &vertex{tasks: a.tasks, source: &sourceVertex{}}
	p.add("src", "source", nil, v)
	if a.drift > 0 {
		p.groups["g"] = &alignGroup{drift: a.drift, sources: map[*vertex]bool{v: true}}
	}
	a.job = &job{p: p, cfg: p.cfg, log: slog.New(slog.DiscardHandler), store: a.store}
	v.head = v
	a.ended = false
	a.c = newCoord(a.job, p.regions([]*vertex{v}))
	p.byName["out"] = &vertex{name: "out", tasks: a.tasks, region: v.region}
	p.vertices = append(p.vertices, p.byName["out"])
	a.c.lastAt = time.Now()
	a.attempt(v)
}

func (a *coordActor) attempt(v *vertex) {
	a.a = &attempt{
		job: a.job, coord: a.c, region: v.region, cancel: func(err error) { a.say("the attempt ends: %v", err) },
		byHead: map[*vertex][]*task{}, uncommitted: map[string]sink.Handle{}, queued: map[string]bool{},
		commits: &commitLoop{jobs: make(chan commitJob, 100)},
	}
	a.srcs, a.asks = nil, false
	for i := range a.tasks {
		t := &task{name: "src", index: i, job: a.job, att: a.a, ctx: context.Background(), in: newInbox(), log: a.job.log}
		t.stats.slowest.Store(maxTime)
		t.stats.fastest.Store(minTime)
		src := &scriptSource{a: a, t: t, at: map[string]int{}, done: map[string]bool{}}
		t.src, t.head = src, src
		n := &txNode[int]{t: t, op: "out", w: &scriptTx{a: a, task: i}, slots: a.job.slotsOf(a.job.p.byName["out"], i)}
		src.tx = n
		part := t.addPart("out")
		part.prepare, part.handles, part.completed, part.freed = n.prepare, n.report, n.completed, func(s sink.Slot) {
			a.say("task %d: slot %d is free", i, s.ID)
			n.freed(s)
		}
		a.a.tasks = append(a.a.tasks, t)
		a.srcs = append(a.srcs, src)
	}
	a.a.byHead[v] = a.a.tasks
	d := splits.New[place](a.enum)
	a.s = &sourceCoord{
		att: a.a, v: v, d: d, tasks: a.a.tasks, held: true, finished: make(chan []any, 1), resume: make(chan struct{}, 1),
	}
	a.a.sources = []*sourceCoord{a.s}
	if rec := a.store.newest; rec != nil {
		if err := d.Restore(rec.Sources["src"]); err != nil {
			a.say("restore: %v", err)
		}
		for _, h := range rec.Handles {
			a.say("recovers %s", h.Token)
			a.store.committed[h.Token] = true
		}
		if a.a.over = rec.End == store.Finished; a.a.over {
			a.a.tasks, a.a.sources, a.srcs = nil, nil, nil
		}
	}
	a.c.post(attemptUp{a.a})
}

func (a *coordActor) event(name string, args []string) []string {
	a.out = nil
	if a.c == nil && !slices.Contains([]string{"tasks", "stages", "drift"}, name) {
		a.start()
		a.turn()
		a.out = nil
	}
	if !a.outside(name, args) && !a.inside(name, args) {
		a.test.Fatalf("no event %s", name)
	}
	if a.c != nil {
		a.turn()
	}
	return a.out
}

// outside is what happens around the coordinator.
func (a *coordActor) outside(name string, args []string) bool {
	switch name {
	case "tasks", "restart": // of the process, with so many tasks
		if len(args) > 0 {
			a.tasks = a.number(args[0])
		}
		a.start()
	case "drift":
		a.drift = int64(a.number(args[0]))
	case "stages":
		a.enum.stages = a.number(args[0])
	case "again": // the region's next attempt
		select {
		case <-a.s.v.region.again:
			a.attempt(a.s.v)
		default:
			a.say("no attempt is wanted")
		}
	case "publish", "number":
		a.store.answer = strings.Join(args, " ")
	case "after":
		d, err := time.ParseDuration(args[0])
		if err != nil {
			a.test.Fatal(err)
		}
		<-time.After(d)
		a.c.tick(time.Now())
	case "crash":
		a.c.post(attemptDown{a.a, errors.New("crash")})
	case "stop":
		a.c.post(stopAsked{map[string]store.End{"suspend": store.Suspended, "drain": store.Drained}[args[0]]})
	case "request":
		a.c.request()
	default:
		return false
	}
	return true
}

// inside is what the coordinator's helpers and tasks do.
func (a *coordActor) inside(name string, args []string) bool {
	switch name {
	case "found":
		a.c.post(newsFound{s: a.s, d: a.found(args)})
	case "next": // what the enumerator's Next answers
		select {
		case <-a.s.finished:
		default:
			a.say("Next wasn't asked for")
			return true
		}
		more := args[0] == "more"
		if more {
			a.enum.stage++
		}
		st, _ := a.enum.Snapshot()
		a.c.post(newsFound{s: a.s, next: true, d: splits.News{Splits: []place(nil), More: more, State: st}})
	case "run": // tasks take their messages
		for _, s := range a.which(args) {
			a.control(s)
		}
	case "read":
		a.srcs[a.number(args[0])].move(args[1], a.number(args[2]))
	case "finish":
		a.srcs[a.number(args[0])].finish(args[1])
	case "write":
		if n := a.srcs[a.number(args[0])].tx; !n.room() {
			a.say("task %s: no slot is free", args[0])
		} else if err := n.push(&source.Batch[int]{Values: []int{1}}); err != nil {
			a.say("%v", err)
		}
	case "lateack":
		t := a.a.tasks[a.number(args[0])]
		a.c.post(ack{t: t, epoch: uint64(a.number(args[1]))})
	case "badack":
		t := a.a.tasks[a.number(args[0])]
		a.c.post(ack{t: t, epoch: uint64(a.number(args[1])), err: errors.New("the snapshot can't be written")})
	case "committed":
		select {
		case j := <-a.a.commits.jobs:
			a.c.post(committed{a: a.a, epoch: j.epoch, handles: j.handles})
		default:
			a.say("nothing waits to be committed")
		}
	case "slowest":
		at := int64(maxTime)
		if args[1] != "-" {
			at = int64(a.number(args[1]))
		}
		a.a.tasks[a.number(args[0])].stats.slowest.Store(at)
	default:
		return false
	}
	return true
}

func (a *coordActor) number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		a.test.Fatal(err)
	}
	return n
}

func (a *coordActor) which(args []string) (out []*scriptSource) {
	for i, s := range a.srcs {
		if len(args) == 0 || slices.Contains(args, strconv.Itoa(i)) {
			out = append(out, s)
		}
	}
	return out
}

// found is what a Discover brings: names of splits, and perhaps "done".
func (a *coordActor) found(args []string) splits.News {
	d := splits.News{}
	var places []place
	for _, s := range args {
		if s == "done" {
			d.Done = true
		} else {
			places = append(places, place{Name: s})
		}
	}
	d.Splits = places
	d.State, _ = a.enum.Snapshot()
	return d
}

// control lets a task take its messages.
func (a *coordActor) control(s *scriptSource) {
	for _, m := range s.t.in.takeControl() {
		if err := m(s.t); err != nil {
			a.say("task %d fails: %v", s.t.index, err)
		}
	}
	synctest.Wait()
}

// pending is the epoch being taken: scripts take one at a time.
func (a *coordActor) pending() *epochRun {
	if len(a.c.pending) == 0 {
		return nil
	}
	return a.c.pending[0]
}

// turn lets the coordinator do all it has, and says what came of it.
func (a *coordActor) turn() {
	for range 4 {
		if a.ended {
			return
		}
		before, failures := a.pending(), a.c.failures
		done, err := a.c.step()
		synctest.Wait()
		if e := a.pending(); e != nil && e != before {
			a.say("epoch %d begins%s", e.id, map[bool]string{true: ", the last: " + endName(e.end)}[e.end != store.Running])
		}
		switch {
		case a.c.failures <= failures:
		case before == nil:
			a.say("no epoch: %v", a.c.lastFailure)
		case a.pending() == nil:
			a.say("epoch %d is given up: %v", before.id, a.c.lastFailure)
		}
		if err != nil {
			a.say("the job fails: %v", err)
		}
		if a.ended = done || err != nil; done {
			a.say("the job ends: %s", endName(a.c.outcome))
		}
		if a.ended {
			break
		}
	}
	select {
	case <-a.s.resume:
		a.say("the next stage may begin")
	default:
	}
	if asks := len(a.s.finished) > 0; asks != a.asks {
		if a.asks = asks; asks {
			a.say("Next is asked for")
		}
	}
	if n := len(a.a.commits.jobs); n > 0 {
		a.say("%d epochs wait to be committed", n)
	}
}
