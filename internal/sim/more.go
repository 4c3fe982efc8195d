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
	rows := w.tables[t.name].rows
	if late := w.tables[t.name+".late"]; late != nil {
		rows = append(rows[:len(rows):len(rows)], late.rows...)
	}
	for _, r := range rows {
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
