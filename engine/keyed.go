package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/source"
	"github.com/weirline/weirline/state"
)

// Keyed is a stream whose records are partitioned by a key: all records of one key go through one task.
type Keyed[K comparable, T any] struct {
	s    Stream[T]
	key  func(T) K
	hash *state.Key[K]
}

// KeyBy partitions a stream. key is called by all tasks at once and must be a pure function of the record. Keys are plain
// comparable values: no pointers, interfaces or channels in them. A key that contains NaN is poison.
func KeyBy[K comparable, T any](s Stream[T], key func(T) K) Keyed[K, T] {
	hash, err := state.KeyOf[K]()
	if err != nil {
		s.p.typeErrorf(err, "KeyBy: type %T can't be a key", *new(K))
	}
	s.p.checkExchange(reflect.TypeFor[T]())
	out := Stream[T]{p: s.p, ups: append([]upstream(nil), s.ups...)}
	for i := range out.ups {
		out.ups[i].kind = linkHash
		out.ups[i].connect = connectKeyed(key, hash)
		if v := out.ups[i].v; v != nil {
			v.canPoison = true
		}
	}
	return Keyed[K, T]{s: out, key: key, hash: hash}
}

// connectKeyed makes the edges of a keyed exchange.
func connectKeyed[K comparable, T any](key func(T) K, hash *state.Key[K]) connector {
	return func(b *builder, v *vertex, chans []*channel) (any, output, error) {
		bad, err := b.poisoner(v)
		if err != nil {
			return nil, nil, err
		}
		e := newEdge(b.t, &keyRouter[K, T]{key: key, hash: hash, owner: owners(len(chans), b.t.job.cfg.KeyGroups), bad: bad}, chans)
		return e, e, nil
	}
}

// owners is the task of each key group.
func owners(parallelism, groups int) []uint16 {
	out := make([]uint16, groups)
	for g := range out {
		out[g] = uint16(state.Owner(g, parallelism, groups))
	}
	return out
}

// Processor is user code with keyed state and timers. One value serves one task; its methods are called by that task's
// goroutine only.
type Processor[K comparable, I, O any] interface {
	// Open declares state and timers: state.NewValue[int64](s, "sum"). Called once before anything else.
	Open(s *Setup[K]) error

	// Process handles a record with the state of its key. An error makes the record poison; state it had changed stays
	// changed.
	Process(ctx *Ctx[K], v I, out *Out[O]) error
}

// TimerProcessor is a Processor with timers.
type TimerProcessor[K comparable, O any] interface {
	// OnTimer is called when event time has reached a timer set through Ctx.At, with the state of its key. An error fails
	// the task.
	OnTimer(ctx *Ctx[K], at time.Time, out *Out[O]) error
}

// Closer is a Processor that wants to know that its task ends, also after an error.
type Closer interface{ Close() error }

// Setup is where a Processor declares what it keeps.
type Setup[K comparable] struct {
	Operator    string
	Index       int
	Parallelism int
	Log         *slog.Logger
	scope       *state.Scope[K]
	lists       *state.Lists
	from        *restorer
}

// Restored is the epoch of the checkpoint or savepoint that the task's state comes from; ok is false if the job begins
// without one. It's the same in all tasks of an attempt, and also there for an operator that the epoch didn't have.
func (s *Setup[K]) Restored() (epoch uint64, ok bool) {
	if s.from == nil {
		return 0, false
	}
	return s.from.rec.Epoch, true
}

// Scope is where package state finds the task's keyed state.
func (s *Setup[K]) Scope() *state.Scope[K] { return s.scope }

// Lists is where package state finds the task's operator lists: state that belongs to no key.
func (s *Setup[K]) Lists() *state.Lists { return s.lists }

// Ctx is the context of one record or timer: its key and time. Valid during the call only.
type Ctx[K comparable] struct {
	_ [128]byte // written for each record; not beside another task's
	Moment
	scope  *state.Scope[K]
	timers *state.Timers[K]
	wall   *state.Timers[K] // in processing time; nil if the processor takes none
	task   *task
	late   *atomic.Int64
	_      [128]byte
}

// Moment is where a record stands in time.
type Moment struct{ at, watermark int64 }

// Time is the record's event time; ok is false if it has none.
func (m *Moment) Time() (at time.Time, ok bool) {
	return time.UnixMicro(m.at).UTC(), m.at != source.NoTime
}

