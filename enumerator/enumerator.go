package enumerator

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/weirline/weirline/source"
)

// defaultEvery is how long Watch waits between two listings if it isn't told.
const defaultEvery = 10 * time.Second

// Static is an enumerator of splits that are known beforehand.
func Static[S source.Split](splits ...S) source.NewEnumerator[S] {
	splits = slices.Clone(splits)
	return List(func(context.Context) ([]S, error) { return splits, nil })
}

// List is an enumerator that asks f once for all splits. f is called from Discover's goroutine, may do I/O and should
// heed ctx; after an error it is called again. What it returns must be concrete (no "latest") and in the order in which
// it should be read.
func List[S source.Split](f func(ctx context.Context) ([]S, error)) source.NewEnumerator[S] {
	return func(_ context.Context, t source.Task) (source.Enumerator[S], error) {
		return &lister[S]{f: f, parallelism: t.Parallelism}, nil
	}
}

// Watch is an enumerator that asks f at once and then again every so often (unset: 10 seconds), for as long as the job
// runs. f may return everything each time: what the engine has seen is ignored. A source made with it never ends; say so
// with [source.Unbounded].
func Watch[S source.Split](f func(ctx context.Context) ([]S, error), every time.Duration) source.NewEnumerator[S] {
	if every <= 0 {
		every = defaultEvery
	}
	return func(_ context.Context, t source.Task) (source.Enumerator[S], error) {
		return &watcher[S]{lister: lister[S]{f: f, parallelism: t.Parallelism}, every: every}, nil
	}
}

type lister[S source.Split] struct {
	f           func(ctx context.Context) ([]S, error)
	parallelism int
}

func (l *lister[S]) Discover(ctx context.Context) (found []S, done bool, err error) {
	found, err = l.f(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("list splits: %w", err)
	}
	return found, true, nil
}

func (l *lister[S]) Assign(ev source.Event[S], to *source.Assignments[S]) {
	Deal(Pull, l.parallelism, ev, to)
}

type watcher[S source.Split] struct {
	lister[S]
	every  time.Duration
	listed bool // the last Discover listed, so the next one waits first; only Discover's goroutine touches it
}

func (w *watcher[S]) Discover(ctx context.Context) (found []S, done bool, err error) {
	if w.listed {
		timer := time.NewTimer(w.every)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
	w.listed = false // after an error the engine backs off; then list at once
	found, _, err = w.lister.Discover(ctx)
	w.listed = err == nil
	return found, false, err
}
