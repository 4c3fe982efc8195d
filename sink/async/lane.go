package async

import "time"

// place says where a lane is.
type place int

const (
	idle    place = iota // empty, in no heap
	ready                // in its shard's ready heap: may be sent
	delayed              // in its shard's delayed heap until due
	busy                 // a batch with its records is on its way; later ones wait
)

// A lane is a queue of records of one shard that go in order, which is the order of their age. With Key there is one per
// key that has records, and it is busy while a batch with records of it is on its way. Without Key there is the shard's
// shared one, which is never busy, and one for each group of records that failed together and wait for the same moment.
type lane[T any] struct {
	key        string
	shard      *shard[T]
	head, tail *node[T]
	n, bytes   int
	place      place
	at         int           // in its heap
	due        time.Duration // when delayed, since the writer's start
	asked      bool          // when delayed: the destination asked for that delay
	repeats    int           // when delayed: records that count against the budget
	again      bool          // while an answer is booked: a record of it has to be sent again
	next       *lane[T]      // in the free list
}

func (l *lane[T]) push(n *node[T]) {
	n.lane, n.next, n.waits = l, nil, true
	if l.tail != nil {
		l.tail.next = n
	} else {
		l.head = n
	}
	l.tail = n
	l.n++
	l.bytes += n.size
}

func (l *lane[T]) pop() *node[T] {
	n := l.head
	l.head = n.next
	if l.head == nil {
		l.tail = nil
	}
	n.next, n.waits = nil, false
	l.n--
	l.bytes -= n.size
	return n
}

// take takes out a node wherever it is; as a rule it is the first one.
func (l *lane[T]) take(n *node[T]) {
	if l.head == n {
		l.pop()
		return
	}
	before := l.head
	for before.next != n {
		before = before.next
	}
	if before.next = n.next; l.tail == n {
		l.tail = before
	}
	n.next, n.waits = nil, false
	l.n--
	l.bytes -= n.size
}

// unpop puts a node back at the head.
func (l *lane[T]) unpop(n *node[T]) {
	n.lane, n.next, n.waits = l, l.head, true
	if l.tail == nil {
		l.tail = n
	}
	l.head = n
	l.n++
	l.bytes += n.size
}

// failed notes what a record that waits again means for the lane.
func (l *lane[T]) failed(n *node[T]) {
	l.due, l.asked = max(l.due, n.due), l.asked || n.asked
	if n.counts {
		l.repeats++
	}
}

// laneHeap is a binary heap of lanes.
type laneHeap[T any] struct {
	ls   []*lane[T]
	less func(a, b *lane[T]) bool
}

func (h *laneHeap[T]) push(l *lane[T]) {
	l.at = len(h.ls)
	h.ls = append(h.ls, l)
	h.up(l.at)
}

func (h *laneHeap[T]) pop() *lane[T] {
	top := h.ls[0]
	h.remove(top)
	return top
}

// remove takes out a lane, which must be in it.
func (h *laneHeap[T]) remove(l *lane[T]) {
	i, last := l.at, len(h.ls)-1
	h.swap(i, last)
	h.ls[last] = nil
	h.ls = h.ls[:last]
	if i < last {
		h.down(i)
		h.up(i)
	}
}

// sift restores the order below a lane that comes later than it did.
func (h *laneHeap[T]) sift(l *lane[T]) { h.down(l.at) }

// rebuild restores the order whatever has changed.
func (h *laneHeap[T]) rebuild() {
	for i := len(h.ls)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

func (h *laneHeap[T]) up(i int) {
	for i > 0 {
		above := (i - 1) / 2
		if !h.less(h.ls[i], h.ls[above]) {
			return
		}
		h.swap(i, above)
		i = above
	}
}

func (h *laneHeap[T]) down(i int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(h.ls); c++ {
			if h.less(h.ls[c], h.ls[least]) {
				least = c
			}
		}
		if least == i {
			return
		}
		h.swap(i, least)
		i = least
	}
}

func (h *laneHeap[T]) swap(i, j int) {
	h.ls[i], h.ls[j] = h.ls[j], h.ls[i]
	h.ls[i].at, h.ls[j].at = i, j
}

func olderHead[T any](a, b *lane[T]) bool { return a.head.seq < b.head.seq }

func soonerDue[T any](a, b *lane[T]) bool { return a.due < b.due }
