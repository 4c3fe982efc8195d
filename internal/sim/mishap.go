package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/weirline/weirline/engine/store/storetest"
	"github.com/weirline/weirline/sink"
)

// point is a step of the protocol at which something may go wrong.
type point string

const (
	atRead      point = "read"
	atOpen      point = "open split"
	atRecord    point = "record"
	atDiscover  point = "discover"
	atDerive    point = "derive the next stage"
	atAck       point = "acknowledge outside"
	atBegin     point = "begin"
	atWrite     point = "write"
	atPrepare   point = "before prepare"
	atPrepared  point = "after prepare"
	atCommit    point = "before commit"
	atMidCommit point = "mid-commit"
	atCommitted point = "after commit"
	atRecover   point = "before recover"
	atRecovered point = "after recover"
	atFlush     point = "flush"
	atSend      point = "before send"
	atSent      point = "after send"
	atNumber    point = "number an epoch"
	atBlob      point = "write a blob"
	atPublish   point = "before publish"
	atPublished point = "after publish"
	atRecorded  point = "before the commit is recorded"
	atNoted     point = "after the commit is recorded"
	atGrant     point = "grant"
)

// often says how many times a point may be reached in a run, for drawing which of them fails. A record's is another.
var often = map[point]int{
	atRead: 60, atOpen: 6, atRecord: 0, atDiscover: 3, atDerive: 2, atAck: 10, atBegin: 20, atWrite: 60, atPrepare: 20,
	atPrepared: 20, atCommit: 10, atMidCommit: 10, atCommitted: 10, atRecover: 2, atRecovered: 2, atFlush: 10, atSend: 20,
	atSent: 20, atNumber: 10, atBlob: 30, atPublish: 10, atPublished: 10, atRecorded: 8, atNoted: 8, atGrant: 2,
}

var points = []point{
	atRead, atOpen, atRecord, atDiscover, atDerive, atAck, atBegin, atWrite, atPrepare, atPrepared, atCommit, atMidCommit,
	atCommitted, atRecover, atRecovered, atFlush, atSend, atSent, atNumber, atBlob, atPublish, atPublished, atRecorded, atNoted,
	atGrant,
}

// panics are the points inside of a connector's or a user's code, which may panic as well as fail.
var panics = []point{atOpen, atRead, atDiscover, atDerive, atBegin, atWrite, atPrepare, atCommit, atCommitted, atRecover, atFlush}

// action is what goes wrong.
type action int

const (
	actFail  action = iota // the call fails; after the effect, if that is the point: a lost reply
	actPanic               // user code panics
	actDelay
	actCrash // the process dies
)

// mishap is one thing that goes wrong, when a point is reached for the nth time in a run.
type mishap struct {
	at    point
	nth   int
	act   action
	delay time.Duration
}

func (f mishap) String() string {
	return fmt.Sprintf("%s %s no. %d", [...]string{"fail", "panic", "delay", "crash"}[f.act], f.at, f.nth)
}

func drawMishap(r *rand.Rand, records int) mishap {
	f := mishap{at: points[r.IntN(len(points))], act: []action{actFail, actFail, actDelay, actCrash}[r.IntN(4)]}
	n := often[f.at]
	if f.at == atRecord {
		n = max(1, records)
		if f.act == actFail {
			f.act = actPanic
		}
	}
	if f.act == actFail && r.IntN(5) == 0 && slices.Contains(panics, f.at) {
		f.act = actPanic
	}
	f.nth = 1 + min(r.IntN(n), r.IntN(n))
	f.delay = time.Duration(1+r.IntN(120)) * time.Millisecond
	return f
}

var (
	errPlanned = errors.New("failure as planned")
	errDead    = errors.New("the process is dead")
)

// incarnation is one process: what it still may do in the world, and what it has done.
type incarnation struct {
	w    *world
	run  runSpec
	disk *storetest.Disk
	dead chan struct{}
	stop func() // ends the context of Run

	mu      sync.Mutex
	rnd     *rand.Rand
	killed  bool
	reached map[point]int
	faulty  bool // something went wrong as planned
	holders map[string]int
	reads   int
	attempt int
}

func (w *world) newIncarnation(n int, run runSpec) *incarnation {
	return &incarnation{
		w: w, run: run, disk: w.disk, dead: make(chan struct{}), rnd: rand.New(rand.NewPCG(w.plan.Seed, uint64(100+n))),
		reached: map[point]int{}, holders: map[string]int{},
	}
}

// kill is the death of the process: from now on it has no effect on anything.
func (i *incarnation) kill() {
	i.mu.Lock()
	first := !i.killed
	i.killed = true
	i.mu.Unlock()
	if !first {
		return
	}
	i.disk.FailAt(1, errDead, false, true)
	close(i.dead)
	i.stop()
}

func (i *incarnation) isDead() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.killed
}

// at is called at each point: it waits, fails or dies as planned.
func (i *incarnation) at(ctx context.Context, p point) error {
	i.mu.Lock()
	if i.killed {
		i.mu.Unlock()
		return sink.Permanent(errDead)
	}
	i.reached[p]++
	n := i.reached[p]
	var hit *mishap
	for k := range i.run.mishaps {
		if f := &i.run.mishaps[k]; f.at == p && f.nth == n {
			hit, i.faulty = f, true
			break
		}
	}
	wait := time.Duration(0)
	if most := i.w.plan.spent[p]; most > 0 {
		wait = time.Duration(i.rnd.Int64N(int64(most)))
	}
	i.mu.Unlock()
	if hit != nil && hit.act == actDelay {
		wait += hit.delay
	}
	if wait > 0 {
		if err := i.wait(ctx, wait); err != nil {
			return err
		}
	}
	if hit == nil {
		return nil
	}
	switch hit.act {
	case actFail:
		return errPlanned
	case actPanic:
		panic(errPlanned)
	case actCrash:
		i.kill()
		return sink.Permanent(errDead)
	case actDelay:
	}
	return nil
}

// wait lets time pass.
func (i *incarnation) wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-i.dead:
		return sink.Permanent(errDead)
	}
}

// record is called by user code for each record.
func (i *incarnation) record() {
	if err := i.at(context.Background(), atRecord); err != nil {
		panic(err)
	}
}

// hold notes that a split is being read by one more or one fewer.
func (i *incarnation) hold(split string, n int) {
	i.mu.Lock()
	i.holders[split] += n
	twice := i.holders[split] > 1 && !i.killed
	i.mu.Unlock()
	if twice {
		i.w.wrong("split %s is read by two readers at once", split)
	}
}

func (i *incarnation) draw(n int) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.rnd.IntN(n)
}
