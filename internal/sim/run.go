package sim

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/internal/fault"
)

// patience is how long a run may take, in its own time.
const patience = time.Minute

// Result is what a plan came to.
type Result struct {
	Wrongs   []string // properties that don't hold; none = the seed holds
	Epochs   int      // complete ones
	Runs     int
	Crashes  int
	Restarts int64
}

// Run runs the plan in a bubble. It must not be called from inside one.
func (p *Plan) Run(t *testing.T) (res Result) {
	defer func() {
		if r := recover(); r != nil {
			res.Wrongs = append(res.Wrongs, fmt.Sprintf("%v\n%s", r, bubbles()))
		}
	}()
	bubble.Test(t, func(*testing.T) { p.runs1(&res) })
	return res
}

func (p *Plan) runs1(res *Result) {
	w := newWorld(p)
	finished := false
	for i, run := range p.runs {
		how := w.live(i, run, res)
		res.Runs++
		if finished = how == "finished"; finished || how == "hangs" {
			break
		}
	}
	if !finished && len(w.wrongs) == 0 {
		w.wrong("the last run has no faults and doesn't finish")
	}
	if len(w.wrongs) == 0 {
		w.judge()
	}
	if len(w.wrongs) == 0 {
		w.again(res)
	}
	res.Epochs, res.Wrongs = w.epochs, w.wrongs
}

// live runs one process to its end and says how that was: "finished", "crashed", "failed", "hangs" or an outcome.
func (w *world) live(n int, run runSpec, res *Result) string {
	inc := w.newIncarnation(n, run)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	inc.stop = cancel
	g := w.plan.build(inc)
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	over := make(chan struct{})
	go inc.disturb(g, over)
	inc.upkeep(ctx, g, n)
	var err error
	patient := time.NewTimer(patience)
	defer patient.Stop()
	select {
	case err = <-ended:
		close(over)
		cancel()
	case <-patient.C:
		close(over)
		w.wrong("run %d makes no progress: %s", n, positions(g))
		inc.kill()
		return "hangs"
	}
	synctest.Wait()
	status := g.Status()
	res.Restarts += status.Restarts
	if inc.isDead() {
		res.Crashes++
		if run.power {
			w.disk = inc.disk.Crash(inc.rnd)
		} else {
			w.disk = inc.disk.Kill()
		}
		return "crashed"
	}
	for split, n := range inc.holders {
		if n != 0 {
			w.wrong("run %d: split %s is still open", n, split)
		}
	}
	w.disk = inc.disk.Kill()
	if err != nil {
		if !inc.excused(err) {
			w.wrong("run %d ends with: %v", n, err)
		}
		return "failed"
	}
	if status.Uncommitted > 0 {
		return "uncommitted" // stopped before its last commits were confirmed; the next start goes on with them
	}
	return status.Outcome
}

// excused says whether a run may end with the error: something went wrong as planned, and the error says so.
func (i *incarnation) excused(err error) bool {
	faulty := i.faulty || i.run.disk > 0
	if !faulty && i.run.stopAt == 0 && i.run.rescaleAt == 0 {
		return false
	}
	switch fault.CodeOf(err) {
	case fault.EpochFailures.ID, fault.GaveUp.ID:
		return true
	}
	return faulty && (errors.Is(err, errPlanned) || strings.Contains(err.Error(), errPlanned.Error()))
}

// disturb does to a run from outside what the plan says.
func (i *incarnation) disturb(g *engine.Pipeline, over <-chan struct{}) {
	var stop, ask <-chan time.Time
	if i.run.stopAt > 0 {
		stop = time.After(i.run.stopAt)
	}
	if i.run.asks > 0 {
		t := time.NewTicker(i.run.asks)
		defer t.Stop()
		ask = t.C
	}
	for {
		select {
		case <-ask:
			g.Checkpoint()
		case <-stop:
			switch i.run.stop {
			case stopSuspend:
				i.stop()
			case stopDrain:
				g.Stop(engine.Drain)
			case stopCrash:
				i.kill()
			}
		case <-over:
			return
		}
	}
}

// again runs the finished job once more: that must do nothing.
func (w *world) again(res *Result) {
	before := map[string]int{}
	for name, t := range w.tables {
		before[name] = len(t.rows)
	}
	if how := w.live(len(w.plan.runs), runSpec{parallelism: 2}, res); how != "finished" {
		w.wrong("a finished job run again: %s", how)
	}
	for name, t := range w.tables {
		if len(t.rows) != before[name] {
			w.wrong("%s: a finished job wrote again", name)
		}
	}
}

// positions tells where every task is.
func positions(g *engine.Pipeline) string {
	s := g.Status()
	out := fmt.Sprintf("%s, %d restarts (%s), epochs %d complete, %d failed, last %d\n",
		s.Phase, s.Restarts, s.LastError, s.Epochs.Completed, s.Epochs.Failed, s.Epochs.Last)
	for _, t := range s.Tasks {
		out += fmt.Sprintf("  %s/%d: event time %v, idle %v, blocked %v, %d queued", t.Name, t.Index, t.Watermark.UnixMilli(), t.Idle, t.Blocked, t.Queued)
		for _, o := range t.Operators {
			out += fmt.Sprintf(", %s %d", o.Name, o.In)
		}
		out += "\n"
	}
	return out + bubbles()
}

// bubbles are the stacks of the goroutines in bubbles.
func bubbles() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var out []string
	for _, g := range strings.Split(string(buf), "\n\n") {
		head, _, _ := strings.Cut(g, "\n")
		if strings.Contains(head, "synctest bubble") && len(out) < 60 {
			out = append(out, g)
		}
	}
	return strings.Join(out, "\n\n")
}
