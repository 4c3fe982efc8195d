package engine_test

import (
	"context"
	"testing"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/sink"
)

// named notes for whom a committer was made.
type named struct {
	sink.TwoPhase[event]
	task sink.Task
}

func (n *named) Committer(ctx context.Context, t sink.Task) (sink.Committer, error) {
	n.task = t
	return n.TwoPhase.Committer(ctx, t)
}

// TestCommitterForTools gets committers without a run: by name, by a former name, and none where there is none.
func TestCommitterForTools(t *testing.T) {
	to := &named{TwoPhase: enginetest.NewTx[event]()}
	p := engine.New(engine.Config{Name: "tools", Dir: t.TempDir(), Renamed: map[string]string{"out": "sums"}})
	in := engine.From(p, "in", gen.Source[event]{Make: makeEvent, Count: 1})
	engine.ToTx(in, "out", to)
	engine.To(in, "plain", &enginetest.Collect[event]{})
	for name, has := range map[string]bool{"out": true, "sums": true, "in": false, "plain": false, "nobody": false} {
		to.task = sink.Task{}
		c, err := p.Committer(t.Context(), sink.Task{Job: "tools", Operator: name})
		if err != nil || (c != nil) != has || has && (to.task.Operator != "out" || to.task.Job != "tools") {
			t.Errorf("%s: %v, %v for %+v", name, c, err, to.task)
		}
		if c != nil {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
