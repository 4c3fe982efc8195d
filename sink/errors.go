package sink

import (
	"errors"
	"fmt"
	"time"
)

// Rejected says that the destination refused some records of a batch for good and took all others. The keys are indices
// into the batch.
type Rejected struct{ Errs map[int]error }

func (r *Rejected) Error() string {
	first := -1
	for i := range r.Errs {
		if first < 0 || i < first {
			first = i
		}
	}
	if first < 0 {
		return "no record rejected"
	}
	return fmt.Sprintf("%d records rejected, the first at index %d: %v", len(r.Errs), first, r.Errs[first])
}

// Permanent marks an error that no retry can heal.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanent{err}
}

// IsPermanent says whether err, or anything it wraps, was marked by Permanent.
func IsPermanent(err error) bool {
	_, ok := errors.AsType[*permanent](err)
	return ok
}

type permanent struct{ err error }

func (p *permanent) Error() string { return p.err.Error() }
func (p *permanent) Unwrap() error { return p.err }

// RetryAfter marks an error that may be retried, but not before d has passed (a server's Retry-After, say).
func RetryAfter(err error, d time.Duration) error {
	if err == nil {
		return nil
	}
	return &retryAfter{err, d}
}

// RetryDelay is the delay a RetryAfter error asks for.
func RetryDelay(err error) (d time.Duration, ok bool) {
	if r, is := errors.AsType[*retryAfter](err); is {
		return r.delay, true
	}
	return 0, false
}

type retryAfter struct {
	err   error
	delay time.Duration
}

func (r *retryAfter) Error() string { return r.err.Error() }
func (r *retryAfter) Unwrap() error { return r.err }
