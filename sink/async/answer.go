package async

import (
	"errors"
	"fmt"

	"github.com/weirline/weirline/sink"
)

// Partial is an error of Send: the records at these indices of the batch failed, all others are delivered. An error made
// by Refuse makes its record a refused one, one made by sink.Permanent fails the task, sink.RetryAfter says when to send
// that record again, and after any other it is sent again as usual.
type Partial struct{ Errs map[int]error }

func (p *Partial) Error() string {
	r := sink.Rejected{Errs: p.Errs}
	return fmt.Sprintf("part of a batch failed: %s", r.Error())
}

// Refuse marks an error as a refusal for good. Inside a Partial it is that record which the destination refuses. As the
// error of a whole batch it says that the destination takes a batch whole or not at all and refused this one: it is
// halved until the records to blame are found.
func Refuse(err error) error {
	if err == nil {
		return nil
	}
	return &refused{err}
}

type refused struct{ err error }

func (r *refused) Error() string { return r.err.Error() }
func (r *refused) Unwrap() error { return r.err }

func isRefused(err error) bool {
	_, ok := errors.AsType[*refused](err)
	return ok
}

// kind is what becomes of a record.
type kind int

const (
	done kind = iota
	again
	reject
	fatal
)

// outcome is what becomes of one record, and why.
type outcome struct {
	what kind
	why  error
}

// verdict says what an error of Send means for each record of the batch.
type verdict struct {
	all    kind // for records that have no error of their own
	err    error
	single map[int]error
	refuse bool      // errors in single mean refusal
	each   []outcome // of a batch that went in pieces; the rest doesn't matter then
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
	} else if isRefused(err) {
		v.all = reject
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
	if v.each != nil {
		return v.each[i].what, v.each[i].why
	}
	err, failed := v.single[i]
	if !failed || err == nil {
		return v.all, v.err
	}
	switch {
	case v.refuse, isRefused(err):
		return reject, err
	case sink.IsPermanent(err):
		return fatal, err
	}
	return again, err
}
