package operators

import (
	"time"

	"github.com/weirline/weirline/engine"
)

// CoProcessor is engine.Processor with two inputs: both have the state and the timers of their key. It may also be an
// engine.TimerProcessor, an engine.ProcessingTimerProcessor and an engine.Closer.
type CoProcessor[K comparable, A, B, O any] interface {
	// Open declares state and timers. Called once before anything else.
	Open(s *engine.Setup[K]) error

	// ProcessLeft and ProcessRight handle a record with the state of its key. An error makes the record poison.
	ProcessLeft(ctx *engine.Ctx[K], v A, out *engine.Out[O]) error
	ProcessRight(ctx *engine.Ctx[K], v B, out *engine.Out[O]) error
}

// CoProcess runs user code on two streams with the same key. newP is called once a task; one value serves one task. The order
// of records of different inputs isn't defined.
func CoProcess[K comparable, A, B, O any, P CoProcessor[K, A, B, O]](name string, a Input[K, A], b Input[K, B], newP func() P) engine.Stream[O] {
	return engine.Process(keyed(name, a, b), name, func() engine.Processor[K, Either[A, B], O] {
		c := &both[K, A, B, O]{p: newP()}
		if t, ok := any(c.p).(engine.ProcessingTimerProcessor[K, O]); ok {
			return timedBoth[K, A, B, O]{c, t}
		}
		return c
	})
}

// timedBoth is both with timers in processing time.
type timedBoth[K comparable, A, B, O any] struct {
	*both[K, A, B, O]
	engine.ProcessingTimerProcessor[K, O]
}

// both is a CoProcessor as the engine's Processor.
type both[K comparable, A, B, O any] struct {
	p CoProcessor[K, A, B, O]
}

func (c *both[K, A, B, O]) Open(s *engine.Setup[K]) error { return c.p.Open(s) }

func (c *both[K, A, B, O]) Process(ctx *engine.Ctx[K], e Either[A, B], out *engine.Out[O]) error {
	if e.IsRight {
		return c.p.ProcessRight(ctx, e.Right, out)
	}
	return c.p.ProcessLeft(ctx, e.Left, out)
}

func (c *both[K, A, B, O]) OnTimer(ctx *engine.Ctx[K], at time.Time, out *engine.Out[O]) error {
	if t, ok := c.p.(engine.TimerProcessor[K, O]); ok {
		return t.OnTimer(ctx, at, out)
	}
	return nil
}

func (c *both[K, A, B, O]) Close() error {
	if x, ok := c.p.(engine.Closer); ok {
		return x.Close()
	}
	return nil
}
