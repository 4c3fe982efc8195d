package async

import (
	"math"
	"time"
)

const (
	firstWindow = 4   // batches on their way before anything is known
	tolerance   = 2.0 // how many times the latency without queueing is no sign of queueing
)

// window is how many batches may be on their way at once. As long as it is full and the destination answers about as fast
// as it does with few of them, it grows by its square root a round, a round being as many answers as it is wide. Answers
// that become slow shrink it, failures halve it. While it isn't full it is no limit, and answers change nothing.
type window struct {
	limit float64
	most  float64       // the ceiling
	base  time.Duration // latency without queueing, as far as known
	short time.Duration // latency of late
	last  time.Duration // latency of the last answer

	sum    time.Duration // of this round's answers
	n      int           // of them
	halved time.Duration // when a failure halved it last
	failed bool          // nothing was delivered since
	before float64       // how wide it was before the failures
}

func newWindow(most int, fixed bool) window {
	w := window{most: float64(most), limit: float64(min(most, firstWindow)), halved: -1}
	if fixed {
		w.limit = w.most
	}
	return w
}

func (w *window) size() int { return int(w.limit) }

// answered books the latency of a batch. Full says that no other could have been sent beside it.
func (w *window) answered(took time.Duration, full bool) {
	w.failed, w.last = false, took
	if !full {
		return
	}
	w.sum += took
	if w.n++; w.n < w.size() {
		return
	}
	mean := w.sum / time.Duration(w.n)
	w.sum, w.n = 0, 0
	if w.short == 0 {
		w.short = mean
	}
	w.short = (w.short + mean) / 2
	switch {
	case w.limit <= firstWindow:
		w.base = w.short // so few don't queue
	case w.short < w.base:
		w.base -= (w.base - w.short) / 4
	}
	if slow := float64(w.short) / float64(max(w.base, 1)); slow > tolerance {
		w.limit = max(1, w.limit*max(0.5, tolerance/slow))
		w.short = 0 // what is still queueing doesn't count twice
		return
	}
	w.limit = min(w.most, w.limit+math.Sqrt(w.limit))
}

// fail halves the window, once for all batches that were on their way together. Sent is when the batch had gone.
func (w *window) fail(now, sent time.Duration) {
	if sent <= w.halved {
		return
	}
	if !w.failed {
		w.failed, w.before = true, w.limit
	}
	w.halved, w.limit = now, max(1, w.limit/2)
	w.sum, w.n = 0, 0
}

// heal gives back the width from before the failures.
func (w *window) heal() { w.limit = max(w.limit, w.before) }
