// Package ring is a first-in, first-out queue in a slice that is used again and again. Not safe for concurrent use.
package ring

// Queue is ready for use as its zero value.
type Queue[T any] struct {
	buf  []T
	head int
	n    int
}

// Len is the number of queued values.
func (q *Queue[T]) Len() int { return q.n }

// At is the value that i pops from now would return; i must be below Len.
func (q *Queue[T]) At(i int) T { return q.buf[(q.head+i)&(len(q.buf)-1)] }

// Push appends v.
func (q *Queue[T]) Push(v T) {
	if q.n == len(q.buf) {
		q.grow()
	}
	q.buf[(q.head+q.n)&(len(q.buf)-1)] = v
	q.n++
}

// Pop removes the oldest value; the queue must not be empty.
func (q *Queue[T]) Pop() T {
	var zero T
	v := q.buf[q.head]
	q.buf[q.head] = zero
	q.head = (q.head + 1) & (len(q.buf) - 1)
	q.n--
	return v
}

func (q *Queue[T]) grow() {
	next := make([]T, max(8, 2*len(q.buf)))
	for i := range q.n {
		next[i] = q.buf[(q.head+i)&(len(q.buf)-1)]
	}
	q.buf, q.head = next, 0
}
