package async

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/weirline/weirline/sink"
)

// Retry says when a record that failed is sent again. The delay doubles with each attempt of a record.
type Retry struct {
	Base     time.Duration // delay after the first failure. Unset: 100 ms
	Max      time.Duration // longest delay. Unset: 10 s
	Jitter   float64       // part of the delay that is random, 0 to 1. Unset: 0.5, negative: none
	Attempts int           // sends after which a record counts as refused by the destination. Unset: no limit
}

func (r Retry) withDefaults() Retry {
	if r.Base <= 0 {
		r.Base = 100 * time.Millisecond
	}
	if r.Max <= 0 {
		r.Max = 10 * time.Second
	}
	if r.Jitter == 0 {
		r.Jitter = 0.5
	}
	r.Jitter = min(max(r.Jitter, 0), 1)
	return r
}

// delay is how long to wait after so many attempts; random is between 0 and 1.
func (r Retry) delay(attempts int, random float64) time.Duration {
	d := r.Base
	for range attempts - 1 {
		if d >= r.Max {
			break
		}
		d *= 2
	}
	d = min(d, r.Max)
	return d - time.Duration(r.Jitter*random*float64(d))
}

// Partial is an error of Send: the records at these indices of the batch failed, all others are delivered. An error made
// by Refuse makes its record a refused one, one made by sink.Permanent fails the task, sink.RetryAfter says when to send
// that record again, and after any other it is sent again as usual.
type Partial struct{ Errs map[int]error }

func (p *Partial) Error() string {
	r := sink.Rejected{Errs: p.Errs}
	return fmt.Sprintf("part of a batch failed: %s", r.Error())
}

// Refuse marks the error of a record inside a Partial: the destination refuses the record for good.
func Refuse(err error) error {
	if err == nil {
		return nil
	}
	return &refused{err}
}

type refused struct{ err error }

func (r *refused) Error() string { return r.err.Error() }
func (r *refused) Unwrap() error { return r.err }

// kind is what becomes of a record.
type kind int

const (
	done kind = iota
	again
	reject
	fatal
)

// verdict says what an error of Send means for each record of the batch.
type verdict struct {
	all    kind // for records that have no error of their own
	err    error
	single map[int]error
	refuse bool // errors in single mean refusal
}

func judge(err error, n int) verdict {
	if err == nil {
		return verdict{}
	}
	if sink.IsPermanent(err) {
		return verdict{all: fatal, err: err}
	}
	v := verdict{all: again, err: err}
	if r, ok := errors.AsType[*sink.Rejected](err); ok {
		v = verdict{single: r.Errs, refuse: true}
	} else if p, ok := errors.AsType[*Partial](err); ok {
		v = verdict{single: p.Errs}
	}
	for i := range v.single {
		if i < 0 || i >= n {
			return verdict{all: fatal, err: fmt.Errorf("send batch: answer names record %d of a batch of %d: %w", i, n, err)}
		}
	}
	return v
}

// of is the verdict on record i.
func (v verdict) of(i int) (kind, error) {
	err, failed := v.single[i]
	if !failed || err == nil {
		return v.all, v.err
	}
	if v.refuse {
		return reject, err
	}
	if _, ok := errors.AsType[*refused](err); ok {
		return reject, err
	}
	if sink.IsPermanent(err) {
		return fatal, err
	}
	return again, err
}

// random is the share of the jitter drawn for one failure, so that what failed together is sent again together.
func random() float64 { return rand.Float64() }
