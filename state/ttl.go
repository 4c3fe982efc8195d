package state

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"github.com/weirline/weirline/internal/fault"
)

// TTL makes what a key has in a state end after a while. It's counted in processing time, by the clock that the engine
// reads once a batch, and apart for each key; a key's list or map ends as a whole. What has ended is not seen any more and
// not restored; its memory is given back when it's accessed, or bit by bit between batches.
type TTL struct {
	// After is how long a key's value lives after it was last written. 0 or less = for ever.
	After time.Duration

	// OnRead makes reading lengthen the life too.
	OnRead bool
}

// ttlForm begins the signature of values that are stored behind the time at which they end, 8 bytes of microseconds since
// 1970 UTC.
const ttlForm = "ttl:"

// timed is a value with the time at which it ends, in microseconds.
type timed[V any] struct {
	val   V
	until int64
}

// newSlot declares a single table, with a TTL or without.
func newSlot[K comparable, V any](sc *Scope[K], name string, kd kind, codec Codec[V], ttl []TTL) slot[V] {
	if len(ttl) > 1 {
		sc.refuse(fault.New(fault.BadPipeline, "state %q has %d TTLs", name, len(ttl)))
	}
	if len(ttl) != 1 || ttl[0].After <= 0 {
		return newSingle(sc, name, kd, codec)
	}
	form := timedForm[V]{inner: codec, clock: &sc.clock, after: max(1, ttl[0].After.Microseconds())}
	s := &timedSlot[K, V]{single: newSingle(sc, name, kd, Codec[timed[V]](form)), timedForm: form, onRead: ttl[0].OnRead}
	sc.mortal = append(sc.mortal, s)
	return s
}

// timedSlot is a slot whose values end.
type timedSlot[K comparable, V any] struct {
	*single[K, timed[V]]
	timedForm[V]
	onRead bool

	group, at int   // where compact is
	began     int64 // the pass before
}

func (s *timedSlot[K, V]) ref() *V {
	p, now := s.single.ref(), s.clock.Load()
	if p.until <= now {
		*p = timed[V]{}
	}
	p.until = s.ends(now)
	return &p.val
}

func (s *timedSlot[K, V]) find() *V {
	p, now := s.single.find(), s.clock.Load()
	switch {
	case p == nil:
		return nil
	case p.until <= now:
		s.single.clear()
		return nil
	case s.onRead:
		p.until = s.ends(now)
	}
	return &p.val
}

func (s *timedSlot[K, V]) peek() *V {
	if s.onRead || !s.flat {
		return s.find()
	}
	p := s.single.peek()
	if p != nil && p.until <= s.clock.Load() {
		s.single.clear()
		p = nil
	}
	if p == nil {
		return nil
	}
	return &p.val
}

// compact looks at some slots for values that have ended and removes them. A pass over all groups begins when a quarter of
// the time to live has gone by since the last one began. It returns what is left of the budget, in slots.
func (s *timedSlot[K, V]) compact(now int64, budget int) int {
	if s.group == 0 && s.at == 0 {
		if now < s.began+s.after/4 {
			return budget
		}
		s.began = now
	}
	for ; s.group < s.count; s.group, s.at = s.group+1, 0 {
		if budget = s.compactGroup(now, budget); budget <= 0 {
			return 0
		}
	}
	s.group, s.at = 0, 0
	return budget
}

// compactGroup goes on in the present group. Removing moves later entries up, so that the same slot is looked at again; one
// that moves around the end of the array waits for the next pass.
func (s *timedSlot[K, V]) compactGroup(now int64, budget int) int {
	var zero K
	gr := &s.t.groups[s.group]
	if z := s.t.spares[s.group].zero; s.at == 0 && len(z) > 0 && z[0].val.until <= now {
		s.t.remove(zero, s.keys.slotHash(zero), s.group)
	}
	for ; s.at < len(gr.slots); budget-- {
		if budget <= 0 {
			return 0
		}
		e := &gr.slots[s.at]
		if e.key == zero || e.val.until > now {
			s.at++
			continue
		}
		k := e.key
		if s.t.remove(k, s.keys.slotHash(k), s.group); e.key == k {
			s.at++ // the table keeps a mark
		}
	}
	return budget - 1
}

