package sim

import (
	"math/rand/v2"
	"time"

	"github.com/weirline/weirline/engine"
)

// Plan is everything that a seed stands for.
type Plan struct {
	Seed    uint64
	sources []*sourceSpec
	tails   []*tailSpec
	cfg     engine.Config // without name, store and parallelism
	runs    []runSpec
	poison  bool                    // bad records occur
	exact   bool                    // event time never makes a record late: windows and timers have one right result
	drains  bool                    // a run may be drained
	spent   map[point]time.Duration // work at a point takes up to so long
}

// sourceSpec is one source and the operators right behind it.
type sourceSpec struct {
	name   string
	parts  []*part
	hybrid bool
	spread bool // all splits are dealt at once
	rounds int  // calls of Discover until all is found
	pace   time.Duration
	burst  int
	width  int // parallelism of the source; 0 = the job's
	marks  engine.Watermarks
	ops    []opSpec
}

// part is a split's records, and in a hybrid how many of them the first stage has.
type part struct {
	name  string
	recs  []Rec
	cut   int
	quiet int // the record before which the split is silent for a while; -1 = none
}

// tailSpec is what happens to some of the sources' records.
type tailSpec struct {
	name    string
	sources []int
	ops     []opSpec
	kind    tailKind
	sink    sinkKind
	size    int64 // of windows and buckets, in milliseconds
	every   int64 // from one window to the next, if they overlap
	late    int64 // allowed lateness
	maps    bool  // accumulators hold maps
}

type tailKind int

const (
	tailPlain  tailKind = iota // records as they are
	tailSum                    // running count and sum by key
	tailTimer                  // a sum for each key and stretch of time, by timers
	tailWindow                 // the same by windows
	tailSlide                  // by windows that overlap
)

type sinkKind int

const (
	sinkTx    sinkKind = iota // two-phase
	sinkPlain                 // at least once
	sinkIdem                  // a row for each id
	sinkAsync                 // the same, in the background
)

// runSpec is one life of the process.
type runSpec struct {
	parallelism int
	mishaps     []mishap
	disk        int           // the operation of the disk that fails; 0 = none
	applied     bool          // though it took effect
	dies        bool          // the process dies of it
	power       bool          // a crash loses what wasn't synced
	stopAt      time.Duration // since the start; 0 = the run isn't stopped
	stop        stopKind
	asks        time.Duration // how often a checkpoint is asked for; 0 = never
	rescaleAt   time.Duration // since the start; 0 = never
	rescaleTo   int
	saveAt      time.Duration // when a savepoint is taken; 0 = never
}

type stopKind int

const (
	stopSuspend stopKind = iota
	stopDrain
	stopCrash
)

// NewPlan draws a plan from a seed.
func NewPlan(seed uint64) *Plan {
	r := rand.New(rand.NewPCG(seed, 1))
	p := &Plan{Seed: seed, exact: r.IntN(4) > 0, poison: r.IntN(3) == 0}
	total := 0
	for i := range 1 + r.IntN(3) {
		s := p.source(r, i)
		p.sources = append(p.sources, s)
		for _, x := range s.parts {
			total += len(x.recs)
		}
	}
	for i := range 1 + r.IntN(3) {
		p.tails = append(p.tails, p.tail(r, i))
	}
	p.settings(r)
	p.drawRuns(r, total)
	p.more(r)
	return p
}

func (p *Plan) source(r *rand.Rand, i int) *sourceSpec {
	s := &sourceSpec{
		name: string(rune('a' + i)), hybrid: r.IntN(3) == 0, spread: r.IntN(3) == 0, rounds: 1,
		burst: 1 + r.IntN(8), ops: p.ops(r, 3, "src"+string(rune('a'+i))),
	}
	s.pace = time.Duration(r.IntN(4)) * time.Millisecond
	if r.IntN(4) == 0 {
		s.width = 1 + r.IntN(3)
	}
	spread := int64(r.IntN(30))
	s.marks.Delay = time.Duration(spread) * time.Millisecond
	if !p.exact {
		s.marks.Delay /= 2
		s.rounds = 1 + r.IntN(3)
		if r.IntN(2) == 0 {
			s.marks.Idle = time.Duration(5+r.IntN(30)) * time.Millisecond
		}
	}
	if r.IntN(5) == 0 {
		s.marks.Align, s.marks.MaxDrift = "group", 40*time.Millisecond
		s.pace = time.Duration(10+r.IntN(30)) * time.Millisecond
	}
	step := 1 + int64(r.IntN(12))
	for k := range r.IntN(5) {
		n := r.IntN(40)
		x := &part{name: s.name + string(rune('0'+k)), cut: n, quiet: -1}
		for j := range n {
			at := base + int64(j)*step - min(int64(j)*step, r.Int64N(spread+1))
			x.recs = append(x.recs, Rec{ID: int64(i+1)*1e12 + int64(k)*1e6 + int64(j), Key: r.IntN(6), At: at, Val: r.Int64N(1000)})
		}
		if s.hybrid {
			x.cut = r.IntN(n + 1)
		}
		if s.marks.Idle > 0 && n > 0 && r.IntN(2) == 0 {
			x.quiet = r.IntN(n)
		}
		s.parts = append(s.parts, x)
	}
	return s
}

