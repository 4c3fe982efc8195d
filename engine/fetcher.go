package engine

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/weirline/weirline/internal/sizes"
	"github.com/weirline/weirline/source"
)

// fetcher is the goroutine that calls a reader. Reading is what may block; the task isn't. Batches go to the task through a
// channel of its inbox; commands (add splits, ack) are run between two reads, a pending read being cancelled for them.
type fetcher[T any, S source.Split] struct {
	r     source.Reader[T, S]
	ch    *channel
	limit int // records of a read
	size  int // records of the next one, by the bytes of the last
	weigh sizes.Func[T]
	free  sync.Pool

	mu     sync.Mutex
	cmds   []func(ctx context.Context) error
	cancel context.CancelFunc // of the pending read
	held   bool               // no reads: suspended, or the whole reader is paused
	kick   chan struct{}      // capacity 1
}

// fetched is what one read returned.
type fetched[T any, S source.Split] struct {
	batch source.Batch[T]
	next  S
	err   error // io.EOF: that split is finished; anything else fails the task
	dead  bool  // next means nothing: err didn't come from a read
}

func newFetcher[T any, S source.Split](r source.Reader[T, S], limit int) *fetcher[T, S] {
	return &fetcher[T, S]{r: r, limit: limit, size: limit, weigh: sizes.Of[T](), kick: make(chan struct{}, 1), cancel: func() {}}
}

// tell queues a command and wakes the goroutine. From any goroutine.
func (f *fetcher[T, S]) tell(cmd func(ctx context.Context) error) {
	f.mu.Lock()
	f.cmds = append(f.cmds, cmd)
	f.cancel()
	f.mu.Unlock()
	f.wake()
}

// tellSoon queues a command that can wait for a pending read, but not for long. If it cancelled the read at once, a read that
// takes longer than the time between two checkpoints would never come to its end.
func (f *fetcher[T, S]) tellSoon(cmd func(ctx context.Context) error) {
	f.mu.Lock()
	f.cmds = append(f.cmds, cmd)
	f.mu.Unlock()
	f.wake()
	time.AfterFunc(readPatience, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.cmds) > 0 {
			f.cancel()
		}
	})
}

// readPatience is how long a command may wait for a pending read to return by itself.
const readPatience = time.Second

// hold stops or allows reads.
func (f *fetcher[T, S]) hold(on bool) {
	f.mu.Lock()
	if f.held != on {
		f.held = on
		f.cancel()
	}
	f.mu.Unlock()
	f.wake()
}

func (f *fetcher[T, S]) wake() {
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

// run reads until ctx ends or something fails, and closes the reader, also after a panic.
func (f *fetcher[T, S]) run(ctx context.Context) {
	err := guarded(func() error { return f.loop(ctx) })
	err = errors.Join(err, guarded(f.r.Close))
	if err != nil && ctx.Err() == nil {
		f.deliver(&fetched[T, S]{err: err, dead: true})
	}
}

// guarded makes an error of a reader's panic.
func guarded(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = panicError("reader", r)
		}
	}()
	return f()
}

func (f *fetcher[T, S]) loop(ctx context.Context) error {
	rctx, cmds, held := f.turn(ctx, nil)
	for ctx.Err() == nil {
		for _, cmd := range cmds {
			if err := cmd(ctx); err != nil {
				return err
			}
		}
		if held || !f.ch.hasRoom() {
			select {
			case <-f.kick:
			case <-ctx.Done():
			}
		} else if !f.read(rctx) {
			return nil
		}
		rctx, cmds, held = f.turn(ctx, rctx)
	}
	return nil
}

// turn takes what was told since the last time. A read context serves until it is cancelled.
func (f *fetcher[T, S]) turn(ctx, rctx context.Context) (context.Context, []func(context.Context) error, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	cmds := f.cmds
	f.cmds = nil
	if rctx == nil || rctx.Err() != nil {
		rctx, f.cancel = context.WithCancel(ctx) //nolint:govet // cancelled by tell, hold or the parent
	}
	return rctx, cmds, f.held
}

// read reads once; false after an error that ends the task.
func (f *fetcher[T, S]) read(ctx context.Context) bool {
	x, ok := f.free.Get().(*fetched[T, S])
	if !ok {
		x = &fetched[T, S]{}
		x.batch.Values = make([]T, 0, min(f.limit, 4096))
	}
	x.batch.Limit(f.size)
	x.next, x.err = f.r.Read(ctx, &x.batch)
	x.dead = false
	// Only io.EOF itself ends a split: an error that wraps it is a connection or a file that broke off.
	if x.err != nil && x.err != io.EOF && ctx.Err() != nil { //nolint:errorlint // see above
		x.err = nil // we cancelled it; what was read counts
	}
	if x.err == nil && len(x.batch.Values)+len(x.batch.Rejects) == 0 && ctx.Err() != nil {
		f.free.Put(x)
		return true
	}
	fatal := x.err != nil && x.err != io.EOF //nolint:errorlint // see above
	f.deliver(x)
	return !fatal
}

func (f *fetcher[T, S]) deliver(x *fetched[T, S]) {
	bytes := f.weigh(&x.batch)
	if n := len(x.batch.Values); n > 0 {
		f.size = f.ch.fit(f.limit, n, bytes)
	}
	f.ch.put(item{kind: itemBatch, payload: x, bytes: bytes})
}

// recycle takes back what the task is done with.
func (f *fetcher[T, S]) recycle(x *fetched[T, S]) {
	clear(x.batch.Values)
	x.batch.Reset()
	f.free.Put(x)
}
