package engine

import (
	"sync"
	"sync/atomic"

	"github.com/weirline/weirline/internal/ring"
)

// itemKind says what an item on a channel is.
type itemKind uint8

const (
	itemBatch    itemKind = iota // records, and the watermark after them
	itemMark                     // a watermark or clock state alone
	itemBarrier                  // everything of an epoch is before it
	itemEnd                      // no more records ever; barriers may still follow
	itemReplayed                 // records that were stored with the epoch are all before it
)

// item is what travels on a channel. Only batches have a payload.
type item struct {
	kind    itemKind
	clock   clock // state of the sender's clock after this item
	epoch   uint64
	payload any // *source.Batch[T], or what a fetcher delivers
	bytes   int64
}

// channel is the bounded queue from one sender (a task or a fetch goroutine) to one task. put never fails: the sender
// asks hasRoom before it begins work whose output it then puts, so the overdraft is the output of one input batch.
type channel struct {
	to      *inbox
	link    *link // of an exchange
	from    int   // index of the sender
	limit   int32
	most    int64        // bytes
	queued  atomic.Int32 // length of q, readable without the lock
	bytes   atomic.Int64 // of what is in q
	starved atomic.Bool  // the sender waits for room
	aside   bool         // its batches are for task.aside, and its clock holds nobody back
	wake    func()       // wakes the sender; nil = it never waits

	sender, receiver string // tasks, as "count/0"

	// Guarded by to.mu.
	q       ring.Queue[item]
	blocked bool // behind a barrier that others have not delivered yet
}

// hasRoom says whether the sender may begin work; if not, the sender is woken once the queue is half empty: a sender that
// is woken for each free place sleeps and wakes for each batch.
func (c *channel) hasRoom() bool {
	if !c.full() {
		return true
	}
	c.starved.Store(true)
	// The receiver may have taken items between the two lines above; then it saw starved unset.
	return !c.full()
}

func (c *channel) full() bool { return c.queued.Load() >= c.limit || c.bytes.Load() >= c.most }

func (c *channel) put(it item) {
	in := c.to
	in.mu.Lock()
	c.q.Push(it)
	c.queued.Add(1)
	c.bytes.Add(it.bytes)
	in.mu.Unlock()
	in.signal()
}

// control is a message to a task from the coordinator or from its own helpers. It runs on the task's goroutine.
type control func(t *task) error

// inbox is everything a task waits for: control messages first, then items of its unblocked channels. One mutex for all of
// it: taking costs the same for any fan-in.
type inbox struct {
	_       [128]byte // the fields below are written by other tasks; keep them off our neighbours' cache lines
	mu      sync.Mutex
	chans   []*channel
	next    int
	control []control
	urgent  atomic.Int32  // length of control
	waiting atomic.Bool   // the task sleeps, or is about to: whoever brings something signals
	hungry  atomic.Bool   // it sleeps because it has no input
	ready   chan struct{} // capacity 1
	_       [128]byte
}

func newInbox() *inbox { return &inbox{ready: make(chan struct{}, 1)} }

// addChannel makes a channel into the inbox, of so many batches and bytes; only before the task runs.
func (in *inbox) addChannel(limit int, most int64, wake func()) *channel {
	c := &channel{to: in, limit: int32(limit), most: most, wake: wake}
	in.chans = append(in.chans, c)
	return c
}

// signal wakes the task if it sleeps.
func (in *inbox) signal() {
	if in.waiting.Load() && in.waiting.CompareAndSwap(true, false) {
		select {
		case in.ready <- struct{}{}:
		default:
		}
	}
}

// tell queues a control message. Never blocks, from any goroutine.
func (in *inbox) tell(m control) {
	in.mu.Lock()
	in.control = append(in.control, m)
	in.urgent.Add(1)
	in.mu.Unlock()
	in.signal()
}

// takeControl removes all queued control messages.
func (in *inbox) takeControl() []control {
	if in.urgent.Load() == 0 {
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	ms := in.control
	in.control = nil
	in.urgent.Store(0)
	return ms
}

// take removes the next item of an unblocked channel, fair among channels.
func (in *inbox) take() (it item, from int, ok bool) {
	in.mu.Lock()
	for range in.chans {
		i := in.next
		if in.next++; in.next == len(in.chans) {
			in.next = 0
		}
		c := in.chans[i]
		if c.blocked || c.q.Len() == 0 {
			continue
		}
		it = c.q.Pop()
		left, bytes := c.queued.Add(-1), c.bytes.Add(-it.bytes)
		in.mu.Unlock()
		if left <= c.limit/2 && bytes <= c.most/2 && c.starved.Load() && c.starved.CompareAndSwap(true, false) {
			c.wake()
		}
		return it, i, true
	}
	in.mu.Unlock()
	return item{}, 0, false
}

// peek is the item that n items of channel i stand before.
func (in *inbox) peek(i, n int) (it item, ok bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if q := &in.chans[i].q; n < q.Len() {
		return q.At(n), true
	}
	return item{}, false
}

// block and unblock hold a channel back while its task aligns barriers.
func (in *inbox) block(i int) {
	in.mu.Lock()
	in.chans[i].blocked = true
	in.mu.Unlock()
}

func (in *inbox) unblockAll() {
	in.mu.Lock()
	for _, c := range in.chans {
		c.blocked = false
	}
	in.mu.Unlock()
}

// hasWork says whether takeControl or (if input is wanted) take would return something.
func (in *inbox) hasWork(input bool) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.control) > 0 {
		return true
	}
	if input {
		for _, c := range in.chans {
			if !c.blocked && c.q.Len() > 0 {
				return true
			}
		}
	}
	return false
}

// wait sleeps until there is something to do or cancel is closed. A signal may be spurious. The sequence against a lost
// wake-up: we announce that we wait, then look once more; whoever brings something puts it first, then looks whether we wait.
func (in *inbox) wait(input bool, more func() bool, cancel <-chan struct{}) {
	in.hungry.Store(input)
	in.waiting.Store(true)
	if in.hasWork(input) || more() {
		in.waiting.Store(false)
		in.hungry.Store(false)
		return
	}
	select {
	case <-in.ready:
	case <-cancel:
	}
	in.waiting.Store(false)
	in.hungry.Store(false)
}
