package sim

import (
	"fmt"
	"maps"
	"slices"

	"github.com/weirline/weirline/engine"
)

// expected is what one goroutine makes of the input: the records that reach a tail, and those that are poison on the way.
func (p *Plan) expected(t *tailSpec) (recs, bad []Rec) {
	for _, i := range t.sources {
		out, b := p.behind(i)
		recs, bad = append(recs, out...), append(bad, b...)
	}
	out, b := apply(recs, t.ops)
	return out, append(bad, b...)
}

// behind is what comes out of a source and its operators.
func (p *Plan) behind(i int) (recs, bad []Rec) {
	s := p.sources[i]
	for _, x := range s.parts {
		for _, r := range x.recs {
			if p.poison && unreadable(r) {
				bad = append(bad, r)
			} else {
				recs = append(recs, r)
			}
		}
	}
	out, more := apply(recs, s.ops)
	return out, append(bad, more...)
}

// judge compares the destinations with the reference.
func (w *world) judge() {
	for _, t := range w.plan.tails {
		recs, _ := w.plan.expected(t)
		tab := w.tables[t.name]
		tab.judgeLeft()
		if p := w.plan; p.cfg.AtLeastOnce && t.kind != tailPlain {
			w.judgeLoose(t, recs)
			continue
		}
		switch t.kind {
		case tailPlain:
			want := make([]Row, 0, len(recs))
			for _, r := range recs {
				want = append(want, t.row(r))
			}
			tab.compare(t.sink, want)
		case tailSum:
			tab.judgeSums(recs)
		case tailTimer, tailWindow, tailSlide:
			w.judgeTimes(t, recs)
		}
	}
	w.judgeDead()
}

// judgeLeft demands that nothing is left unfinished.
func (t *table) judgeLeft() {
	for token := range t.prepared {
		t.w.wrong("%s: transaction %s is left unfinished", t.name, token)
	}
}

func count(rows []Row) map[Row]int {
	n := map[Row]int{}
	for _, r := range rows {
		n[r]++
	}
	return n
}

// compare demands the rows, as the kind of sink promises.
func (t *table) compare(k sinkKind, want []Row) {
	got := t.rows
	if k == sinkIdem || k == sinkAsync {
		got = slices.Collect(maps.Values(t.byName))
	}
	has, should := count(got), count(want)
	for r, n := range should {
		if has[r] < n || k != sinkPlain && has[r] > n {
			t.w.wrong("%s: row %+v is there %d times, not %d", t.name, r, has[r], n)
		}
	}
	for r, n := range has {
		if should[r] == 0 {
			t.w.wrong("%s: row %+v is there %d times and shouldn't be", t.name, r, n)
		}
	}
}

// judgeSums demands of each key: every record once, and running counts and sums without a gap, in order.
func (t *table) judgeSums(recs []Rec) {
	vals := map[Row]int64{} // by ID and key
	left := map[Row]int{}
	for _, r := range recs {
		k := Row{ID: r.ID, Key: r.Key}
		vals[k] = r.Val
		left[k]++
	}
	at := map[int]flat{}
	for _, r := range t.rows {
		k := Row{ID: r.ID, Key: r.Key}
		if left[k]--; left[k] < 0 {
			t.w.wrong("%s: record %d counts too often", t.name, r.ID)
		}
		a := at[r.Key]
		a.N++
		a.Sum += vals[k]
		if a.N != r.N || a.Sum != r.Sum {
			t.w.wrong("%s: key %d has %d records with sum %d, the row says %+v", t.name, r.Key, a.N, a.Sum, r)
			return
		}
		at[r.Key] = a
	}
	for k, n := range left {
		if n > 0 {
			t.w.wrong("%s: record %d of key %d is missing", t.name, k.ID, k.Key)
		}
	}
}

