package load

import (
	"sync"
	"time"

	"github.com/weirline/weirline/source"
)

// Watch notes when the first record is made and when half of them are, at the source.
type Watch struct {
	half int64

	mu            sync.Mutex
	first, halved time.Time
}

// NewWatch makes a Watch for a run of so many records.
func NewWatch(records int64) *Watch { return &Watch{half: records / 2} }

// Timing makes fill report to the watch: at a task's first record, and when it passes the half.
func (w *Watch) Timing(fill Filler) Filler { return Timing(w, fill) }

// Timing makes fill report to the watch, as the method does, for records of any type.
func Timing[E any](w *Watch, fill func(from, step int64, n int, out *source.Batch[E])) func(from, step int64, n int, out *source.Batch[E]) {
	return func(from, step int64, n int, out *source.Batch[E]) {
		if from < step {
			w.Begin(time.Now())
		}
		fill(from, step, n, out)
		if from < w.half && from+int64(n)*step >= w.half {
			w.passed(time.Now())
		}
	}
}

// Begin notes the start of the run, if it is the first.
func (w *Watch) Begin(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.first.IsZero() || now.Before(w.first) {
		w.first = now
	}
}

func (w *Watch) passed(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.After(w.halved) {
		w.halved = now
	}
}

// Times are the two moments; ask when the run is over.
func (w *Watch) Times() (first, half time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.first, w.halved
}
