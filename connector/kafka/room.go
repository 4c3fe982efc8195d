package kafka

import "sync/atomic"

// room counts the bytes that wait for the brokers. The task asks for room, the client library gives it back.
type room struct {
	limit   int64
	used    atomic.Int64
	starved atomic.Bool
	wake    atomic.Pointer[func()]
}

func (r *room) onRoom(wake func()) { r.wake.Store(&wake) }

// signal wakes the task.
func (r *room) signal() {
	if wake := r.wake.Load(); wake != nil {
		(*wake)()
	}
}

func (r *room) ask() bool {
	if r.used.Load() < r.limit {
		return true
	}
	r.starved.Store(true)
	return r.used.Load() < r.limit // given back before anybody knew of the wish
}

func (r *room) take(n int64) { r.used.Add(n) }

func (r *room) give(n int64) {
	if r.used.Add(-n) < r.limit/2 && r.starved.Load() && r.starved.Swap(false) {
		r.signal()
	}
}