// Watermark is the time up to which all records are here; ok is false before the first one.
func (m *Moment) Watermark() (at time.Time, ok bool) {
	return time.UnixMicro(m.watermark).UTC(), m.watermark != minTime
}

// Key is the record's key.
func (c *Ctx[K]) Key() K { return c.scope.Key() }

// CountLate counts the record among those that came too late, in Status and metrics, for operators that have no use for it.
func (c *Ctx[K]) CountLate() { c.late.Add(1) }

// At sets a timer of this key in event time, with the grain of a microsecond. Setting it twice is setting it once; one
// that isn't after the watermark fires with the next.
func (c *Ctx[K]) At(t time.Time) { c.timers.Add(t.UnixMicro()) }

// CancelAt removes a timer of this key.
func (c *Ctx[K]) CancelAt(t time.Time) { c.timers.Delete(t.UnixMicro()) }

// Process runs user code with keyed state and timers. newP is called once a task.
func Process[K comparable, I, O any, P Processor[K, I, O]](k Keyed[K, I], name string, newP func() P) Stream[O] {
	v := add[I](k.s, name, "process")
	v.canPoison = true
	v.build = func(b *builder) (any, error) {
		n, err := newProcessNode[K, I, O](b, v, k, newP())
		return guard[I](b, v, n), err
	}
	return streamOf[O](k.s.p, v, "")
}

func newProcessNode[K comparable, I, O any](b *builder, v *vertex, k Keyed[K, I], p Processor[K, I, O]) (*processNode[K, I, O], error) {
	bad, next, err := poisonAndNext[O](b, v)
	if err != nil {
		return nil, err
	}
	n := &processNode[K, I, O]{keyed: newKeyedOp(b, v, k.hash, k.key), p: p, bad: bad, next: next}
	if err := n.open(b, v); err != nil {
		return nil, fmt.Errorf("open operator %q: %w", v.name, err)
	}
	return n, nil
}

// processNode runs a Processor.
type processNode[K comparable, I, O any] struct {
	keyed  *keyedOp[K, I]
	p      Processor[K, I, O]
	timer  TimerProcessor[K, O]
	onWall func(*Ctx[K], time.Time, *Out[O]) error
	bad    *poisoner
	ctx    Ctx[K]
	out    Out[O]
	next   node[O]
}

func (n *processNode[K, I, O]) open(b *builder, v *vertex) error {
	scope := n.keyed.scope
	setup := &Setup[K]{
		Operator: v.name, Index: b.t.index, Parallelism: v.tasks,
		Log: b.t.log.With("operator", v.name), scope: scope, lists: n.keyed.lists, from: b.t.restore,
	}
	n.ctx = Ctx[K]{
		scope: scope, Moment: Moment{watermark: n.keyed.restored}, task: b.t,
		timers: state.NewTimers[K](setup, "_timers"), late: &n.bad.stats.late,
	}
	n.timer, _ = n.p.(TimerProcessor[K, O])
	if p, ok := n.p.(ProcessingTimerProcessor[K, O]); ok {
		n.onWall, n.ctx.wall = p.OnProcessingTimer, state.NewTimers[K](setup, "_timers_processing")
		b.t.works, b.t.finishers = append(b.t.works, n.fireWall), append(b.t.finishers, n.leaveWall)
		if at, ok := n.ctx.wall.Next(); ok {
			b.t.wakeAt(at)
		}
	}
	if c, ok := n.p.(Closer); ok {
		b.t.closers = append(b.t.closers, c.Close)
	}
	if err := n.p.Open(setup); err != nil {
		return err
	}
	return n.keyed.declared(b.t)
}

func (n *processNode[K, I, O]) push(b *source.Batch[I]) error {
	ks, hs := n.keyed.keysOf(b)
	n.out.begin(len(b.Times) > 0)
	ctx, scope, p, timed := &n.ctx, n.keyed.scope, n.p, len(b.Times) > 0
	ctx.at, n.out.at = source.NoTime, source.NoTime
	for i, v := range b.Values {
		scope.SetKey(ks[i], hs[i])
		if timed {
			ctx.at, n.out.at = b.Times[i], b.Times[i]
		}
		if err := p.Process(ctx, v, &n.out); err != nil {
			if err := n.bad.keyed(v, ks[i], ctx.at, err); err != nil {
				return err
			}
		}
	}
	return n.emit()
}

