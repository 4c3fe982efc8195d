package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weirline/weirline/source"
)

// world is one attempt of a job with one source: the engine in miniature.
type world[T any, S source.Split] struct {
	c        Case[T, S]
	rng      *rand.Rand
	enum     source.Enumerator[S]
	readers  []*node[T, S]
	ctx      context.Context
	deadline time.Time

	known      map[string]bool
	unassigned []S
	finished   []S
	done       bool // Discover said so
	over       bool // everything is read and there is no further stage
	state      []byte

	got     []string
	rejects int
	steps   int
	limit   int
	opts    options[T, S]
	kept    []kept[T]
	retired []*source.Batch[T]
}

// options are the nuisances of a run.
type options[T any, S source.Split] struct {
	cancel bool                       // cancel reads at random
	memory bool                       // a new batch for each read, old ones are watched
	after  func(w *world[T, S]) error // called after each step
}

type node[T any, S source.Split] struct {
	index  int
	reader source.Reader[T, S]
	has    []S
}

// kept is a value a pipeline might have kept, and what it looked like.
type kept[T any] struct {
	v   T
	key string
}

// cut is a checkpoint.
type cut struct {
	state            []byte
	stateful         bool
	known            []string
	splits, finished [][]byte
	done, over       bool
	got, rejects     int
}

type noMetrics struct{}

func (noMetrics) Count(string, int64)     {}
func (noMetrics) Gauge(string, float64)   {}
func (noMetrics) Observe(string, float64) {}

func (w *world[T, S]) task(index, parallelism int) source.Task {
	return source.Task{
		Job: "sourcetest", Operator: "source", Index: index, Parallelism: parallelism,
		Log: slog.New(slog.DiscardHandler), Metrics: noMetrics{}, Request: func() {},
	}
}

// start makes an attempt, from a checkpoint if there is one.
func (c Case[T, S]) start(rng *rand.Rand, readers, limit int, from *cut, opts options[T, S]) (*world[T, S], error) {
	w := &world[T, S]{
		c: c, rng: rng, known: map[string]bool{}, limit: limit, opts: opts,
		ctx: context.Background(), deadline: time.Now().Add(c.Timeout),
	}
	if p, ok := source.As[source.Preflight](c.Source); ok && from == nil {
		if err := p.Preflight(w.ctx); err != nil {
			return nil, fmt.Errorf("preflight: %w", err)
		}
	}
	enum, err := c.Source.Enumerator(w.ctx, w.task(0, readers))
	if err != nil {
		return nil, fmt.Errorf("make enumerator: %w", err)
	}
	w.enum = enum
	if from != nil {
		if err := w.restore(from); err != nil {
			return nil, err
		}
	}
	for i := range readers {
		w.readers = append(w.readers, &node[T, S]{index: i})
	}
	for _, n := range w.readers {
		if err := w.up(n); err != nil {
			return w, err
		}
	}
	return w, w.assign(source.Event[S]{Kind: source.Found, Splits: slices.Clone(w.unassigned)})
}

func (w *world[T, S]) restore(from *cut) error {
	for _, b := range from.splits {
		s, err := source.DecodeSplit[S](b)
		if err != nil {
			return err
		}
		w.unassigned = append(w.unassigned, s)
	}
	for _, b := range from.finished {
		s, err := source.DecodeSplit[S](b)
		if err != nil {
			return err
		}
		w.finished = append(w.finished, s)
	}
	for _, id := range from.known {
		w.known[id] = true
	}
	w.done, w.over, w.state = from.done, from.over, from.state
	if st, ok := source.As[source.Stateful](w.enum); ok && from.stateful {
		if err := st.Restore(slices.Clone(from.state)); err != nil {
			return fmt.Errorf("restore enumerator: %w", err)
		}
	}
	return nil
}

// up makes the reader of a node and tells the enumerator.
func (w *world[T, S]) up(n *node[T, S]) error {
	r, err := w.c.Source.Reader(w.ctx, w.task(n.index, len(w.readers)))
	if err != nil {
		return fmt.Errorf("make reader: %w", err)
	}
	n.reader = r
	return w.assign(source.Event[S]{Kind: source.ReaderUp, Reader: n.index})
}

