package docs

import (
	"cmp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/operators"
	"github.com/weirline/weirline/sink/async"
	"github.com/weirline/weirline/state"
)

// Hit is a page seen.
type Hit struct {
	Page string
	At   time.Time
}

// Hits is how often a page was seen until End.
type Hits struct {
	Page string
	End  time.Time
	N    int64
}

// PerMinute counts hits by page and minute.
func PerMinute(hits engine.Keyed[string, Hit]) engine.Stream[Hits] {
	w := engine.Window(hits, "per-minute", engine.Tumbling{Size: time.Minute})
	return engine.Aggregate(w,
		func(n *int64, _ Hit) { *n++ },
		func(page string, span engine.Span, n *int64) Hits { return Hits{page, span.End, *n} })
}

// LastTenMinutes counts the hits of the last ten minutes by page, every minute.
func LastTenMinutes(hits engine.Keyed[string, Hit]) engine.Stream[Hits] {
	w := engine.Slide(hits, "last-ten-minutes", engine.Sliding{Size: 10 * time.Minute, Every: time.Minute})
	return engine.AggregateSliding(w,
		func(n *int64, _ Hit) { *n++ },
		func(into, from *int64) { *into += *from },
		func(page string, span engine.Span, n *int64) Hits { return Hits{page, span.End, *n} })
}

// ByUser keeps each user's events in order, also when the job goes on at another parallelism.
func ByUser(events engine.Stream[Event], out async.Sink[Event]) {
	user := func(e Event) string { return e.User }
	out.Key = user
	engine.ToKeyed(engine.KeyBy(events, user), "out", out)
}

// Limit says how many hits of a page are let through.
type Limit struct {
	Page string
	Hits int64
}

// Limiter lets so many hits of each page through.
type Limiter struct {
	seen   state.Value[int64]
	limits *state.Broadcast[string, int64]
}

// Open declares a count for each page, and the limits that every task knows.
func (l *Limiter) Open(s *engine.Setup[string]) error {
	l.seen = state.NewValue[int64](s, "seen")
	l.limits = state.NewBroadcast[string, int64](s, "limits")
	return nil
}

// ProcessBroadcast takes a limit in; every task is told.
func (l *Limiter) ProcessBroadcast(_ *engine.Moment, v Limit, _ *engine.Out[Hit]) error {
	l.limits.Put(v.Page, v.Hits)
	return nil
}

// Process lets a hit through, or not.
func (l *Limiter) Process(ctx *engine.Ctx[string], h Hit, out *engine.Out[Hit]) error {
	n := l.seen.Ref()
	if most, ok := l.limits.Get(ctx.Key()); !ok || *n < most {
		*n++
		out.Emit(h)
	}
	return nil
}

// Limited joins hits and limits.
func Limited(hits engine.Keyed[string, Hit], limits engine.Stream[Limit]) engine.Stream[Hit] {
	return engine.Connect(hits, limits, "limit", func() *Limiter { return &Limiter{} })
}

// Reply is an answer to a hit: somebody bought.
type Reply struct {
	Page string
	At   time.Time
}

// Bought is a hit and the reply to it; without a reply, After is negative.
type Bought struct {
	Page  string
	After time.Duration
}

func replyPage(r Reply) string { return r.Page }

// PerHour joins the hits and replies of each hour, and gives hits without a reply too.
func PerHour(hits engine.Stream[Hit], replies engine.Stream[Reply]) engine.Stream[Bought] {
	joined, _ := operators.WindowJoin("per-hour", operators.By(hits, pageOf), operators.By(replies, replyPage), engine.Tumbling{Size: time.Hour},
		func(g operators.Group[string, Hit, Reply], emit func(Bought)) {
			for h, r := range g.LeftOuter() {
				b := Bought{g.Key, -1}
				if r != nil {
					b.After = r.At.Sub(h.At)
				}
				emit(b)
			}
		})
	return joined
}

// Soon joins each hit with the replies of the next five minutes.
func Soon(hits engine.Stream[Hit], replies engine.Stream[Reply]) engine.Stream[Bought] {
	joined, _ := operators.IntervalJoin("soon", operators.By(hits, pageOf), operators.By(replies, replyPage), operators.Interval{Upper: 5 * time.Minute},
		func(h Hit, r Reply) Bought { return Bought{h.Page, r.At.Sub(h.At)} })
	return joined
}

// Sorts gives hits and what isn't one as two streams.
func Sorts(lines engine.Stream[string]) (engine.Stream[Hit], engine.Stream[string]) {
	read := engine.Map(lines, "read", func(line string) operators.Either[Hit, string] {
		page, at, ok := strings.Cut(line, " ")
		when, err := time.Parse(time.RFC3339, at)
		if !ok || err != nil {
			return operators.Either[Hit, string]{Right: line, IsRight: true}
		}
		return operators.Either[Hit, string]{Left: Hit{page, when}}
	})
	return operators.Split("sorts", read)
}

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// hitsOf makes a keyed stream of hits at the given seconds after noon.
func hitsOf(p *engine.Pipeline, name, page string, seconds ...int) engine.Stream[Hit] {
	var hits []Hit
	for _, s := range seconds {
		hits = append(hits, Hit{Page: page, At: noon.Add(time.Duration(s) * time.Second)})
	}
	src := &enginetest.Script[Hit]{Splits: map[string][]enginetest.Step[Hit]{name: enginetest.Recs(hits...)}}
	return engine.From(p, name, src).EventTime(func(h Hit) time.Time { return h.At }, engine.Watermarks{Delay: time.Minute})
}

