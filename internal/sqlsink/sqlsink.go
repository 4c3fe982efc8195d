// Package sqlsink is what plain sinks into tables of SQL servers share: their settings and what may be wrong with them, and the
// writer that sends batches over connections of its own. A connector adds how a connection encodes rows and writes them:
//
//	func (s Sink[T]) Writer(ctx context.Context, t sink.Task) (sink.Writer[T], error) {
//		return s.rows().Writer(ctx, t, func(ctx context.Context, count sqlsink.Count) (sqlsink.Link, error) { return dial(ctx) })
//	}
//
// Each batch on its way has a [Link], which [links.Pool] keeps for the next one.
package sqlsink

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/weirline/weirline/internal/links"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// Timeout is that of a batch if none is set.
const Timeout = 30 * time.Second

const inFlight = 4

// Sink is what a plain sink is told, each as the connector documents it.
type Sink[T any] struct {
	Target
	Row      func(v T) ([]any, error)
	Delete   func(v T) bool
	Batching async.Sink[T]
	Rows     int // of a batch, if Batching doesn't say
}

// Idempotent says whether a row replaces the one with the same keys.
func (s Sink[T]) Idempotent() bool { return len(s.Keys) > 0 }

// Promise says what becomes of a record that is written again.
func (s Sink[T]) Promise() (promise, why, fix string) {
	if s.Idempotent() {
		return sink.Repeatable, "a row replaces the one with the same keys", ""
	}
	return sink.AtLeastOnce, "rows are appended, and a batch of which the answer is lost is appended again",
		"set Keys to columns with a unique index, or use " + s.Server.Name + ".TxSink"
}

// Validate says everything that is wrong with the settings, among it what the connector has found about where the server is.
func (s Sink[T]) Validate(where error) error {
	errs := s.Check(s.Row != nil)
	if s.Delete != nil && len(s.Keys) == 0 {
		errs = append(errs, s.Server.Wrong("set Keys to the columns that say which row a record is about", "Delete is set, and Keys isn't"))
	}
	if s.Batching.Send != nil {
		errs = append(errs, s.Server.Wrong("leave Batching.Send out; Row says what is sent", "Batching.Send is set"))
	}
	return errors.Join(append(errs, where, s.batching(nil).Validate())...)
}

// Count adds to a counter of the task's.
type Count func(name string, n int64)

// Link is a connection with what a batch needs. One batch at a time uses it: Reset, Add for each record, Write.
type Link interface {
	links.Link

	// Reset empties it.
	Reset()

	// Add encodes the row of the batch's record i, or, if it is gone, what finds the row. After an error nothing of it is left.
	Add(i int, values []any, gone bool) error

	// Refused makes an error of what is wrong with a record.
	Refused(err error) error

	// Write sends what was added, so many records. The error is what package async expects; keep says if the link goes on.
	Write(ctx context.Context, records int) (keep bool, err error)
}

type pool = links.Pool[Link]

// Writer makes the writer of one task. Open is called with the first batch, and later by several goroutines at once.
func (s Sink[T]) Writer(ctx context.Context, t sink.Task, open func(context.Context, Count) (Link, error)) (sink.Writer[T], error) {
	count := func(name string, n int64) {
		if t.Metrics != nil && n > 0 {
			t.Metrics.Count(name, n)
		}
	}
	p := &pool{Open: func(ctx context.Context) (Link, error) { return open(ctx, count) }}
	w, err := s.batching(p).Writer(ctx, t)
	if err != nil {
		return nil, err
	}
	return &writer[T]{Writer: w, links: p}, nil
}

// batching is the async sink that sends over the pool's links.
func (s Sink[T]) batching(p *pool) async.Sink[T] {
	b := s.Batching
	b.Timeout, b.MaxBatch, b.MaxInFlight = cmp.Or(b.Timeout, Timeout), cmp.Or(b.MaxBatch, s.Rows), cmp.Or(b.MaxInFlight, inFlight)
	if s.Idempotent() && b.Key == nil {
		b.Key = func(T) string { return "" }
	}
	b.Send = func(ctx context.Context, batch []T) error { return s.send(ctx, p, batch) }
	return b
}

// send writes one batch.
func (s Sink[T]) send(ctx context.Context, p *pool, batch []T) (err error) {
	l, err := p.Take(ctx)
	if err != nil {
		return err
	}
	keep := false
	defer func() { p.Give(l, keep) }()
	l.Reset()
	bad := map[int]error{}
	for i, v := range batch {
		gone := s.Delete != nil && s.Delete(v)
		values, err := s.Row(v)
		if err == nil {
			err = l.Add(i, values, gone)
		}
		if err != nil {
			bad[i] = async.Refuse(l.Refused(err))
		}
	}
	if keep, err = l.Write(ctx, len(batch)-len(bad)); err != nil {
		return err
	}
	if len(bad) > 0 {
		return &async.Partial{Errs: bad}
	}
	return nil
}

// writer is async's, with connections of its own.
type writer[T any] struct {
	sink.Writer[T]
	links *pool
}

// Unwrap shows async's companions to sink.As.
func (w *writer[T]) Unwrap() any { return w.Writer }

// Close ends the sending first and then the connections. It may be called again.
func (w *writer[T]) Close() error {
	err := w.Writer.Close()
	w.links.Close()
	return err
}
