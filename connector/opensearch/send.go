package opensearch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/rest"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// How much of an answer is kept.
const (
	keptOfAnswer = 1 << 20
	keptOfItem   = 16 << 10 // beside it, for each record
)

// defaultTimeout is that of package async.
const defaultTimeout = 30 * time.Second

// filter leaves of an answer only what is looked at. Each record's status is, so results keep their places.
const filter = "errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by.type,items.*.error.caused_by.reason"

// sender sends batches of one task.
type sender[T any] struct {
	Sink[T]
	rest  *rest.Client
	hosts *hosts
	count func(name string, n int64)
	size  atomic.Int64 // of the last body
}

// send writes a batch by one request.
func (s *sender[T]) send(ctx context.Context, batch []T) error {
	errs := map[int]error{}
	body := make([]byte, 0, s.size.Load()+s.size.Load()/8)
	sent := make([]sentAction, 0, len(batch))
	for i, v := range batch {
		a, id, err := s.action(v)
		begin := len(body)
		if err == nil {
			body, err = appendAction(body, a, id, s.Index)
		}
		if err != nil {
			body, errs[i] = body[:begin], async.Refuse(err)
			continue
		}
		sent = append(sent, sentAction{i, a})
	}
	s.size.Store(int64(len(body)))
	if len(sent) > 0 {
		a, err := s.ask(ctx, body, len(sent))
		if err != nil {
			return err
		}
		if err := s.answered(a, sent, errs); err != nil {
			return err
		}
	}
	if len(errs) > 0 {
		return &async.Partial{Errs: errs}
	}
	return nil
}

// sentAction is an action of a request, with its record's place in the batch.
type sentAction struct {
	i int
	Action
}

func (s *sender[T]) action(v T) (a Action, id string, err error) {
	if s.Do == nil {
		a = Action{Doc: v}
	} else if a, err = s.Do(v); err != nil {
		return a, "", err
	}
	if s.ID != nil {
		id = s.ID(v)
	}
	return a, id, a.check(id, s.ID != nil, s.Index)
}

// ask posts a body to one host after another until one can be connected to.
func (s *sender[T]) ask(ctx context.Context, body []byte, n int) (a rest.Answer, err error) {
	s.count("bytes", int64(len(body)))
	for range s.hosts.all {
		host, base := s.hosts.pick(time.Now())
		req := rest.Request{Method: http.MethodPost, URL: s.bulkURL(base), Header: ndjson, Body: body}
		a, err = s.rest.Do(ctx, req, keptOfAnswer+n*keptOfItem)
		s.noted(ctx, host, a, err)
		if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" && ctx.Err() == nil {
			continue
		}
		break
	}
	if err != nil {
		s.count("unanswered", 1)
		return a, err
	}
	return a, nil
}

// noted leaves a host out that doesn't answer as it should. A request that was cancelled says nothing about it.
func (s *sender[T]) noted(ctx context.Context, host int, a rest.Answer, err error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	sick := err != nil || a.Status == http.StatusBadGateway || a.Status == http.StatusServiceUnavailable || a.Status == http.StatusGatewayTimeout
	if s.hosts.note(host, !sick, time.Now()) {
		s.count("hosts_left_out", 1)
	}
}

var ndjson = http.Header{"Content-Type": {"application/x-ndjson"}}

func (s *sender[T]) bulkURL(base string) string {
	u := strings.TrimSuffix(base, "/")
	if s.Index != "" {
		u += "/" + url.PathEscape(s.Index)
	}
	u += "/_bulk?filter_path=" + filter
	if limit := cmp.Or(s.Batching.Timeout, defaultTimeout); limit > 0 {
		u += fmt.Sprintf("&timeout=%dms", max(limit.Milliseconds()/3, 1)) // of waiting for a shard that is away, so that an answer comes
	}
	if s.Pipeline != "" {
		u += "&pipeline=" + url.QueryEscape(s.Pipeline)
	}
	return u
}

// answered judges an answer, and puts the errors of single records into errs. An error is that of the whole batch.
func (s *sender[T]) answered(a rest.Answer, sent []sentAction, errs map[int]error) error {
	if a.Status == http.StatusOK {
		return s.items(a, sent, errs)
	}
	err := a.Failure()
	switch a.Status {
	case http.StatusTooManyRequests:
		d, _ := a.RetryAfter(time.Now())
		return sink.RetryAfter(err, d)
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		return async.Refuse(fault.Wrap(fault.SinkRejected, err, "write %d records by _bulk", len(sent)))
	case http.StatusUnauthorized, http.StatusForbidden:
		return sink.Permanent(s.denied(err))
	case http.StatusRequestTimeout:
		return err
	}
	if a.Status >= 500 {
		if d, ok := a.RetryAfter(time.Now()); ok {
			return sink.RetryAfter(err, d)
		}
		return err
	}
	return sink.Permanent(fault.Wrap(fault.SinkFailed, err, "post to _bulk").WithFix("check URLs, Pipeline and Header"))
}

func (s Sink[T]) denied(err error) error {
	return fault.Wrap(fault.AuthFailed, err, "write to %s", strings.Join(s.urls(), ", ")).
		WithFix("check Username and Password, or Header, and that this user may write to the index")
}
