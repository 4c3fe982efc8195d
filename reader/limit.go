package reader

import (
	"context"
	"time"

	"github.com/weirline/weirline/source"
)

// burst is how much time's worth of records a limited reader may hand over at once after a rest.
const burst = 20 * time.Millisecond

// RateLimit slows a source down to perSecond records (good and rejected ones) over all its tasks; each of them gets its
// share. Unset or negative: no limit. A reader waits inside Read, heeding its context, and asks the inner reader for no
// more than may be handed over, so nothing is read ahead and nothing lost. All powers of src stay visible.
func RateLimit[T any, S source.Split](src source.Source[T, S], perSecond float64) source.Source[T, S] {
	if perSecond <= 0 {
		return src
	}
	return &limitedSource[T, S]{Source: src, perSecond: perSecond}
}

type limitedSource[T any, S source.Split] struct {
	source.Source[T, S]
	perSecond float64
}

func (l *limitedSource[T, S]) Unwrap() any { return l.Source }

func (l *limitedSource[T, S]) Reader(ctx context.Context, t source.Task) (source.Reader[T, S], error) {
	r, err := l.Source.Reader(ctx, t)
	if err != nil {
		return nil, err
	}
	return &limited[T, S]{Reader: r, tokens: newBucket(l.perSecond/float64(max(t.Parallelism, 1)), time.Now())}, nil
}

type limited[T any, S source.Split] struct {
	source.Reader[T, S]
	tokens bucket
}

func (l *limited[T, S]) Unwrap() any { return l.Reader }

func (l *limited[T, S]) Read(ctx context.Context, out *source.Batch[T]) (S, error) {
	var none S
	for {
		wait := l.tokens.wait(time.Now())
		if wait <= 0 {
			break
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return none, ctx.Err()
		}
	}
	used, room := size(out), out.Room()
	out.Limit(used + min(room, int(l.tokens.have)))
	next, err := l.Reader.Read(ctx, out)
	out.Limit(used + room)
	l.tokens.have -= float64(size(out) - used)
	return next, err
}

// bucket holds tokens, one a record. It may be in debt: a reader is allowed a little more than it was asked for.
type bucket struct {
	rate float64 // tokens a second
	full float64 // never more than this
	have float64
	last time.Time
}

func newBucket(rate float64, now time.Time) bucket {
	return bucket{rate: rate, full: max(1, rate*burst.Seconds()), have: 1, last: now}
}

// wait is the time until there is a token, zero if there is one now.
func (b *bucket) wait(now time.Time) time.Duration {
	if passed := now.Sub(b.last).Seconds(); passed > 0 {
		b.have = min(b.full, b.have+passed*b.rate)
		b.last = now
	}
	if b.have >= 1 {
		return 0
	}
	// At least a millisecond, so that high rates come in batches; never so long that a clock step hurts.
	seconds := min((1-b.have)/b.rate, 3600)
	return max(time.Duration(seconds*float64(time.Second))+1, time.Millisecond)
}
