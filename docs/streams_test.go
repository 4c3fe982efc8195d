package docs

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
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
