package sourcetest

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirline/weirline/enumerator"
	"github.com/weirline/weirline/reader"
	"github.com/weirline/weirline/source"
)

// tally is a split of the numbers up to ten.
type tally struct {
	Name string
	Next int
	lost int // not in the stored form
}

func (t tally) ID() string { return t.Name }

func step(_ context.Context, at tally, out *source.Batch[int]) (tally, error) {
	for at.Next < 10 && !out.Full() {
		out.Add(at.Next)
		at.Next++
	}
	if at.Next >= 10 {
		return at, io.EOF
	}
	return at, nil
}

type (
	readerOf = source.Reader[int, tally]
	batch    = *source.Batch[int]
)

var static = enumerator.Static(tally{Name: "a"}, tally{Name: "b"})

// twisted is a good reader with one method that isn't.
type twisted struct {
	readerOf
	read  func(r readerOf, ctx context.Context, out batch) (tally, error)
	close func() error
}

func (t twisted) Read(ctx context.Context, out batch) (tally, error) {
	if t.read == nil {
		return t.readerOf.Read(ctx, out)
	}
	return t.read(t.readerOf, ctx, out)
}

func (t twisted) Close() error {
	if t.close != nil {
		return t.close()
	}
	return t.readerOf.Close()
}

func (t twisted) Unwrap() any { return t.readerOf }

func withRead(read func(r readerOf, ctx context.Context, out batch) (tally, error)) source.Source[int, tally] {
	return source.Of(static, func(ctx context.Context, t source.Task) (readerOf, error) {
		r, err := reader.Poll(step)(ctx, t)
		return twisted{readerOf: r, read: read}, err
	})
}

func withStep(f func(ctx context.Context, at tally, out batch) (tally, error)) source.Source[int, tally] {
	return source.Of(static, reader.Poll(f))
}

// deaf doesn't hear Pause.
type deaf struct{ readerOf }

func (deaf) Pause(...string)  {}
func (deaf) Resume(...string) {}

// restless returns nothing at once while it is paused, again and again.
type restless struct {
	readerOf
	paused *atomic.Bool
}

func (r restless) Pause(ids ...string) { r.paused.Store(len(ids) > 0 && ids[0] != "no such split") }
func (r restless) Resume(...string)    { r.paused.Store(false) }

func (r restless) Read(ctx context.Context, out batch) (tally, error) {
	if r.paused.Load() {
		return tally{Name: "a"}, nil
	}
	return r.readerOf.Read(ctx, out)
}

// stingy gives splits to nobody.
type stingy struct{ source.Enumerator[tally] }

func (stingy) Assign(source.Event[tally], *source.Assignments[tally]) {}

func polled(e source.NewEnumerator[tally]) source.Source[int, tally] {
	return source.Of(e, reader.Poll(step))
}

func brokenReads() map[string]broken {
	var kept batch
	seen := map[string]int{}
	return map[string]broken{
		"position lags": {withStep(func(ctx context.Context, at tally, out batch) (tally, error) {
			next, err := step(ctx, at, out)
			next.lost = next.Next // where the reader really is
			if err == nil && next.Next > at.Next {
				next.Next--
			}
			return next, err
		}), "twice"},
		"last record forgotten": {withStep(func(ctx context.Context, at tally, out batch) (tally, error) {
			next, err := step(ctx, at, out)
			if err == io.EOF && len(out.Values) > 0 { //nolint:errorlint // it is step's
				out.Values = out.Values[:len(out.Values)-1]
			}
			return next, err
		}), "lost"},
		"position kept beside the split": {withStep(func(ctx context.Context, at tally, out batch) (tally, error) {
			from := at
			from.Next = max(from.Next, seen[at.Name])
			next, err := step(ctx, from, out)
			seen[at.Name] = next.Next
			return next, err
		}), "lost"},
		"part of the position isn't stored": {withStep(func(ctx context.Context, at tally, out batch) (tally, error) {
			at.Next = at.lost
			next, err := step(ctx, at, out)
			next.lost, next.Next = next.Next, 0
			return next, err
		}), "twice"},
		"a cancelled read loses": {withRead(func(r readerOf, ctx context.Context, out batch) (tally, error) {
			before := len(out.Values)
			next, err := r.Read(context.WithoutCancel(ctx), out)
			if ctx.Err() != nil {
				out.Values = out.Values[:before]
				if err == nil {
					err = ctx.Err()
				}
			}
			return next, err
		}), "lost"},
		"a cancelled read goes on": {withRead(func(r readerOf, ctx context.Context, out batch) (tally, error) {
			if ctx.Err() != nil {
				select {}
			}
			return r.Read(ctx, out)
		}), "didn't return"},
		"the batch is kept": {withRead(func(r readerOf, ctx context.Context, out batch) (tally, error) {
			if kept != nil && kept != out {
				kept.Add(1)
			}
			kept = out
			return r.Read(ctx, out)
		}), "kept it"},
		"the batch is written over": {withStep(func(ctx context.Context, at tally, out batch) (tally, error) {
			out.Values = out.Values[:0]
			return step(ctx, at, out)
		}), "batch"},
		"times of some": {withRead(func(r readerOf, ctx context.Context, out batch) (tally, error) {
			next, err := r.Read(ctx, out)
			if len(out.Values) > 1 {
				out.Times = append(out.Times, 1)
			}
			return next, err
		}), "times"},
		"somebody else's split": {withRead(func(r readerOf, ctx context.Context, out batch) (tally, error) {
			next, err := r.Read(ctx, out)
			next.Name += "x"
			return next, err
		}), "wasn't given"},
		"a finished split goes on": {withRead(func() func(r readerOf, ctx context.Context, out batch) (tally, error) {
			var ended tally
			return func(r readerOf, ctx context.Context, out batch) (tally, error) {
				if ended.Name != "" {
					out.Add(1)
					return ended, nil
				}
				next, err := r.Read(ctx, out)
				if err == io.EOF { //nolint:errorlint // it is the reader's
					ended = next
				}
				return next, err
			}
		}()), "wasn't given or has finished"},
		"the end is wrapped": {withRead(func(r readerOf, ctx context.Context, out batch) (tally, error) {
			next, err := r.Read(ctx, out)
			if err != nil {
				err = fmt.Errorf("done: %w", err)
			}
			return next, err
		}), "read: done: EOF"},
		"a goroutine is left": {withRead(func(r readerOf, ctx context.Context, out batch) (tally, error) {
			go func() { <-time.After(4 * time.Second) }()
			return r.Read(ctx, out)
		}), "left behind"},
	}
}