// Tick sets the clock by which TTLs count, and looks at a part of the states that have one for what has ended. Call it
// before each batch; it does no more than some microseconds of work.
func (s *Scope[K]) Tick(now time.Time) {
	at := now.UnixMicro()
	s.clock.Store(at)
	budget := compactSlots
	for range s.mortal {
		if budget = s.mortal[s.turn%len(s.mortal)].compact(at, budget); budget <= 0 {
			return
		}
		s.turn++
	}
}

// compactSlots is how many slots one Tick looks at.
const compactSlots = 512

// mortals is what a Scope needs of states with a TTL.
type mortals struct {
	clock  atomic.Int64 // microseconds; written by the task, read by whoever writes a snapshot too
	mortal []interface {
		compact(now int64, budget int) int
	}
	turn int // of mortal: which one Tick looks at
}

// timedForm is the codec of values that end.
type timedForm[V any] struct {
	inner Codec[V]
	clock *atomic.Int64
	after int64 // microseconds
}

// ends is when a value ends that is written or read at now.
func (c timedForm[V]) ends(now int64) int64 {
	if now > math.MaxInt64-c.after {
		return math.MaxInt64
	}
	return now + c.after
}

// over tells whether a value has ended.
func (c timedForm[V]) over(v *timed[V]) bool { return v.until <= c.clock.Load() }

func (c timedForm[V]) Signature() string { return ttlForm + c.inner.Signature() }

// reading reads values that had a TTL, and those that had none: they live from now on.
func (c timedForm[V]) reading(was string) (Codec[timed[V]], bool) {
	was, had := strings.CutPrefix(was, ttlForm)
	inner, ok := c.inner.reading(was)
	c.inner = inner
	if !had {
		return agelessForm[V]{c}, ok
	}
	return c, ok
}

func (c timedForm[V]) Append(dst []byte, v *timed[V]) ([]byte, error) {
	return c.inner.Append(binary.LittleEndian.AppendUint64(dst, uint64(v.until)), &v.val)
}

func (c timedForm[V]) Decode(src []byte, v *timed[V]) ([]byte, error) {
	until, src, err := cutUntil(src)
	if err != nil {
		return nil, err
	}
	v.until = until
	return c.inner.Decode(src, &v.val)
}

// agelessForm reads values without a TTL into a state that has one.
type agelessForm[V any] struct{ timedForm[V] }

func (c agelessForm[V]) Decode(src []byte, v *timed[V]) ([]byte, error) {
	v.until = c.ends(c.clock.Load())
	return c.inner.Decode(src, &v.val)
}

// untimedForm reads values with a TTL into a state that has none.
type untimedForm[V any] struct{ Codec[V] }

func (c untimedForm[V]) Decode(src []byte, v *V) ([]byte, error) {
	_, src, err := cutUntil(src)
	if err != nil {
		return nil, err
	}
	return c.Codec.Decode(src, v)
}

// readerFor is the codec that reads what was stored under another signature into values of c.
func readerFor[V any](c Codec[V], was string) (Codec[V], bool) {
	if _, ok := any(c).(interface{ over(*V) bool }); ok || !strings.HasPrefix(was, ttlForm) {
		return c.reading(was)
	}
	inner, ok := c.reading(was[len(ttlForm):])
	return untimedForm[V]{inner}, ok
}

// cutUntil reads the time at which a value ends from the front of src.
func cutUntil(src []byte) (until int64, rest []byte, err error) {
	if len(src) < 8 {
		return 0, nil, fmt.Errorf("decode the end of a TTL: %w", errShort)
	}
	return int64(binary.LittleEndian.Uint64(src)), src[8:], nil
}
