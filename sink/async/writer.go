package async

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/weirline/weirline/sink"
)

// errClosed is what a closed writer answers.
var errClosed = errors.New("write records: writer is closed")

// writer is the writer of one task. mu is never held while Send, Key, Size, Encode, the log or the engine is called.
type writer[T any] struct {
	cfg     Sink[T]
	task    sink.Task
	start   time.Time
	attempt func() (context.Context, context.CancelFunc) // a context for one call of Send
	cancel  context.CancelFunc                           // ends them all
	running sync.WaitGroup                               // calls of Send, and the armed timer
	changed chan struct{}                                // something finished; only the task's goroutine waits for it
	keys    []string                                     // scratch of Write
	names   []string                                     // the same, of shards
	sizes   []int                                        // the same
	values  []T                                          // scratch of Snapshot
	one     []byte                                       // the same
	times   []time.Duration                              // the same

	mu       sync.Mutex
	wake     func()               // the engine's
	shards   map[string]*shard[T] // with Shard
	only     *shard[T]            // without it
	last     *shard[T]            // the one looked up last
	crowd    int                  // so many shards, and those not needed are forgotten
	active   []*shard[T]          // where records wait
	lanes    map[string]*lane[T]  // by key; those that aren't idle
	held     held[T]
	young    *node[T] // the oldest record that wasn't found too old yet
	heldN    int      // records not delivered, without rejects
	heldB    int
	seq      uint64
	inFlight int
	window   int     // sums over all shards
	pace     float64 // the same
	open     int     // breakers
	rejects  []*node[T]
	err      error // the task fails with it
	closed   bool
	flushing bool // Flush waits: don't linger
	wantRoom bool // Room said no
	timer    *time.Timer
	armed    bool
	armedFor time.Duration
	streak   streak
	freeN    *node[T] // recycled, linked by next
	freeL    *lane[T]
	freeB    []*batch[T]
}

var (
	_ sink.Writer[int] = (*writer[int])(nil)
	_ sink.Stateful    = (*writer[int])(nil)
	_ sink.Gated       = (*writer[int])(nil)
	_ sink.Failing     = (*writer[int])(nil)
	_ sink.Rejecter    = (*writer[int])(nil)
)

func newWriter[T any](ctx context.Context, cfg Sink[T], t sink.Task) *writer[T] {
	base, cancel := context.WithCancel(ctx)
	w := &writer[T]{
		cfg: cfg, task: withDefaults(t), start: time.Now(), cancel: cancel,
		changed: make(chan struct{}, 1), lanes: map[string]*lane[T]{}, shards: map[string]*shard[T]{}, crowd: keptShards,
	}
	w.attempt = func() (context.Context, context.CancelFunc) {
		if cfg.Timeout < 0 {
			return context.WithCancel(base)
		}
		return context.WithTimeout(base, cfg.Timeout)
	}
	if cfg.Shard == nil {
		w.only = w.newShard("")
	}
	return w
}

// Write takes the whole batch once there is room.
func (w *writer[T]) Write(ctx context.Context, batch []T) error {
	w.measure(batch)
	w.mu.Lock()
	err := w.await(ctx, w.hasRoom)
	var ev event
	if err == nil {
		w.add(batch, nil)
		w.streak.taken += len(batch)
		w.dispatch(&ev)
	}
	w.mu.Unlock()
	clear(w.keys)
	clear(w.names)
	w.tell(ev)
	return err
}

// Flush sends without lingering until all is delivered or refused.
func (w *writer[T]) Flush(ctx context.Context) error {
	var ev event
	w.mu.Lock()
	w.flushing = true
	w.dispatch(&ev)
	w.mu.Unlock()
	w.tell(ev)

	w.mu.Lock()
	defer w.mu.Unlock()
	defer func() { w.flushing = false }()
	return w.await(ctx, func() bool { return w.heldN == 0 })
}

