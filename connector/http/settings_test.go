package httpsink_test

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	httpsink "github.com/weirline/weirline/connector/http"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

func TestPreflight(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _, _ := r.BasicAuth()
		switch {
		case user == "eve":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/health" && r.Header.Get("X-Key") == "k":
			_, _ = io.WriteString(w, "fine")
		case r.URL.Path == "/slow":
			<-r.Context().Done()
		case r.URL.Path == "/private":
			w.WriteHeader(http.StatusForbidden)
		case r.Method != http.MethodPost:
			w.WriteHeader(http.StatusMethodNotAllowed)
			_, _ = io.WriteString(w, "post here")
		}
	}))
	defer srv.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	key := http.Header{"X-Key": {"k"}}
	for name, c := range map[string]struct {
		s    httpsink.Sink[event]
		code string
		says string
	}{
		"any answer is fine":       {httpsink.Sink[event]{URL: srv.URL}, "", ""},
		"nothing to ask":           {httpsink.Sink[event]{To: host}, "", ""},
		"off":                      {httpsink.Sink[event]{URL: gone.URL, Check: httpsink.Check{Off: true}}, "", ""},
		"nobody there":             {httpsink.Sink[event]{URL: gone.URL}, fault.Unreachable.ID, "check URL"},
		"hangs":                    {httpsink.Sink[event]{URL: srv.URL + "/slow"}, fault.Unreachable.ID, "check URL"},
		"unknown user":             {httpsink.Sink[event]{URL: srv.URL, Username: "eve", Password: "x"}, fault.AuthFailed.ID, "Username"},
		"health":                   {httpsink.Sink[event]{To: host, Header: key, Check: httpsink.Check{URL: srv.URL + "/health"}}, "", ""},
		"health, not ready":        {httpsink.Sink[event]{To: host, Check: httpsink.Check{URL: srv.URL + "/health"}}, fault.Preflight.ID, "post here"},
		"health, by another way":   {httpsink.Sink[event]{To: host, Check: httpsink.Check{Method: "POST", URL: srv.URL + "/x"}}, "", ""},
		"health, not for this one": {httpsink.Sink[event]{URL: srv.URL, Check: httpsink.Check{URL: srv.URL + "/private"}}, fault.AuthFailed.ID, "403"},
		"health, nobody there":     {httpsink.Sink[event]{URL: srv.URL, Check: httpsink.Check{URL: gone.URL}}, fault.Unreachable.ID, "check Check.URL"},
		"wrong settings":           {httpsink.Sink[event]{}, fault.BadPipeline.ID, "URL is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			err := c.s.Preflight(ctx)
			if fault.CodeOf(err) != c.code || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %s with %q", err, c.code, c.says)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	whole := func([]event) (httpsink.Request, error) { return httpsink.Request{}, nil }
	for want, s := range map[string]httpsink.Sink[event]{
		"URL is missing":               {},
		"both URL and To":              {URL: "http://h/", To: host},
		"URL can't be used":            {URL: "h:80/x"},
		"Form is none":                 {URL: "http://h/", Form: 7},
		"beside Encode":                {URL: "http://h/", Encode: whole, Form: httpsink.JSONArray},
		"ID is set beside Encode":      {URL: "http://h/", Encode: whole, ID: id},
		"can have only one key":        {URL: "http://h/", Form: httpsink.JSONLines, ID: id},
		"IDHeader is set without ID":   {URL: "http://h/", IDHeader: "X-Id"},
		"Batching.MaxBatch is set":     {URL: "http://h/", Batching: async.Sink[event]{MaxBatch: 10}},
		"Rules has an unknown":         {URL: "http://h/", Rules: map[int]httpsink.Outcome{200: 0}},
		"MaxAnswer is negative":        {URL: "http://h/", MaxAnswer: -1},
		"both Token and Username":      {URL: "http://h/", Token: "t", Username: "u"},
		"Check.URL can't be used":      {URL: "http://h/", Check: httpsink.Check{URL: "/health"}},
		"Batching.Send is set":         {URL: "http://h/", Batching: async.Sink[event]{Send: func(context.Context, []event) error { return nil }}},
		"Batching.Repeatable is set":   {URL: "http://h/", Batching: async.Sink[event]{Repeatable: true}},
		"Batching.Shard is set":        {To: host, Form: httpsink.JSONArray, Batching: async.Sink[event]{Shard: id}},
		"MaxInFlight is negative":      {URL: "http://h/", Batching: async.Sink[event]{MaxInFlight: -1}},
		"set Repeatable if the body":   {URL: "http://h/", Form: httpsink.JSONArray, ID: id},
		"leave it out, or set Form to": {URL: "http://h/", Batching: async.Sink[event]{MaxBatch: 2}},
	} {
		if err := s.Validate(); fault.CodeOf(err) != fault.BadPipeline.ID || !strings.Contains(err.Error(), want) {
			t.Errorf("%v doesn't say %q", err, want)
		}
		if _, err := s.Writer(t.Context(), sink.Task{}); err == nil {
			t.Errorf("a writer is made all the same: %s", want)
		}
	}
	if err := (httpsink.Sink[event]{Encode: whole}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestPromise(t *testing.T) {
	for _, c := range []struct {
		s    httpsink.Sink[event]
		want string
		says string
	}{
		{httpsink.Sink[event]{}, sink.AtLeastOnce, "set ID"},
		{httpsink.Sink[event]{ID: id}, sink.Repeatable, "Idempotency-Key"},
		{httpsink.Sink[event]{ID: id, IDHeader: "X-Id"}, sink.Repeatable, "X-Id"},
		{httpsink.Sink[event]{Repeatable: true}, sink.Repeatable, "Repeatable"},
	} {
		promise, why, fix := c.s.Promise()
		if promise != c.want || !strings.Contains(why+fix, c.says) || c.s.Idempotent() != (promise == sink.Repeatable) {
			t.Errorf("%q, %q, %q; idempotent %v; want %s", promise, why, fix, c.s.Idempotent(), c.want)
		}
	}
}

// counts is a Metrics that sums counters.
type counts struct {
	mu sync.Mutex
	n  map[string]int64
}

func (c *counts) Count(name string, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[name] += n
}

func (c *counts) get(name string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[name]
}

func (c *counts) Gauge(string, float64)   {}
func (c *counts) Observe(string, float64) {}

func TestMetrics(t *testing.T) {
	m := &counts{n: map[string]int64{}}
	answers := []int{0, 500, 408, 204}
	s := httpsink.Sink[event]{URL: "http://h/", Batching: impatient, Client: transport(func(*http.Request) (*http.Response, error) {
		status := answers[0]
		answers = answers[1:]
		if status == 0 {
			return nil, io.ErrUnexpectedEOF
		}
		return respond(status, "")
	}).client()}
	w, err := s.Writer(t.Context(), sink.Task{Metrics: m})
	if err != nil {
		t.Fatal(err)
	}
	rejects, err := send(t, w, event{1})
	if cerr := w.Close(); err != nil || cerr != nil || len(rejects) > 0 { // all is reported by then
		t.Fatal(rejects, err, cerr)
	}
	for name, want := range map[string]int64{
		"unanswered": 1, "answers_5xx": 1, "answers_4xx": 1, "answers_2xx": 1, "bytes": 4 * int64(len(`{"N":1}`)), "attempts": 4, "sent": 1,
	} {
		if got := m.get(name); got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
}
