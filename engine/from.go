package engine

import (
	"context"
	"fmt"

	"github.com/weirline/weirline/internal/splits"
	"github.com/weirline/weirline/source"
)

// From reads a source. Its name is the address of the positions in the state.
func From[T any, S source.Split](p *Pipeline, name string, src source.Source[T, S]) Stream[T] {
	v := &vertex{canPoison: true}
	p.add(name, "source", nil, v)
	borrower, ok := source.As[source.Borrower](src)
	v.borrowed = ok && borrower.Borrowed()
	end, knows := source.As[source.Bounded](src)
	again, says := source.As[source.Replayable](src)
	if c, ok := source.As[source.Preflight](src); ok {
		v.check = append(v.check, c.Preflight)
	}
	v.source = &sourceVertex{bounded: !knows || end.Bounded(), once: says && !again.Replayable()}
	v.source.open = func(ctx context.Context, t source.Task) (splits.Driver, error) {
		e, err := src.Enumerator(ctx, t)
		if err != nil {
			return nil, err
		}
		return splits.New(e), nil
	}
	v.build = func(b *builder) (any, error) {
		bad, next, err := poisonAndNext[T](b, v)
		if err != nil {
			return nil, err
		}
		r, err := src.Reader(b.t.ctx, b.t.sourceTask(v))
		if err != nil {
			return nil, fmt.Errorf("open source %q: %w", v.name, err)
		}
		run := newSourceRun(b.t, v, r, next, bad)
		b.t.src = run
		return run, nil
	}
	v.receive = func(_ *job, n any) func(any) error { return n.(*sourceRun[T, S]).receive }
	return streamOf[T](p, v, "")
}

// sourceVertex is what the coordinator needs of a source.
type sourceVertex struct {
	bounded bool
	once    bool // what was read can't be read again
	ticks   bool // its clocks depend on the machine's: idleness, alignment
	open    func(ctx context.Context, t source.Task) (splits.Driver, error)
}
