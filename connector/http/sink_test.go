package httpsink_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	httpsink "github.com/weirline/weirline/connector/http"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
	"github.com/weirline/weirline/sink/sinktest"
)

// event is the record of these tests.
type event struct{ N int }

// service is a web service that keeps the events it takes. With keys it tells repeated requests by Idempotency-Key.
type service struct {
	*httptest.Server
	mu   sync.Mutex
	got  []event
	seen map[string]bool
	gate chan struct{} // closed while it answers
}

func newService(t *testing.T) *service {
	t.Helper()
	s := &service{seen: map[string]bool{}, gate: make(chan struct{})}
	close(s.gate)
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	s.mu.Lock()
	gate := s.gate
	s.mu.Unlock()
	select {
	case <-gate:
	case <-r.Context().Done():
		return
	}
	es, derr := decode(r.Header.Get("Content-Type"), body)
	if err = errors.Join(err, derr); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if key := r.Header.Get("Idempotency-Key"); key == "" || !s.seen[key] {
		s.seen[key] = true
		s.got = append(s.got, es...)
	}
}

func decode(kind string, body []byte) (es []event, err error) {
	if strings.HasPrefix(string(body), "[") {
		return es, json.Unmarshal(body, &es)
	}
	for line := range strings.Lines(string(body)) {
		var e event
		err = errors.Join(err, json.Unmarshal([]byte(line), &e))
		es = append(es, e)
	}
	if kind == "application/json" && len(es) != 1 {
		err = errors.Join(err, fmt.Errorf("%d records", len(es)))
	}
	return es, err
}

func (s *service) read() ([]event, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]event(nil), s.got...), nil
}

func (s *service) block() func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	gate := make(chan struct{})
	s.gate = gate
	return func() { close(gate) }
}

func id(e event) string { return strconv.Itoa(e.N) }

func TestConformance(t *testing.T) {
	for name, s := range map[string]httpsink.Sink[event]{
		"one record, with id": {ID: id},
		"one record":          {},
		"array":               {Form: httpsink.JSONArray, Batching: async.Sink[event]{MaxBatch: 50}},
		"lines, compressed":   {Form: httpsink.JSONLines, Batching: async.Sink[event]{MaxBatch: 50}},
	} {
		t.Run(name, func(t *testing.T) {
			srv := newService(t)
			s.URL = srv.URL
			s.Batching.MaxBuffered, s.Batching.Retry = 500, async.Retry{Base: 10 * time.Millisecond}
			sinktest.Run(t, sinktest.Case[event]{
				Sink: s, Make: func(i int) event { return event{i} }, Read: srv.read, Block: srv.block,
			})
		})
	}
}

func open(t *testing.T, s httpsink.Sink[event]) sink.Writer[event] {
	t.Helper()
	w, err := s.Writer(t.Context(), sink.Task{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// send writes records and waits until each has its result.
func send(t *testing.T, w sink.Writer[event], es ...event) ([]sink.RejectedRecord, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := w.Write(ctx, es)
	if err == nil {
		err = w.Flush(ctx)
	}
	r, ok := sink.As[sink.Rejecter](w)
	if !ok {
		t.Fatal("writer has no Rejects")
	}
	return r.Rejects(), err
}

// transport answers requests without a network, so that a test may run in a bubble.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (f transport) client() *http.Client { return &http.Client{Transport: f} }

func respond(status int, body string, header ...string) (*http.Response, error) {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}, nil
}
