package httpsink

import (
	"fmt"
	"net/http"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/rest"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// judge says what an answer means for the n records of its request.
func (s *sender[T]) judge(req rest.Request, a rest.Answer, n int) error {
	switch s.outcome(a.Status) {
	case Done:
		return s.answered(req, a, n)
	case Again:
		d, ok := a.RetryAfter(time.Now())
		if ok || a.Status == http.StatusTooManyRequests {
			return sink.RetryAfter(failure(req, a), d)
		}
		return failure(req, a)
	case Reject:
		return async.Refuse(fault.Wrap(fault.SinkRejected, a.Failure(), "%s %s", req.Method, req.URL))
	}
	return sink.Permanent(failed(req, a))
}

// outcome is what Rules say, or what a status usually means.
func (s *sender[T]) outcome(status int) Outcome {
	if o, ok := s.Rules[status]; ok {
		return o
	}
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return Again
	case http.StatusConflict:
		if s.ID != nil {
			return Again // the first request with this key is still being carried out
		}
		return Reject
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong,
		http.StatusUnprocessableEntity, http.StatusRequestHeaderFieldsTooLarge:
		return Reject
	case http.StatusNotFound, http.StatusGone:
		if s.To != nil {
			return Reject // the record's own URL
		}
		return Fail
	}
	switch status / 100 {
	case 2:
		return Done
	case 5:
		return Again
	}
	return Fail
}

// answered asks Answer about a response.
func (s *sender[T]) answered(req rest.Request, a rest.Answer, n int) error {
	if s.Answer == nil {
		return nil
	}
	if a.Cut || len(a.Body) > s.maxAnswer() {
		return sink.Permanent(fault.New(fault.SinkFailed, "%s %s: the answer is longer than %d bytes", req.Method, req.URL, s.maxAnswer()).
			WithFix("raise MaxAnswer, or send fewer records in a request"))
	}
	return s.Answer(Response{Status: a.Status, Header: a.Header, Body: a.Body}, n)
}

func failure(req rest.Request, a rest.Answer) error {
	return fmt.Errorf("%s %s: %w", req.Method, req.URL, a.Failure())
}

// failed is the error of a task whose request is refused for good.
func failed(req rest.Request, a rest.Answer) error {
	switch {
	case a.Status == http.StatusUnauthorized || a.Status == http.StatusForbidden || a.Status == http.StatusProxyAuthRequired:
		return fault.Wrap(fault.AuthFailed, a.Failure(), "%s %s", req.Method, req.URL).
			WithFix("check Username and Password, Token or Header, and what this user may do")
	case a.Status/100 == 3:
		return fault.Wrap(fault.SinkFailed, a.Failure(), "%s %s is redirected to %q", req.Method, req.URL, a.Header.Get("Location")).
			WithFix("set URL or To to where it leads, if that is right; redirects are not followed")
	}
	return fault.Wrap(fault.SinkFailed, a.Failure(), "%s %s", req.Method, req.URL).
		WithFix("check URL, Method, Header and the form of the body, or say by Rules what this status means")
}
