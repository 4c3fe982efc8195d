package async

import "time"

// A node holds one record from Write until it is delivered or handed over as refused. It is in the held list all that
// time, and beside that in a lane (waiting), in a batch (on its way) or in the rejects. Nodes are recycled.
type node[T any] struct {
	v            T
	seq          uint64
	size         int
	at           time.Duration // when it was written, since the writer's start
	attempts     int           // batches it was in
	sends        int           // calls of Send it was in
	failed       bool          // it was sent in vain and isn't delivered yet
	due          time.Duration // when failed: not to be sent before, since the writer's start
	err          error         // why it was refused
	lane         *lane[T]
	next         *node[T] // in its lane
	older, newer *node[T] // in the held list
}

// held is the list of all nodes that belong to the writer, oldest first: its order is the snapshot's.
type held[T any] struct{ oldest, newest *node[T] }

func (h *held[T]) add(n *node[T]) {
	n.older = h.newest
	if h.newest != nil {
		h.newest.newer = n
	} else {
		h.oldest = n
	}
	h.newest = n
}

func (h *held[T]) remove(n *node[T]) {
	if n.older != nil {
		n.older.newer = n.newer
	} else {
		h.oldest = n.newer
	}
	if n.newer != nil {
		n.newer.older = n.older
	} else {
		h.newest = n.older
	}
	n.older, n.newer = nil, nil
}

// place says where a lane is.
type place int

const (
	idle    place = iota // empty, in no heap
	ready                // in the ready heap: may be sent
	delayed              // in the delayed heap until due
	busy                 // a batch with its records is on its way; later ones wait
)

// A lane is a queue of records that go in order. With Key there is one per key that has records, and it is busy while a
// batch with records of it is on its way. Without Key there is the shared one, which is never busy, and one for each
// group of records that failed together and wait for the same moment.
type lane[T any] struct {
	key        string
	head, tail *node[T]
	n, bytes   int
	place      place
	due        time.Duration // when delayed, since the writer's start
	again      bool          // while an answer is booked: a record of it has to be sent again
	next       *lane[T]      // in the free list
}

func (l *lane[T]) push(n *node[T]) {
	n.lane, n.next = l, nil
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
	n.next = nil
	l.n--
	l.bytes -= n.size
	return n
}

// unpop puts a node back at the head.
func (l *lane[T]) unpop(n *node[T]) {
	n.lane, n.next = l, l.head
	if l.tail == nil {
		l.tail = n
	}
	l.head = n
	l.n++
	l.bytes += n.size
}

// laneHeap is a binary heap of lanes.
type laneHeap[T any] struct {
	ls   []*lane[T]
	less func(a, b *lane[T]) bool
}

func (h *laneHeap[T]) push(l *lane[T]) {
	h.ls = append(h.ls, l)
	for i := len(h.ls) - 1; i > 0; {
		up := (i - 1) / 2
		if !h.less(h.ls[i], h.ls[up]) {
			break
		}
		h.ls[i], h.ls[up] = h.ls[up], h.ls[i]
		i = up
	}
}

func (h *laneHeap[T]) pop() *lane[T] {
	top, last := h.ls[0], len(h.ls)-1
	h.ls[0] = h.ls[last]
	h.ls[last] = nil
	h.ls = h.ls[:last]
	for i := 0; ; {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < last; c++ {
			if h.less(h.ls[c], h.ls[least]) {
				least = c
			}
		}
		if least == i {
			return top
		}
		h.ls[i], h.ls[least] = h.ls[least], h.ls[i]
		i = least
	}
}

func olderHead[T any](a, b *lane[T]) bool { return a.head.seq < b.head.seq }

func soonerDue[T any](a, b *lane[T]) bool { return a.due < b.due }