// await waits, without mu, until cond holds or the writer or ctx has ended. It is called and returns with mu held.
func (w *writer[T]) await(ctx context.Context, cond func() bool) error {
	for {
		switch {
		case w.closed:
			return errClosed
		case w.err != nil:
			return w.err
		case cond():
			return nil
		}
		w.mu.Unlock()
		var err error
		select {
		case <-w.changed:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		w.mu.Lock()
		if err != nil {
			return err
		}
	}
}

// Close cancels what is on its way and waits until Send has returned.
func (w *writer[T]) Close() error {
	w.mu.Lock()
	w.closed = true
	w.disarm()
	w.mu.Unlock()
	w.cancel()
	w.running.Wait()
	return nil
}

// Room implements sink.Gated.
func (w *writer[T]) Room() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hasRoom() && len(w.rejects) < w.cfg.MaxBuffered || w.err != nil || w.closed {
		return true
	}
	w.wantRoom = true
	return false
}

// OnRoom implements sink.Gated.
func (w *writer[T]) OnRoom(wake func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wake = wake // calls of Send may run already, after Restore
}

// Err implements sink.Failing.
func (w *writer[T]) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Rejects implements sink.Rejecter.
func (w *writer[T]) Rejects() []sink.RejectedRecord {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rejects) == 0 {
		return nil
	}
	out := make([]sink.RejectedRecord, len(w.rejects))
	for i, n := range w.rejects {
		out[i] = sink.RejectedRecord{Value: n.v, Err: n.err, Attempts: n.sends}
		w.free(n)
	}
	clear(w.rejects)
	w.rejects = w.rejects[:0]
	return out
}

func (w *writer[T]) hasRoom() bool {
	return w.heldN < w.cfg.MaxBuffered && w.heldB < w.cfg.MaxBufferedBytes
}

func (w *writer[T]) now() time.Duration { return time.Since(w.start) }

// measure calls the user's functions for each record, before mu is taken.
func (w *writer[T]) measure(batch []T) {
	w.keys, w.names, w.sizes = w.keys[:0], w.names[:0], w.sizes[:0]
	for i := range batch {
		if w.cfg.Key != nil {
			w.keys = append(w.keys, w.cfg.Key(batch[i]))
		}
		if w.cfg.Shard != nil {
			w.names = append(w.names, w.cfg.Shard(batch[i]))
		}
		if w.cfg.Size != nil {
			w.sizes = append(w.sizes, w.cfg.Size(batch[i]))
		}
	}
}

// add puts measured records into their lanes; times says when they were written, nil: now.
func (w *writer[T]) add(batch []T, times []time.Duration) {
	now := w.now()
	for i := range batch {
		n := w.node()
		n.v, n.at = batch[i], now
		if times != nil {
			n.at = times[i]
		}
		n.seq = w.seq
		w.seq++
		if w.cfg.Size != nil {
			n.size = w.sizes[i]
		}
		w.held.add(n)
		if w.young == nil {
			w.young = n
		}
		w.heldN++
		w.heldB += n.size
		l := w.laneFor(i)
		l.push(n)
		switch l.place {
		case idle:
			w.toReady(l)
		case ready:
			l.shard.readyN++
			l.shard.readyB += n.size
		}
	}
}

// laneFor finds or makes the lane of measured record i.
func (w *writer[T]) laneFor(i int) *lane[T] {
	if w.cfg.Key == nil {
		return &w.shardFor(i).shared
	}
	l := w.lanes[w.keys[i]]
	if l == nil {
		l = w.lane()
		l.key, l.shard = w.keys[i], w.shardFor(i)
		w.lanes[l.key] = l
	}
	return l
}

func (w *writer[T]) shardFor(i int) *shard[T] {
	if w.only != nil {
		return w.only
	}
	return w.shardOf(w.names[i])
}

func (w *writer[T]) node() *node[T] {
	n := w.freeN
	if n == nil {
		return &node[T]{}
	}
	w.freeN, n.next = n.next, nil
	return n
}

// free takes a node out of the held list and recycles it.
func (w *writer[T]) free(n *node[T]) {
	if w.young == n {
		w.young = n.newer
	}
	w.held.remove(n)
	*n = node[T]{next: w.freeN}
	w.freeN = n
}

func (w *writer[T]) lane() *lane[T] {
	l := w.freeL
	if l == nil {
		return &lane[T]{}
	}
	w.freeL, l.next = l.next, nil
	return l
}

// drop recycles an empty lane that is in no heap.
func (w *writer[T]) drop(l *lane[T]) {
	if l == &l.shard.shared {
		l.place = idle
		return
	}
	if w.cfg.Key != nil {
		delete(w.lanes, l.key)
	}
	*l = lane[T]{next: w.freeL}
	w.freeL = l
}
