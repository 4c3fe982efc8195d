package page

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/examples/weblog/internal/results"
)

const (
	shownMinutes = 120 // in the charts
	pageMinutes  = 10  // in the list of pages
	shownPages   = 12
)

// state is what the page asks for. Times are milliseconds since 1970 UTC.
type state struct {
	Now         int64    `json:"now"`
	Speed       float64  `json:"speed"`
	Minutes     []minute `json:"minutes"`
	Pages       []pageOf `json:"pages"`
	PageMinutes int      `json:"pageMinutes"`
	Rate        float64  `json:"rate"` // records a second, of late
	Job         job      `json:"job"`
	Inputs      []input  `json:"inputs"`
}

type minute struct {
	T  int64 `json:"t"`
	PV int64 `json:"pv"`
	UV int64 `json:"uv"`
}

type pageOf struct {
	Page string `json:"page"`
	PV   int64  `json:"pv"`
}

type job struct {
	Phase       string  `json:"phase"`
	Parallelism int     `json:"parallelism"`
	Restarts    int64   `json:"restarts"`
	Error       string  `json:"error"`
	Up          float64 `json:"up"` // seconds
	Records     int64   `json:"records"`
	Late        int64   `json:"late"`
	Watermark   int64   `json:"watermark"` // 0 = none yet
	Epoch       uint64  `json:"epoch"`
	EpochAt     int64   `json:"epochAt"`
	Epochs      int64   `json:"epochs"`
	Failed      int64   `json:"failed"`
	Took        float64 `json:"took"` // milliseconds
	Bytes       int64   `json:"bytes"`
}

type input struct {
	From    string `json:"from"`
	Lines   int64  `json:"lines"`
	Next    int64  `json:"next"` // -1 = has no offsets
	Skipped int64  `json:"skipped"`
	Missing int64  `json:"missing"`
	Doubled int64  `json:"doubled"`
}

func (h *handler) collect(ctx context.Context) (state, error) {
	s := state{Now: time.Now().UnixMilli(), Speed: h.Speed, Minutes: []minute{}, Pages: []pageOf{}, Inputs: []input{}}
	rows, err := h.DB.Newest(ctx, shownMinutes)
	if err != nil {
		return s, err
	}
	for _, r := range rows {
		s.Minutes = append(s.Minutes, minute{T: r.Minute * 1000, PV: r.Views, UV: r.Visitors})
	}
	if err := h.busiest(ctx, &s, rows); err != nil {
		return s, err
	}
	tallies, err := h.DB.Tallies(ctx)
	if err != nil {
		return s, err
	}
	late := int64(0)
	for _, t := range tallies {
		in := input{Lines: t.Lines, Next: t.Next, Skipped: t.Skipped, Missing: t.Missing, Doubled: t.Doubled}
		switch t.From {
		case results.Late:
			late = t.Lines
			continue
		case results.Files:
			in.From, in.Next = "files", -1
		default:
			in.From = "partition " + strconv.Itoa(int(t.From))
		}
		s.Inputs = append(s.Inputs, in)
	}
	s.Job = jobOf(h.Status())
	s.Job.Late = late
	s.Rate = h.rate(s.Job, time.Now())
	return s, nil
}

// sample is how many records had been read at a time.
type sample struct {
	at      time.Time
	records int64
}

// rate is the throughput since the newest sample that is at least a second old; since the start, for the first look. The
// count begins anew when the job restarts.
func (h *handler) rate(j job, now time.Time) float64 {
	for len(h.samples) > 1 && now.Sub(h.samples[1].at) >= time.Second {
		h.samples = h.samples[1:]
	}
	if n := len(h.samples); n > 0 && j.Records < h.samples[n-1].records {
		h.samples = nil
	}
	first := sample{at: now.Add(-time.Duration(j.Up * float64(time.Second)))}
	if len(h.samples) > 0 {
		first = h.samples[0]
	}
	h.samples = append(h.samples, sample{now, j.Records})
	passed := now.Sub(first.at).Seconds()
	if passed <= 0 {
		return 0
	}
	return float64(j.Records-first.records) / passed
}

// busiest sums the pages of the newest minutes up.
func (h *handler) busiest(ctx context.Context, s *state, rows []results.Row) error {
	sum := map[string]int64{}
	newest := rows[max(0, len(rows)-pageMinutes):]
	for _, m := range newest {
		all, err := h.DB.Minute(ctx, m.Minute)
		if err != nil {
			return err
		}
		for _, r := range all {
			if r.Page != results.AllPages {
				sum[r.Page] += r.Views
			}
		}
	}
	for page, views := range sum {
		s.Pages = append(s.Pages, pageOf{Page: page, PV: views})
	}
	slices.SortFunc(s.Pages, func(a, b pageOf) int { return cmp.Or(cmp.Compare(b.PV, a.PV), cmp.Compare(a.Page, b.Page)) })
	s.Pages = s.Pages[:min(len(s.Pages), shownPages)]
	s.PageMinutes = len(newest)
	return nil
}

func jobOf(st engine.Status) job {
	j := job{
		Phase: st.Phase, Parallelism: st.Parallelism, Restarts: st.Restarts, Error: st.LastError,
		Epoch: st.Epochs.Last, Epochs: st.Epochs.Completed, Failed: st.Epochs.Failed, Bytes: st.Epochs.LastBytes,
		Took: float64(st.Epochs.LastDuration) / float64(time.Millisecond),
	}
	if !st.Began.IsZero() {
		j.Up = time.Since(st.Began).Seconds()
	}
	if !st.Epochs.LastAt.IsZero() {
		j.EpochAt = st.Epochs.LastAt.UnixMilli()
	}
	for _, t := range st.Tasks {
		if at := t.Watermark.UnixMilli(); !t.Watermark.IsZero() && (j.Watermark == 0 || at < j.Watermark) {
			j.Watermark = at
		}
		for _, o := range t.Operators {
			if o.Name == "log" {
				j.Records += o.In
			}
		}
	}
	return j
}
