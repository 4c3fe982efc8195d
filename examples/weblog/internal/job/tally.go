package job

import (
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/examples/weblog/internal/results"
	"github.com/weirline/weirline/state"
)

// Seen says that a line of an input was taken.
type Seen struct {
	From    int32
	At      int64
	Skipped bool // it doesn't count
}

func seen(r Read) Seen { return Seen{From: r.From, At: r.At, Skipped: !r.Valid} }

// tallier keeps a results.Tally of each input and reports it each minute of event time in which it changed, and at the end.
type tallier struct {
	tally state.Value[results.Tally]
	due   state.Value[bool] // a report is on its way
}

// Open declares the state.
func (t *tallier) Open(s *engine.Setup[int32]) error {
	t.tally = state.NewValue[results.Tally](s, "tally")
	t.due = state.NewValue[bool](s, "due")
	return nil
}

// Process counts a line.
func (t *tallier) Process(ctx *engine.Ctx[int32], s Seen, _ *engine.Out[results.Tally]) error {
	t.tally.Ref().Take(s.From, s.At, s.Skipped)
	due := t.due.Ref()
	if *due {
		return nil
	}
	*due = true
	at, ok := ctx.Time()
	if !ok {
		at = time.Unix(0, 0) // fires with the next step of the clock, or at the end
	}
	ctx.At(at.Truncate(time.Minute).Add(time.Minute))
	return nil
}

// OnTimer reports.
func (t *tallier) OnTimer(_ *engine.Ctx[int32], _ time.Time, out *engine.Out[results.Tally]) error {
	t.due.Set(false)
	out.Emit(*t.tally.Ref())
	return nil
}
