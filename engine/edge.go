package engine

import (
	"sync"
	"time"

	"github.com/weirline/weirline/internal/sizes"
	"github.com/weirline/weirline/source"
	"github.com/weirline/weirline/state"
)

// output is the sending side of an exchange as its task sees it.
type output interface {
	hasRoom() bool
	// settle is called after each input batch: it hands over to receivers that sleep, and everything when linger is over.
	settle(now func() time.Time)
	// flush hands over everything partial, with the clock; before the task sleeps, and before a barrier.
	flush()
	// send puts a barrier or an end to all receivers; everything before it has been flushed.
	send(it item)
	// replay hands over a batch that was stored, before the tasks run: to receiver number to, or if to is negative to whom its
	// records belong now.
	replay(payload any, to int) error
}

// pool recycles the batches of one exchange.
type pool[T any] struct{ p sync.Pool }

func (p *pool[T]) get(size int) *source.Batch[T] {
	if b, ok := p.p.Get().(*source.Batch[T]); ok {
		return b
	}
	return &source.Batch[T]{Values: make([]T, 0, size)}
}

func (p *pool[T]) put(b *source.Batch[T]) {
	clear(b.Values) // don't keep alive what the values point to
	b.Reset()
	p.p.Put(b)
}

// edge is one task's side of an exchange: it collects records by receiver and hands batches over when they are full, when
// the receiver sleeps, when linger is over, or when the task itself is about to sleep.
type edge[T any] struct {
	_      [128]byte
	router router[T]
	parts  []target[T]
	pool   *pool[T]
	weigh  sizes.Func[T]
	most   int // records of a batch
	size   int // records of a batch now, by the bytes of the last
	linger time.Duration
	flow   clock // this task's clock at the edge
	last   time.Time
	dirty  bool // something is partial, or the clock moved since the last flush
	timed  bool // the partial batches carry event times
	_      [128]byte
}

// router distributes a batch over the parts of an edge.
type router[T any] interface {
	route(e *edge[T], b *source.Batch[T]) error
}

// target is what waits for one receiver.
type target[T any] struct {
	ch   *channel
	buf  *source.Batch[T]
	sent clock
}

func (e *edge[T]) push(b *source.Batch[T]) error {
	if len(b.Values) == 0 {
		return nil
	}
	if timed := len(b.Times) > 0; timed != e.timed {
		e.handAll()
		e.timed = timed
	}
	e.dirty = true
	return e.router.route(e, b)
}

func (e *edge[T]) advance(c clock) error {
	if c != e.flow {
		e.flow, e.dirty = c, true
	}
	return nil
}

// partial is the open batch of a part, made if there is none.
func (e *edge[T]) partial(p *target[T]) *source.Batch[T] {
	if p.buf == nil {
		p.buf = e.pool.get(e.size)
	}
	return p.buf
}

// hand gives a part's records to its receiver. The clock that goes with them is the one before the batch being
// distributed now, which is right: it only says that nothing earlier follows.
func (e *edge[T]) hand(p *target[T]) {
	p.sent = e.flow
	bytes := e.weigh(p.buf)
	e.size = p.ch.fit(e.most, len(p.buf.Values), bytes)
	p.ch.put(item{kind: itemBatch, clock: e.flow, payload: p.buf, bytes: bytes})
	p.buf = nil
}

// handAll hands over everything partial.
func (e *edge[T]) handAll() {
	for i := range e.parts {
		if p := &e.parts[i]; p.buf != nil {
			e.hand(p)
		}
	}
}

// addAll appends a whole batch to a part.
func (e *edge[T]) addAll(p *target[T], b *source.Batch[T]) {
	for lo := 0; lo < len(b.Values); {
		buf := e.partial(p)
		hi := max(lo, min(len(b.Values), lo+e.size-len(buf.Values)))
		buf.Values = append(buf.Values, b.Values[lo:hi]...)
		if e.timed {
			buf.Times = append(buf.Times, b.Times[lo:hi]...)
		}
		if len(buf.Values) >= e.size {
			e.hand(p)
		}
		lo = hi
	}
}

func (e *edge[T]) hasRoom() bool {
	for i := range e.parts {
		if !e.parts[i].ch.hasRoom() {
			return false
		}
	}
	return true
}

