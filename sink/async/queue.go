package async

import "time"

// A node holds one record from Write until it is delivered or handed over as refused. It is in the held list all that
// time, and beside that in a lane (waits), in a batch (on its way) or in the rejects. Nodes are recycled.
type node[T any] struct {
	v            T
	seq          uint64
	size         int
	at           time.Duration // when it was written, since the writer's start: before it, if it was restored
	attempts     int           // batches it was in
	sends        int           // calls of Send it was in
	waits        bool          // it is in its lane
	failed       bool          // it was sent in vain and isn't delivered yet
	asked        bool          // when failed: due is what the destination asked for
	counts       bool          // when failed: sending it again counts against the budget
	due          time.Duration // when failed: not to be sent before, since the writer's start
	err          error         // why it was sent in vain or refused
	lane         *lane[T]
	next         *node[T] // in its lane
	older, newer *node[T] // in the held list
}

// held is the list of all nodes that belong to the writer, oldest first: its order is the snapshot's, and at never falls in it.
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