func pageOf(h Hit) string { return h.Page }

// hitsFrom runs a job over some hits and returns what it makes of them, by time.
func hitsFrom(t *testing.T, build func(engine.Keyed[string, Hit]) engine.Stream[Hits]) []Hits {
	t.Helper()
	var out enginetest.Collect[Hits]
	enginetest.Run(t, engine.Config{Name: "hits"}, func(p *engine.Pipeline) {
		engine.To(build(engine.KeyBy(hitsOf(p, "log", "/", 10, 70, 20, 650), pageOf)), "out", &out)
	})
	return slices.SortedFunc(slices.Values(out.Rows()), func(a, b Hits) int { return cmp.Compare(a.End.Unix(), b.End.Unix()) })
}

func TestWindowExamples(t *testing.T) {
	got := hitsFrom(t, PerMinute)
	want := []Hits{{"/", noon.Add(time.Minute), 2}, {"/", noon.Add(2 * time.Minute), 1}, {"/", noon.Add(11 * time.Minute), 1}}
	if !slices.Equal(got, want) {
		t.Errorf("per minute: %v", got)
	}
	got = hitsFrom(t, LastTenMinutes)
	if len(got) != 20 || got[0] != want[0] || got[9].N != 3 || got[10].N != 2 || got[11].N != 1 {
		t.Errorf("last ten minutes: %v", got)
	}
}

func TestLimiterExample(t *testing.T) {
	var out enginetest.Collect[Hit]
	enginetest.Run(t, engine.Config{Name: "limits"}, func(p *engine.Pipeline) {
		limits := &enginetest.Script[Limit]{Splits: map[string][]enginetest.Step[Limit]{"limits": enginetest.Recs(Limit{"/", 2})}}
		late := &enginetest.Script[Hit]{Splits: map[string][]enginetest.Step[Hit]{
			"log": append([]enginetest.Step[Hit]{enginetest.Wait[Hit](200 * time.Millisecond)}, enginetest.Recs(Hit{"/", noon}, Hit{"/", noon}, Hit{"/", noon})...),
		}}
		engine.To(Limited(engine.KeyBy(engine.From(p, "log", late), pageOf), engine.From(p, "limits", limits).Parallel(1)), "out", &out)
	})
	if n := len(out.Rows()); n != 2 {
		t.Errorf("%d hits came through, want 2", n)
	}
}

func TestJoinExamples(t *testing.T) {
	for name, c := range map[string]struct {
		join func(engine.Stream[Hit], engine.Stream[Reply]) engine.Stream[Bought]
		want []Bought
	}{
		"per hour": {PerHour, []Bought{{"/", -1}, {"/", 20 * time.Second}, {"/", 10 * time.Minute}}},
		"soon":     {Soon, []Bought{{"/", 20 * time.Second}}},
	} {
		var out enginetest.Collect[Bought]
		enginetest.Run(t, engine.Config{Name: "joins"}, func(p *engine.Pipeline) {
			src := &enginetest.Script[Reply]{Splits: map[string][]enginetest.Step[Reply]{"replies": enginetest.Recs(Reply{"/", noon.Add(10 * time.Minute)})}}
			replies := engine.From(p, "replies", src).EventTime(func(r Reply) time.Time { return r.At }, engine.Watermarks{Delay: time.Minute})
			engine.To(c.join(hitsOf(p, "log", "/", 0, 580, 3600), replies), "out", &out)
		})
		got := slices.SortedFunc(slices.Values(out.Rows()), func(a, b Bought) int { return cmp.Compare(a.After, b.After) })
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestSplitExample(t *testing.T) {
	var hits enginetest.Collect[Hit]
	var rest enginetest.Collect[string]
	enginetest.Run(t, engine.Config{Name: "split"}, func(p *engine.Pipeline) {
		src := &enginetest.Script[string]{Splits: map[string][]enginetest.Step[string]{"lines": enginetest.Recs("/ 2026-01-01T12:00:00Z", "nonsense")}}
		h, r := Sorts(engine.From(p, "lines", src))
		engine.To(h, "hits", &hits)
		engine.To(r, "rest", &rest)
	})
	if !slices.Equal(hits.Rows(), []Hit{{"/", noon}}) || !slices.Equal(rest.Rows(), []string{"nonsense"}) {
		t.Errorf("hits %v, rest %v", hits.Rows(), rest.Rows())
	}
}