func (e *edge[T]) settle(now func() time.Time) {
	if !e.dirty {
		return
	}
	for i := range e.parts {
		if p := &e.parts[i]; p.buf != nil && p.ch.to.hungry.Load() {
			e.hand(p)
		}
	}
	if t := now(); t.Sub(e.last) >= e.linger {
		e.last = t
		e.flush()
	}
}

func (e *edge[T]) flush() {
	if !e.dirty {
		return
	}
	e.dirty = false
	for i := range e.parts {
		p := &e.parts[i]
		if p.buf != nil {
			e.hand(p)
		} else if p.sent != e.flow {
			p.sent = e.flow
			p.ch.put(item{kind: itemMark, clock: e.flow})
		}
	}
}

func (e *edge[T]) send(it item) {
	e.flush()
	it.clock = e.flow
	for i := range e.parts {
		e.parts[i].ch.put(it)
	}
}

func (e *edge[T]) replay(payload any, to int) error {
	b := payload.(*source.Batch[T])
	if to >= 0 {
		to = min(to, len(e.parts)-1) // a forward exchange has one
		e.parts[to].ch.put(item{kind: itemBatch, clock: e.flow, payload: b, bytes: e.weigh(b)})
		return nil
	}
	err := e.push(b)
	e.handAll()
	return err
}

// oneRouter sends everything to the only part: a forward exchange.
type oneRouter[T any] struct{}

func (oneRouter[T]) route(e *edge[T], b *source.Batch[T]) error {
	e.addAll(&e.parts[0], b)
	return nil
}

// turnRouter is rebalance: whole batches go round.
type turnRouter[T any] struct{ turn int }

func (r *turnRouter[T]) route(e *edge[T], b *source.Batch[T]) error {
	e.addAll(&e.parts[r.turn], b)
	if r.turn++; r.turn == len(e.parts) {
		r.turn = 0
	}
	return nil
}

// allRouter is broadcast: every receiver gets a copy.
type allRouter[T any] struct{}

func (allRouter[T]) route(e *edge[T], b *source.Batch[T]) error {
	for i := range e.parts {
		e.addAll(&e.parts[i], b)
	}
	return nil
}

// keyRouter sends a record to the task that owns its key's group.
type keyRouter[K comparable, T any] struct {
	key   func(T) K
	hash  *state.Key[K]
	owner []uint16 // task by key group
	bad   *poisoner
	ks    []K
	hs    []uint64
}

func (r *keyRouter[K, T]) route(e *edge[T], b *source.Batch[T]) error {
	r.ks = r.ks[:0]
	for _, v := range b.Values {
		r.ks = append(r.ks, r.key(v))
	}
	if r.hash.Partial() {
		if err := r.dropInvalid(b); err != nil {
			return err
		}
	}
	r.hs = r.hash.HashAll(r.ks, r.hs)
	vs, hs, owner, parts := b.Values, r.hs, r.owner, e.parts
	hs = hs[:len(vs)]
	for i := range vs {
		p := &parts[owner[state.Group(hs[i], len(owner))]]
		buf := p.buf
		if buf == nil {
			buf = e.partial(p)
		}
		buf.Values = append(buf.Values, vs[i])
		if e.timed {
			buf.Times = append(buf.Times, b.Times[i])
		}
		if len(buf.Values) >= e.size {
			e.hand(p)
		}
	}
	return nil
}

// dropInvalid takes records out whose key equals nothing, not even itself: NaN. They are poison.
func (r *keyRouter[K, T]) dropInvalid(b *source.Batch[T]) error {
	kept := 0
	for i, k := range r.ks {
		if !r.hash.Valid(k) {
			if err := r.bad.record(b.Values[i], timeOf(b, i), 0, errNaNKey); err != nil {
				return err
			}
			continue
		}
		r.ks[kept], b.Values[kept] = k, b.Values[i]
		if len(b.Times) > 0 {
			b.Times[kept] = b.Times[i]
		}
		kept++
	}
	r.ks, b.Values = r.ks[:kept], b.Values[:kept]
	if len(b.Times) > 0 {
		b.Times = b.Times[:kept]
	}
	return nil
}