// judgeTimes demands the right window rows; where records may be late, that what windows hold and what was late make up
// the input.
func (w *world) judgeTimes(t *tailSpec, recs []Rec) {
	sums := map[Row]flat{}
	add := func(to map[Row]flat, r Row) {
		k := Row{Key: r.Key, Start: r.Start}
		a := to[k]
		to[k] = flat{a.N + r.N, a.Sum + r.Sum}
	}
	for _, r := range recs {
		for _, start := range t.windows(r.At) {
			row := t.row(r)
			row.Start = start
			add(sums, row)
		}
	}
	tab, late := w.tables[t.name], w.tables[t.name+".late"]
	if late != nil {
		late.judgeLeft()
	}
	if w.plan.exact && late != nil && len(late.rows) > 0 {
		w.wrong("%s: %d records came late, the first is %+v", t.name, len(late.rows), late.rows[0])
	}
	if w.plan.exact && !w.plan.drains {
		var want []Row
		for k, a := range sums {
			want = append(want, Row{Key: k.Key, Start: k.Start, N: a.N, Sum: a.Sum})
		}
		tab.compare(t.sink, want)
		return
	}
	tab.judgeOnce(t)
	got := map[Row]flat{}
	for _, r := range tab.rows {
		add(got, r)
	}
	if late != nil {
		for _, r := range late.rows {
			add(got, r)
		}
	}
	for k, a := range sums {
		if got[k] != a {
			w.wrong("%s: key %d from %d: windows and late records hold %+v, the input has %+v", t.name, k.Key, k.Start, got[k], a)
		}
	}
	for k, a := range got {
		if _, ok := sums[k]; !ok {
			w.wrong("%s: key %d from %d: %+v is there and shouldn't be", t.name, k.Key, k.Start, a)
		}
	}
}

// judgeOnce demands that a window that takes no late records is emitted once: what comes for it afterwards is late, also
// after a restart and at another parallelism. A drain emits windows before their time, and timers take whatever comes.
func (t *table) judgeOnce(of *tailSpec) {
	if of.kind != tailWindow || of.late > 0 || of.sink != sinkTx || t.w.plan.drains {
		return
	}
	seen := map[Row]bool{}
	for _, r := range t.rows {
		k := Row{Key: r.Key, Start: r.Start}
		if seen[k] {
			t.w.wrong("%s: the window of key %d from %d is emitted again, with %+v", t.name, r.Key, r.Start, r)
		}
		seen[k] = true
	}
}

// judgeDead demands every bad record among the dead letters, and no other.
func (w *world) judgeDead() {
	if w.plan.cfg.Poison.Policy != engine.PoisonDeadLetter {
		return
	}
	should := map[string]bool{}
	for i := range w.plan.sources {
		_, bad := w.plan.behind(i)
		for _, r := range bad {
			should[r.String()] = true
		}
	}
	for _, t := range w.plan.tails {
		_, bad := w.plan.expected(t)
		for _, r := range bad {
			should[r.String()] = true
		}
	}
	for r := range should {
		if w.dead.seen[r] == 0 {
			w.wrong("dead letters: %s is missing", r)
		}
	}
	for r := range w.dead.seen {
		if !should[r] {
			w.wrong("dead letters: %s shouldn't be there", r)
		}
	}
}

// String describes the plan for a failure's report.
func (p *Plan) String() string {
	out := fmt.Sprintf("seed %d, exact %v, checkpoints every %v, unaligned %v after %v, %d at once, at least once %v\n", p.Seed, p.exact,
		p.cfg.CheckpointEvery, p.cfg.Unaligned, p.cfg.UnalignedAfter, max(1, p.cfg.MaxConcurrent), p.cfg.AtLeastOnce)
	for _, s := range p.sources {
		out += fmt.Sprintf("  source %s: hybrid %v, spread %v, rounds %d, width %d, pace %v, marks %+v, ops %v, splits",
			s.name, s.hybrid, s.spread, s.rounds, s.width, s.pace, s.marks, s.ops)
		for _, x := range s.parts {
			out += fmt.Sprintf(" %s:%d/%d", x.name, x.cut, len(x.recs))
		}
		out += "\n"
	}
	for _, t := range p.tails {
		out += fmt.Sprintf("  tail %+v\n", *t)
	}
	for i, r := range p.runs {
		out += fmt.Sprintf("  run %d: %+v\n", i, r)
	}
	return out
}
