package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/store"
)

// more draws what is newer than the rest of the plan: other kinds of checkpoints, savepoints and a change of parallelism in
// the same process.
func (p *Plan) more(r *rand.Rand) {
	switch r.IntN(8) {
	case 0, 1, 2:
		p.cfg.Unaligned = true
		p.cfg.UnalignedAfter = time.Duration(r.IntN(3)*r.IntN(5)) * time.Millisecond
	case 3, 4:
		p.cfg.MaxConcurrent = 2 + r.IntN(2)
	case 5:
		p.drawLoose(r)
	}
	for i := range p.runs[:len(p.runs)-1] {
		run := &p.runs[i]
		if r.IntN(4) == 0 {
			run.rescaleAt = time.Duration(1+r.IntN(100)) * time.Millisecond
			run.rescaleTo = 1 + r.IntN(4)
		}
		if r.IntN(5) == 0 {
			run.saveAt = time.Duration(1+r.IntN(100)) * time.Millisecond
		}
	}
	if p.cfg.MaxConcurrent > 1 && r.IntN(2) == 0 {
		p.drawOverlap(r)
	}
	if p.cfg.Unaligned && r.IntN(3) == 0 {
		p.drawSkew(r)
	}
}

// drawOverlap makes epochs complete while the next one, whose transactions are prepared by then, is going to fail: these must
// ride with the one after it.
func (p *Plan) drawOverlap(r *rand.Rand) {
	for i := range p.runs[:len(p.runs)-1] {
		n, slow := 1+r.IntN(6), time.Duration(20+r.IntN(80))*time.Millisecond
		p.runs[i].mishaps = append(p.runs[i].mishaps, mishap{at: atPublish, nth: n, act: actDelay, delay: slow},
			mishap{at: atPublish, nth: n + 1, act: actFail})
	}
}

// drawSkew makes barriers overtake much, in tasks whose writers hold each of them up for a time of its own, so that each is cut
// at another event time; then the process dies, and the next one has another parallelism. Where no record is late, windows
// that stay for late ones tell whether they were emitted before.
func (p *Plan) drawSkew(r *rand.Rand) {
	p.cfg.UnalignedAfter, p.cfg.CheckpointTimeout, p.drains = 0, 10*time.Second, false
	p.spent[atWrite] = time.Duration(4+r.IntN(25)) * time.Millisecond
	for i := range p.runs[:len(p.runs)-1] {
		run := &p.runs[i]
		run.stopAt, run.stop = time.Duration(40+r.IntN(200))*time.Millisecond, stopCrash
		run.parallelism = 2 + (i+r.IntN(2))%3
	}
	for _, t := range p.tails {
		t.every = max(t.every, t.size/3+1) // each window takes time
		if p.exact && t.kind >= tailTimer {
			t.kind = max(t.kind, tailWindow)
			t.sink, t.late = sinkTx, 20+r.Int64N(100)
		}
	}
}

// drawLoose makes the plan one of checkpoints at least once, which two-phase sinks refuse.
func (p *Plan) drawLoose(r *rand.Rand) {
	p.cfg.AtLeastOnce = true
	for _, t := range p.tails {
		if t.kind != tailPlain {
			t.sink = sinkPlain
		} else if t.sink == sinkTx {
			t.sink = sinkPlain + sinkKind(r.IntN(3))
		}
	}
}

// judgeLoose demands of a tail with state that no record is lost. Some may count twice, and rows may come again.
func (w *world) judgeLoose(t *tailSpec, recs []Rec) {
	type place struct {
		key   int
		start int64
	}
	want, got := map[place]int64{}, map[place]int64{}
	for _, r := range recs {
		if t.kind == tailSum {
			want[place{r.Key, 0}]++
			continue
		}
		for _, start := range t.windows(r.At) {
			want[place{r.Key, start}]++
		}
	}
	if late := w.tables[t.name+".late"]; late != nil {
		times := map[int64]int64{}
		for _, r := range recs {
			times[r.ID] = r.At
		}
		for _, r := range late.rows { // its Start isn't that of a sliding window
			for _, start := range t.windows(times[r.ID]) {
				got[place{r.Key, start}] += r.N
			}
		}
	}
	for _, r := range w.tables[t.name].rows {
		at := place{r.Key, r.Start}
		if t.kind == tailSum {
			got[at] = max(got[at], r.N) // each row has the whole count
		} else {
			got[at] += r.N
		}
	}
	for at, n := range want {
		if got[at] < n {
			w.wrong("%s: key %d from %d: %d records, at least %d were expected", t.name, at.key, at.start, got[at], n)
		}
	}
	for at, n := range got {
		if want[at] == 0 {
			w.wrong("%s: key %d from %d: %d records are there and shouldn't be", t.name, at.key, at.start, n)
		}
	}
}

// saves opens the location of a savepoint on the disk of the process.
func (i *incarnation) saves(location string, o store.Options) (store.Store, error) {
	o.FS = i.disk
	return store.Open(location, o)
}

// upkeep changes the parallelism and takes savepoints as the plan says, until ctx ends.
func (i *incarnation) upkeep(ctx context.Context, g *engine.Pipeline, n int) {
	if at := i.run.rescaleAt; at > 0 {
		go func() {
			if i.wait(ctx, at) == nil {
				_ = g.Rescale(ctx, i.run.rescaleTo) // the job may end before, or fail
			}
		}()
	}
	if at := i.run.saveAt; at > 0 {
		go func() {
			if i.wait(ctx, at) == nil {
				i.save(ctx, g, fmt.Sprint("/save", n))
			}
		}()
	}
}

// save takes a savepoint. One that is said to be durable must be there and be whole.
func (i *incarnation) save(ctx context.Context, g *engine.Pipeline, location string) {
	epoch, err := g.Savepoint(ctx, location)
	if err != nil || i.isDead() {
		return
	}
	d, err := store.Open(location, store.Options{Job: "sim", FS: i.disk, ReadOnly: true})
	if err == nil {
		var r *store.Record
		if r, err = d.Latest(); err == nil && numberOf(r) != epoch {
			err = fmt.Errorf("it holds epoch %d", numberOf(r))
		}
		err = errors.Join(err, d.Close())
	}
	if err != nil && !i.isDead() && !errors.Is(err, errPlanned) {
		i.w.wrong("savepoint %d at %s: %v", epoch, location, err)
	}
}
