package httpsink

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/rest"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// sender sends batches of one task.
type sender[T any] struct {
	Sink[T]
	rest  *rest.Client
	count func(name string, n int64)
}

// send makes one request of a batch. Records that can't be encoded are left out of it, and rejected when the rest has its results;
// while the rest has none they are sent again with it, and found again.
func (s *sender[T]) send(ctx context.Context, batch []T) error {
	req, refused, err := s.request(batch)
	if err != nil {
		return async.Refuse(err)
	}
	if len(refused) == len(batch) {
		return &async.Partial{Errs: refused}
	}
	err = s.post(ctx, req, len(batch)-len(refused))
	if len(refused) == 0 || sink.IsPermanent(err) {
		return err
	}
	if err == nil {
		return &async.Partial{Errs: refused}
	}
	if some, ok := errors.AsType[*sink.Rejected](err); ok {
		err = refusal(some)
	}
	if some, ok := errors.AsType[*async.Partial](err); ok {
		return merge(some, refused, len(batch))
	}
	return err
}

// refusal says the same as r by a Partial.
func refusal(r *sink.Rejected) error {
	p := &async.Partial{Errs: map[int]error{}}
	for i, err := range r.Errs {
		p.Errs[i] = async.Refuse(err)
	}
	return p
}

// merge puts the results of the records that were sent among those of the ones that weren't.
func merge(sent *async.Partial, refused map[int]error, n int) error {
	all := maps.Clone(refused)
	at := 0
	for i := range n {
		if refused[i] != nil {
			continue
		}
		if err := sent.Errs[at]; err != nil {
			all[i] = err
		}
		at++
	}
	return &async.Partial{Errs: all}
}

// post makes a request with n records.
func (s *sender[T]) post(ctx context.Context, req rest.Request, n int) error {
	keep := keptOfAnswer
	if s.Answer != nil {
		keep = max(keep, s.maxAnswer())
	}
	s.count("bytes", int64(len(req.Body)))
	a, err := s.rest.Do(ctx, req, keep)
	if bad, ok := errors.AsType[*rest.BadRequest](err); ok {
		return async.Refuse(fault.Wrap(fault.SinkRejected, bad, "%s %s", req.Method, req.URL))
	}
	if err != nil {
		s.count("unanswered", 1)
		return err
	}
	s.count(fmt.Sprintf("answers_%dxx", a.Status/100), 1)
	return s.judge(req, a, n)
}

func (s Sink[T]) maxAnswer() int {
	if s.MaxAnswer == 0 {
		return defaultMaxAnswer
	}
	return s.MaxAnswer
}

// request makes the request of a batch. Records in refused aren't part of it.
func (s *sender[T]) request(batch []T) (req rest.Request, refused map[int]error, err error) {
	req = rest.Request{Method: s.Method, URL: s.URL}
	if s.Encode != nil {
		own, err := s.Encode(batch)
		if err != nil {
			return req, nil, err
		}
		if own.Method != "" {
			req.Method = own.Method
		}
		if own.URL != "" {
			req.URL = own.URL
		}
		req.Header, req.Body = own.Header, own.Body
	} else if refused, err = s.encode(batch, &req); err != nil {
		return req, nil, err
	}
	if req.Method == "" {
		req.Method = http.MethodPost
	}
	return req, refused, nil
}

// encode writes records into req, and says which can't be.
func (s *sender[T]) encode(batch []T, req *rest.Request) (refused map[int]error, err error) {
	if s.Header.Get("Content-Type") == "" {
		setHeader(req, "Content-Type", contentTypes[s.Form])
	}
	var body bytes.Buffer
	for i, v := range batch {
		part, err := s.part(v, req)
		if errors.Is(err, errNoShard) {
			return nil, err
		}
		if err != nil {
			if refused == nil {
				refused = map[int]error{}
			}
			refused[i] = async.Refuse(err)
			continue
		}
		switch s.Form {
		case Single:
			req.Body = part
		case JSONArray:
			if body.Len() == 0 {
				body.Grow(len(batch) * (len(part) + 2))
				body.WriteByte('[')
			} else {
				body.WriteByte(',')
			}
			body.Write(part)
		case JSONLines:
			if body.Len() == 0 {
				body.Grow(len(batch) * (len(part) + 2))
			}
			body.Write(part)
			body.WriteByte('\n')
		}
	}
	if s.Form != Single {
		if s.Form == JSONArray {
			body.WriteByte(']')
		}
		req.Body = body.Bytes()
	}
	return refused, nil
}

// part is what a record adds to the body. It sets the request's URL and headers.
func (s *sender[T]) part(v T, req *rest.Request) ([]byte, error) {
	if s.To != nil {
		to, err := s.To(v)
		switch {
		case err != nil:
			return nil, fmt.Errorf("make url: %w", err)
		case req.URL != "" && req.URL != to:
			return nil, errNoShard
		}
		req.URL = to
	}
	if s.ID != nil {
		id := s.ID(v)
		if id == "" {
			return nil, fault.New(fault.SinkRejected, "record has no id").WithFix("let ID give each record one")
		}
		setHeader(req, s.idHeader(), id)
	}
	if s.Body == nil {
		b, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("encode record: %w", err)
		}
		return b, nil
	}
	return s.Body(v)
}

var contentTypes = [...]string{Single: "application/json", JSONArray: "application/json", JSONLines: "application/x-ndjson"}

func setHeader(req *rest.Request, name, value string) {
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set(name, value)
}