func brokenHalves() map[string]broken {
	calls := 0
	twist := func(make func(r readerOf) readerOf) source.Source[int, tally] {
		return source.Of(static, func(ctx context.Context, t source.Task) (readerOf, error) {
			r, err := reader.Poll(step)(ctx, t)
			return make(r), err
		})
	}
	return map[string]broken{
		"IDs change": {polled(enumerator.List(func(context.Context) ([]tally, error) {
			calls++
			return []tally{{Name: fmt.Sprint(calls)}, {Name: fmt.Sprint(-calls)}}, nil
		})), "IDs change"},
		"one ID for two splits": {polled(enumerator.Static(tally{Name: "a"}, tally{Name: "a"})), "two splits have the ID"},
		"no ID":                 {polled(enumerator.Static(tally{Name: "a"}, tally{})), "no ID"},
		"splits given to nobody": {polled(func(ctx context.Context, t source.Task) (source.Enumerator[tally], error) {
			e, err := static(ctx, t)
			return stingy{e}, err
		}), "unassigned splits: 2"},
		"pause isn't heard":     {twist(func(r readerOf) readerOf { return deaf{r} }), "paused"},
		"a paused reader spins": {twist(func(r readerOf) readerOf { return restless{r, new(atomic.Bool)} }), "paused"},
		"close fails": {twist(func(r readerOf) readerOf {
			return twisted{readerOf: r, close: func() error { return fmt.Errorf("no close") }}
		}), "no close"},
		"bad split is read": {polled(static), "can't be read"},
	}
}

type broken struct {
	src  source.Source[int, tally]
	says string
}

// TestKitCatches: each broken source fails some check, with a message that says what is wrong.
func TestKitCatches(t *testing.T) {
	for _, set := range []map[string]broken{brokenReads(), brokenHalves()} {
		for name, b := range set {
			t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
				c := Case[int, tally]{Source: b.src, Timeout: 300 * time.Millisecond}.withDefaults()
				for i := range 20 {
					c.Want = append(c.Want, i%10)
				}
				if name == "bad split is read" {
					c.Bad = []tally{{Name: "bad"}}
				}
				var said []string
				for _, k := range checks[int, tally]() {
					if err := c.check(k); err != nil {
						said = append(said, k.name+": "+err.Error())
					}
				}
				if len(said) == 0 || !strings.Contains(strings.Join(said, "\n"), b.says) {
					t.Errorf("seed %d: want a failure that says %q, got %.2000q", c.Seed, b.says, said)
				}
			})
		}
	}
}

// lent hands out memory that it borrowed.
func TestKitCatchesUndeclaredLoan(t *testing.T) {
	lend := func(_ context.Context, at tally, out *source.Batch[[]byte]) (tally, error) {
		b := out.Scratch(1)
		b[0] = byte('0' + at.Next)
		out.Values = append(out.Values, b)
		at.Next++
		if at.Next == 3 {
			return at, io.EOF
		}
		return at, nil
	}
	c := Case[[]byte, tally]{Source: source.Of(enumerator.Static(tally{Name: "a"}), reader.Poll(lend)), Want: [][]byte{{'0'}, {'1'}, {'2'}}}
	c = c.withDefaults()
	for _, k := range checks[[]byte, tally]() {
		err := c.check(k)
		if wrong := k.name == "batch_memory_is_not_kept"; wrong != (err != nil) || wrong && !strings.Contains(err.Error(), "Borrower") {
			t.Errorf("%s: %v", k.name, err)
		}
	}
}

// TestSeedRepeats: the same seed gives the same run.
func TestSeedRepeats(t *testing.T) {
	c := Case[int, tally]{Source: polled(static), Seed: 7}.withDefaults()
	var runs []string
	for range 2 {
		p, total, err := c.cutAt(c.Seed, 4, 1)
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, fmt.Sprint(p.got, total))
	}
	if runs[0] != runs[1] {
		t.Errorf("%s, then %s", runs[0], runs[1])
	}
}