// down closes a reader and gives its splits back.
func (w *world[T, S]) down(n *node[T, S]) error {
	if err := n.reader.Close(); err != nil {
		return fmt.Errorf("close reader: %w", err)
	}
	back := n.has
	n.reader, n.has = nil, nil
	if err := w.assign(source.Event[S]{Kind: source.ReaderDown, Reader: n.index}); err != nil {
		return err
	}
	w.unassigned = append(w.unassigned, back...)
	return w.assign(source.Event[S]{Kind: source.Found, Splits: back})
}

// close ends the attempt, as a crash or the end of the job does.
func (w *world[T, S]) close() error {
	var errs []error
	for _, n := range w.readers {
		if n.reader != nil {
			errs = append(errs, n.reader.Close())
			n.reader = nil
		}
	}
	return errors.Join(errs...)
}

func (w *world[T, S]) assign(ev source.Event[S]) error {
	load := map[int]int{}
	for _, n := range w.readers {
		if n.reader != nil {
			load[n.index] = len(n.has)
		}
	}
	to := source.NewAssignments(w.unassigned, load)
	w.enum.Assign(ev, to)
	w.unassigned = slices.Clone(to.Unassigned())
	for _, g := range to.Given() {
		n := w.readers[g.Reader]
		n.has = append(n.has, g.Split)
		if err := n.reader.Add(w.ctx, g.Split); err != nil {
			return fmt.Errorf("add split %q: %w", g.Split.ID(), err)
		}
	}
	return nil
}

// discover calls Discover once, for no longer than wait.
func (w *world[T, S]) discover(wait time.Duration) error {
	ctx, cancel := context.WithTimeout(w.ctx, wait)
	defer cancel()
	found, done, err := w.enum.Discover(ctx)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("discover: %w", err)
	}
	w.done = done && err == nil
	var fresh []S
	seen := map[string]bool{}
	for _, s := range found {
		if seen[s.ID()] {
			return fmt.Errorf("discover: two splits have the ID %q", s.ID())
		}
		seen[s.ID()] = true
		if !w.known[s.ID()] {
			w.known[s.ID()] = true
			fresh = append(fresh, s)
		}
	}
	w.unassigned = append(w.unassigned, fresh...)
	if err := w.snapshot(); err != nil {
		return err
	}
	if err := w.assign(source.Event[S]{Kind: source.Found, Splits: fresh}); err != nil {
		return err
	}
	return w.stepped()
}

func (w *world[T, S]) snapshot() error {
	st, ok := source.As[source.Stateful](w.enum)
	if !ok {
		return nil
	}
	b, err := st.Snapshot()
	if err != nil {
		return fmt.Errorf("snapshot enumerator: %w", err)
	}
	w.state = slices.Clone(b)
	return nil
}

// stepped is called at each point where a checkpoint could be.
func (w *world[T, S]) stepped() error {
	w.steps++
	if w.opts.after != nil {
		return w.opts.after(w)
	}
	return nil
}

// cut makes a checkpoint of the present moment.
func (w *world[T, S]) cut() (*cut, error) {
	c := &cut{state: w.state, done: w.done, over: w.over, got: len(w.got), rejects: w.rejects}
	_, c.stateful = source.As[source.Stateful](w.enum)
	c.stateful = c.stateful && w.state != nil
	for id := range w.known {
		c.known = append(c.known, id)
	}
	live := slices.Clone(w.unassigned)
	for _, n := range w.readers {
		live = append(live, n.has...)
	}
	var err error
	if c.splits, err = encodeAll(live); err != nil {
		return nil, err
	}
	c.finished, err = encodeAll(w.finished)
	return c, err
}

// encodeAll encodes splits and checks that they come back the same.
func encodeAll[S source.Split](splits []S) ([][]byte, error) {
	var out [][]byte
	for _, s := range splits {
		b, err := source.EncodeSplit(s)
		if err != nil {
			return nil, err
		}
		back, err := source.DecodeSplit[S](b)
		if err != nil {
			return nil, err
		}
		again, err := source.EncodeSplit(back)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(b, again) || back.ID() != s.ID() {
			return nil, fmt.Errorf("encode split %q: it comes back as %q: are all fields exported?", b, again)
		}
		out = append(out, b)
	}
	return out, nil
}

// errStop from options.after ends a run.
var errStop = errors.New("stop here")

// isEnd says that a read ended its split: io.EOF itself, since a wrapped one may come from a lost connection.
func isEnd(err error) bool { return err == io.EOF } //nolint:errorlint // see above