// base is the event time of the first records, in milliseconds.
const base = 1_000_000

func (p *Plan) tail(r *rand.Rand, i int) *tailSpec {
	t := &tailSpec{
		name: "t" + string(rune('0'+i)), kind: tailKind(r.IntN(5)), sink: sinkTx,
		size: 10 + r.Int64N(60), maps: r.IntN(3) == 0,
	}
	if t.kind == tailSlide && !p.exact {
		t.kind = tailWindow // which of its windows a late record misses depends on when it comes
	}
	if t.every = t.size; t.kind == tailSlide {
		t.every = 1 + r.Int64N(t.size)
	}
	t.ops = p.ops(r, 2, t.name)
	for k := range p.sources {
		if r.IntN(3) > 0 || k == len(p.sources)-1 && len(t.sources) == 0 {
			t.sources = append(t.sources, k)
		}
	}
	if t.kind >= tailWindow && p.exact && r.IntN(3) == 0 {
		t.late = r.Int64N(60)
	}
	if t.kind == tailPlain || t.kind != tailSum && p.exact {
		t.sink = sinkKind(max(0, r.IntN(6)-2))
	}
	return t
}

func (p *Plan) ops(r *rand.Rand, most int, name string) []opSpec {
	var out []opSpec
	for i := range r.IntN(most + 1) {
		k := opKind(r.IntN(int(opKinds)))
		if k == opTry && !p.poison {
			k = opMap
		}
		out = append(out, opSpec{kind: k, name: name + "." + string(rune('0'+i)), n: 2 + r.Int64N(5), width: r.IntN(4)})
	}
	return out
}

func (p *Plan) settings(r *rand.Rand) {
	ms := func(lo, n int) time.Duration { return time.Duration(lo+r.IntN(n)) * time.Millisecond }
	p.cfg = engine.Config{
		KeyGroups: 4 + r.IntN(12), CheckpointEvery: ms(2, 20), CheckpointTimeout: ms(50, 400),
		TolerateFailures: []int{-1, 1, 3, 8}[r.IntN(4)], Retain: 1 + r.IntN(3), Uncommitted: 1 + r.IntN(2),
		BatchSize: 1 + r.IntN(12), QueueBatches: 1 + r.IntN(4), Linger: ms(0, 3), CommitWait: ms(5, 300),
		Restart: engine.Restart{Attempts: 1000, Delay: -1, MaxDelay: time.Millisecond},
	}
	if r.IntN(6) == 0 {
		p.cfg.CheckpointEvery = -1
	}
	if r.IntN(4) == 0 {
		p.cfg.MinPause = ms(1, 20)
	}
	if p.poison {
		p.cfg.Poison = engine.Poison{Policy: engine.PoisonSkip, Budget: -1}
		if r.IntN(2) == 0 {
			p.cfg.Poison.Policy = engine.PoisonDeadLetter
		}
	}
	p.spent = map[point]time.Duration{}
	for _, at := range []point{atSend, atWrite, atCommit, atPrepare, atPublish, atBlob, atRecord, atRecorded, atDiscover} {
		if r.IntN(6) == 0 {
			p.spent[at] = time.Duration(1+r.IntN(20)) * 100 * time.Microsecond
		}
	}
	if p.spent[atRecord] > 0 {
		p.spent[atRecord] /= 10
	}
}

// mayDrain says whether windows may fire before their time: their rows then have parts of sums, which must be added up.
func (p *Plan) mayDrain() bool {
	for _, t := range p.tails {
		if t.kind >= tailTimer && t.sink != sinkTx {
			return false
		}
	}
	return true
}

func (p *Plan) drawRuns(r *rand.Rand, total int) {
	n := 2 + r.IntN(5)
	for range n {
		run := runSpec{parallelism: 1 + r.IntN(4), power: r.IntN(2) == 0}
		for range r.IntN(5) {
			run.mishaps = append(run.mishaps, drawMishap(r, total))
		}
		switch r.IntN(5) {
		case 0:
			run.disk, run.applied, run.dies = 1+r.IntN(150), r.IntN(2) == 0, r.IntN(3) > 0
		case 1, 2, 3:
			run.stopAt = time.Duration(1+r.IntN(150)) * time.Millisecond
			run.stop = stopKind(r.IntN(3))
			if run.stop == stopDrain && !p.mayDrain() {
				run.stop = stopSuspend
			}
			p.drains = p.drains || run.stop == stopDrain
		}
		if r.IntN(5) == 0 {
			run.asks = time.Duration(1+r.IntN(5)) * time.Millisecond
		}
		p.runs = append(p.runs, run)
	}
	p.runs = append(p.runs, runSpec{parallelism: 1 + r.IntN(4)})
}
