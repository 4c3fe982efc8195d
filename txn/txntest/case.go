package txntest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/sinktest"
	"github.com/weirline/weirline/txn"
)

// Case is a two-phase sink and its destination. Sink, Make, Visible, Left, RollBack and MaxSlot are needed.
type Case[T any] struct {
	// TxCase is what sinktest wants to know. Its Sink stops on a loss, if it has a policy.
	sinktest.TxCase[T]

	// Lossy is the same sink with [txn.AcceptLoss]. Unset: it has no such policy.
	Lossy sink.TwoPhase[T]

	// RollBack rolls a prepared transaction back, as an administrator would with the destination's own means.
	RollBack func(ctx context.Context, h sink.Handle) error

	// Forget makes the destination unable to say what became of a transaction that was committed, or changes its handle into
	// one that it knows nothing about. Unset: it never forgets.
	Forget func(ctx context.Context, h sink.Handle) (sink.Handle, error)

	// MaxSlot is how long the name of a slot may be, in bytes.
	MaxSlot int

	// Kill ends the destination as a crash would, and Restart brings it back. Unset: it isn't a server, or one that
	// others need.
	Kill    func()
	Restart func(ctx context.Context) error

	// Outlives says that an open transaction, too, may outlive that crash, whole. Unset: it doesn't.
	Outlives bool
}

// Run checks the sink.
func Run[T any](t *testing.T, c Case[T]) {
	t.Helper()
	if c.Make == nil || c.Visible == nil || c.Left == nil || c.RollBack == nil || c.MaxSlot <= 0 {
		t.Fatal("txntest: the case lacks Make, Visible, Left, RollBack or MaxSlot")
	}
	sinktest.RunTx(t, c.TxCase)
	b := newBench(c)
	for _, p := range b.promises() {
		t.Run(p.name, func(t *testing.T) {
			if err := b.keep(t.Context(), p); err != nil {
				t.Error(err)
			}
		})
	}
}

// promise is one thing that must hold; keep returns how it was broken.
type promise struct {
	name string
	keep func(ctx context.Context) error
}

// bench runs the promises of one case.
type bench[T any] struct {
	Case[T]
	job     string
	used    int // numbers of records used; sinktest's are below
	slots   int
	dropped []func() error // what stands for crashed processes; closed when all is judged
}

const firstRecord = 1_000_000

func newBench[T any](c Case[T]) *bench[T] {
	if c.Records <= 0 {
		c.Records = 20
	}
	if c.Limit <= 0 {
		c.Limit = 30 * time.Second
	}
	return &bench[T]{Case: c, job: "j" + txn.NewToken()[:6], used: firstRecord}
}

func (b *bench[T]) keep(ctx context.Context, p promise) error {
	ctx, cancel := context.WithTimeout(ctx, b.Limit)
	defer cancel()
	err := p.keep(ctx)
	for _, closer := range b.dropped {
		_ = closer() // a crashed process would not have got here
	}
	b.dropped = nil
	return err
}

func (b *bench[T]) slot() sink.Slot { return b.slotOf(b.job) }

func (b *bench[T]) slotOf(job string) sink.Slot {
	b.slots++
	return sink.Slot{ID: b.slots, Name: fmt.Sprintf("%s-out-%d", job, b.slots)}
}

func (b *bench[T]) records() []T {
	out := make([]T, b.Records)
	for i := range out {
		out[i] = b.Make(b.used)
		b.used++
	}
	return out
}

// writer makes one that is dropped, not closed.
func (b *bench[T]) writer(ctx context.Context) (sink.TxWriter[T], error) {
	w, err := b.Sink.TxWriter(ctx, task(counts{}))
	if err != nil {
		return nil, fmt.Errorf("make writer: %w", err)
	}
	b.dropped = append(b.dropped, w.Close)
	return w, nil
}

// filled is a writer with an open transaction.
func (b *bench[T]) filled(ctx context.Context, s sink.Slot) (sink.TxWriter[T], []T, error) {
	w, err := b.writer(ctx)
	if err != nil {
		return nil, nil, err
	}
	rs := b.records()
	if err := w.Begin(ctx, s); err != nil {
		return nil, nil, fmt.Errorf("begin: %w", err)
	}
	if err := w.Write(ctx, slices.Clone(rs)); err != nil {
		return nil, nil, fmt.Errorf("write: %w", err)
	}
	return w, rs, nil
}

// prepared is a transaction whose writer was dropped.
func (b *bench[T]) prepared(ctx context.Context, s sink.Slot) ([]T, sink.Handle, error) {
	w, rs, err := b.filled(ctx, s)
	if err != nil {
		return nil, sink.Handle{}, err
	}
	h, err := w.Prepare(ctx, 1)
	if err != nil {
		return nil, h, fmt.Errorf("prepare: %w", err)
	}
	return rs, h, nil
}

// with calls f with a committer that no other call had, as another process has.
func (b *bench[T]) with(ctx context.Context, s sink.TwoPhase[T], m sink.Metrics, f func(c sink.Committer) error) error {
	c, err := s.Committer(ctx, task(m))
	if err != nil {
		return fmt.Errorf("make committer: %w", err)
	}
	return errors.Join(f(c), c.Close())
}

func (b *bench[T]) commit(ctx context.Context, hs ...sink.Handle) error {
	return b.with(ctx, b.Sink, counts{}, func(c sink.Committer) error { return c.Commit(ctx, hs) })
}

func (b *bench[T]) recover(ctx context.Context, keep []sink.Handle, slots ...sink.Slot) error {
	return b.with(ctx, b.Sink, counts{}, func(c sink.Committer) error { return c.Recover(ctx, keep, slots) })
}

// seen says if a reader doesn't see each of shown once, or sees one of hidden.
func (b *bench[T]) seen(shown, hidden []T) error {
	got, err := b.Visible()
	if err != nil {
		return fmt.Errorf("read destination: %w", err)
	}
	n := map[string]int{}
	for _, v := range got {
		n[fmt.Sprintf("%+v", v)]++
	}
	for _, v := range shown {
		if have := n[fmt.Sprintf("%+v", v)]; have != 1 {
			return fmt.Errorf("record %+v is visible %d times, want once", v, have)
		}
	}
	for _, v := range hidden {
		if n[fmt.Sprintf("%+v", v)] > 0 {
			return fmt.Errorf("record %+v is visible", v)
		}
	}
	return nil
}

// clean says if something is left under the slots.
func (b *bench[T]) clean(slots ...sink.Slot) error {
	for _, s := range slots {
		if left, err := b.Left(s); err != nil || len(left) > 0 {
			return fmt.Errorf("left under slot %s: %q, %v", s.Name, left, err)
		}
	}
	return nil
}

// counts is a task's metrics.
type counts map[string]int64

var countsLock sync.Mutex

func (c counts) Count(name string, n int64) {
	countsLock.Lock()
	defer countsLock.Unlock()
	c[name] += n
}

func (counts) Gauge(string, float64)   {}
func (counts) Observe(string, float64) {}

func task(m sink.Metrics) sink.Task {
	return sink.Task{Job: "job", Operator: "out", Parallelism: 1, Log: slog.New(slog.DiscardHandler), Metrics: m, Request: func() {}}
}