func (n *processNode[K, I, O]) emit() error {
	if len(n.out.b.Values) == 0 {
		return nil
	}
	return n.next.push(n.out.b)
}

// advance fires the timers that are due, and passes the clock on when all have fired.
func (n *processNode[K, I, O]) advance(c clock) error {
	if c.kind != clockActive && c.kind != clockFinished {
		return n.next.advance(c)
	}
	if c.kind == clockFinished {
		c.at = maxTime
	}
	n.ctx.watermark = max(n.ctx.watermark, c.at)
	n.keyed.reached(c)
	if err := n.fire(c.at); err != nil {
		return err
	}
	return n.next.advance(c)
}

func (n *processNode[K, I, O]) fire(upTo int64) error {
	if next, ok := n.ctx.timers.Next(); !ok || next > upTo {
		return nil
	}
	n.out.begin(true)
	err := n.ctx.timers.Pop(upTo, func(k K, h uint64, at int64) error {
		if n.timer == nil {
			return nil
		}
		n.keyed.scope.SetKey(k, h)
		n.ctx.at, n.out.at = at, at
		return n.timer.OnTimer(&n.ctx, time.UnixMicro(at).UTC(), &n.out)
	})
	if err != nil {
		return userError(n.bad.op, err)
	}
	return n.emit()
}

// keyedOp is what every operator with keyed state has: the scope, the keys of the batch at hand, its part of a snapshot.
type keyedOp[K comparable, I any] struct {
	name     string
	key      func(I) K
	hash     *state.Key[K]
	scope    *state.Scope[K]
	lists    *state.Lists
	restored int64 // watermark
	mark     *int64
	part     *part
	ks       []K
	hs       []uint64
}

// newKeyedOp makes the scope of an operator in a task, registers it for snapshots, and gives it what was restored.
func newKeyedOp[K comparable, I any](b *builder, v *vertex, hash *state.Key[K], key func(I) K) *keyedOp[K, I] {
	first, last := state.Range(b.t.index, v.tasks, b.t.job.cfg.KeyGroups)
	o := &keyedOp[K, I]{name: v.name, key: key, hash: hash, scope: state.NewScope(hash, b.t.job.cfg.KeyGroups, first, last)}
	o.scope.Tick(time.Now())
	o.lists = new(state.Lists)
	part := b.t.addState(v.name, o.scope)
	part.lists = o.lists
	b.t.openDisk(v.name, o.scope)
	if r := b.t.restore; r != nil && b.t.opened == nil {
		r.lists(v.name, b.t.index, v.tasks, o.lists)
		b.t.fail(r.keyed(v.name, b.t.index, o.scope, func(rd store.Reader) error { return o.scope.Restore(rd, rd.Size()) }))
	}
	o.restored, o.mark, o.part = part.watermark, &part.watermark, part
	return o
}

// declared reports what went wrong while state was declared, and state that was restored and not declared.
func (o *keyedOp[K, I]) declared(t *task) error {
	if err := errors.Join(o.scope.Err(), o.lists.Err()); err != nil {
		return err
	}
	for _, note := range o.lists.Notes() {
		t.log.Warn(note, "operator", o.name)
	}
	gone := append(o.scope.Unclaimed(), o.lists.Unclaimed()...)
	if len(gone) == 0 || t.job.cfg.AllowDropped {
		return nil
	}
	return fault.New(fault.DroppedState, "the checkpoint has state %q, which the operator no longer declares", gone).
		At("operator " + o.name).WithFix("declare it again, or start with -allow-dropped to leave it behind")
}

// reached remembers the operator's event time for the next snapshot. An end is none: a drained job may go on.
func (o *keyedOp[K, I]) reached(c clock) {
	if c.kind == clockActive {
		*o.mark = max(*o.mark, c.at)
	}
}

// keysOf computes keys and hashes of a batch, and loads the first slots of large tables so that cache misses overlap.
func (o *keyedOp[K, I]) keysOf(b *source.Batch[I]) ([]K, []uint64) {
	ks, key := o.ks[:0], o.key
	for _, v := range b.Values {
		ks = append(ks, key(v))
	}
	o.ks = ks
	o.hs = o.hash.HashAll(ks, o.hs)
	o.scope.Tick(time.Now())
	o.scope.Warm(o.hs)
	return o.ks, o.hs
}
