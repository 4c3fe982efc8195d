package opensearch_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/opensearch"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// guarded is a front of a cluster with users: ann may do everything, bob writes only and may ask nothing, carl may only read, and
// dora may use _bulk but not write to this index.
func guarded(t *testing.T, srv *testsvc.OpenSearchServer) string {
	t.Helper()
	to, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	pass := httputil.NewSingleHostReverseProxy(to)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, pw, _ := r.BasicAuth()
		bulk := strings.HasSuffix(r.URL.Path, "_bulk")
		const no = `{"error":{"type":"security_exception","reason":"no permissions for [indices:data/write/bulk]"},"status":403}`
		switch {
		case pw != "secret":
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, "Unauthorized")
		case user == "bob" && !bulk, user == "carl" && bulk:
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, no)
		case user == "dora" && bulk:
			fmt.Fprintf(w, `{"errors":true,"items":[{"index":%s}]}`, no)
		default:
			pass.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(front.Close)
	return front.URL
}

func TestPreflight(t *testing.T) {
	srv := testsvc.OpenSearch(t)
	index(t, srv, "flight")
	for path, body := range map[string]string{
		"/_index_template/flight": `{"index_patterns": ["flight-new-*"], "template": {"settings": {"number_of_replicas": 0}}}`,
		"/_template/flight":       `{"index_patterns": ["flight-old-*"], "settings": {"number_of_replicas": 0}}`,
		"/_data_stream/x":         "",
	} {
		if body != "" {
			ask(t, srv, http.MethodPut, path, body, nil)
		}
	}
	ask(t, srv, http.MethodPut, "/_index_template/flight-ds", `{"index_patterns": ["flight-ds"], "data_stream": {}}`, nil)
	ask(t, srv, http.MethodPut, "/_data_stream/flight-ds", nil, nil)
	front := guarded(t, srv)
	gone, slow := newNode(t, 0), httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	gone.Close()
	defer slow.Close()
	says := func(body string) []string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }))
		t.Cleanup(s.Close)
		return []string{s.URL}
	}
	real := []string{srv.URL}
	user := func(name string) opensearch.Sink[doc] {
		return opensearch.Sink[doc]{URLs: []string{front}, Index: "flight", Username: name, Password: "secret"}
	}
	for name, c := range map[string]struct {
		s    opensearch.Sink[doc]
		code string
		says string
	}{
		"fine":                     {opensearch.Sink[doc]{URLs: real, Index: "flight"}, "", ""},
		"one of two nodes":         {opensearch.Sink[doc]{URLs: []string{gone.URL, srv.URL}, Index: "flight"}, "", ""},
		"index template":           {opensearch.Sink[doc]{URLs: real, Index: "flight-new-1"}, "", ""},
		"template of the old kind": {opensearch.Sink[doc]{URLs: real, Index: "flight-old-1"}, "", ""},
		"no index, but allowed":    {opensearch.Sink[doc]{URLs: real, Index: "none", AutoCreate: true}, "", ""},
		"no index":                 {opensearch.Sink[doc]{URLs: real, Index: "none"}, fault.Preflight.ID, "AutoCreate"},
		"index by Do":              {opensearch.Sink[doc]{URLs: real, Do: func(doc) (opensearch.Action, error) { return opensearch.Action{}, nil }}, "", ""},
		"data stream":              {opensearch.Sink[doc]{URLs: real, Index: "flight-ds"}, fault.Preflight.ID, "Op Create"},
		"no pipeline":              {opensearch.Sink[doc]{URLs: real, Index: "flight", Pipeline: "p"}, fault.Preflight.ID, `"p"`},
		"nobody there":             {opensearch.Sink[doc]{URLs: []string{gone.URL}, Index: "flight"}, fault.Unreachable.ID, gone.URL},
		"no answer":                {opensearch.Sink[doc]{URLs: []string{slow.URL}, Index: "flight"}, fault.Unreachable.ID, slow.URL},
		"something else":           {opensearch.Sink[doc]{URLs: says("It works!"), Index: "flight"}, fault.Preflight.ID, "It works!"},
		"old elasticsearch":        {opensearch.Sink[doc]{URLs: says(`{"version":{"number":"6.8.23"}}`), Index: "flight"}, fault.Preflight.ID, "6.8.23"},
		"right password":           {user("ann"), "", ""},
		"may write, not ask":       {user("bob"), "", ""},
		"may not use bulk":         {user("carl"), fault.AuthFailed.ID, "no permissions"},
		"may not write here":       {user("dora"), fault.AuthFailed.ID, "no permissions"},
		"wrong password":           {opensearch.Sink[doc]{URLs: []string{front}, Index: "flight", Username: "ann", Password: "guess"}, fault.AuthFailed.ID, "Password"},
		"wrong settings":           {opensearch.Sink[doc]{}, fault.BadPipeline.ID, "Index is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			err := c.s.Preflight(ctx)
			if fault.CodeOf(err) != c.code || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %s with %q", err, c.code, c.says)
			}
		})
	}
	if got, err := read(t.Context(), srv, "flight"); err != nil || len(got) > 0 {
		t.Errorf("the checks left documents: %v, %v", got, err)
	}
}

// TestDeniedWhileRunning: credentials that stop working fail the task instead of being tried for ever.
func TestDeniedWhileRunning(t *testing.T) {
	srv := testsvc.OpenSearch(t)
	front := guarded(t, srv)
	for name, s := range map[string]opensearch.Sink[doc]{
		"password": {Username: "ann", Password: "old"}, "request": {Username: "carl", Password: "secret"}, "item": {Username: "dora", Password: "secret"},
	} {
		s.URLs, s.Index = []string{front}, "denied"
		w := open(t, s)
		write(t, w, doc{"a", 1})
		if rejects, err := flush(t, w); fault.CodeOf(err) != fault.AuthFailed.ID {
			t.Errorf("%s: %v, %v, want %s", name, rejects, err, fault.AuthFailed.ID)
		}
	}
}

// TestForeignAnswers: what isn't an answer of _bulk is no delivery.
func TestForeignAnswers(t *testing.T) {
	for _, body := range []string{"", "{}", "OK", `{"errors":false}`, `{"errors":false,"items":[]}`, `{"errors":true,"items":[{}]}`, `{"errors":false,"items":[{"index":{"status":201}},{"index":{"status":201}}]}`} {
		requests := 0
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if requests++; requests > 1 {
				body = `{"took":1,"errors":false,"items":[{"index":{"status":201}}]}`
			}
			fmt.Fprint(w, body)
		}))
		w := open(t, opensearch.Sink[doc]{URLs: []string{srv.URL}, Index: "x", Batching: impatient})
		write(t, w, doc{"a", 1})
		if rejects, err := flush(t, w); err != nil || len(rejects) > 0 || requests != 2 {
			t.Errorf("answer %q: %v, %v after %d requests, want 2", body, rejects, err, requests)
		}
		srv.Close()
	}
}

func TestValidate(t *testing.T) {
	for want, s := range map[string]opensearch.Sink[doc]{
		"Index is missing":           {},
		`Index "Up" can't`:           {Index: "Up"},
		`Index "a,b" can't`:          {Index: "a,b"},
		`"h:9200" in URLs`:           {Index: "x", URLs: []string{"http://fine", "h:9200"}},
		"both Client and TLS":        {Index: "x", Client: http.DefaultClient, TLS: &tls.Config{}},
		"Batching.Send is set":       {Index: "x", Batching: async.Sink[doc]{Send: func(context.Context, []doc) error { return nil }}},
		"Batching.Repeatable is set": {Index: "x", Batching: async.Sink[doc]{Repeatable: true}},
		"MaxInFlight is negative":    {Index: "x", Batching: async.Sink[doc]{MaxInFlight: -1}},
		"set URLs to addresses":      {Index: "x", URLs: []string{"http://h:9200/?pretty"}},
		"in lower case":              {Index: "log s"},
	} {
		if err := s.Validate(); fault.CodeOf(err) != fault.BadPipeline.ID || !strings.Contains(err.Error(), want) {
			t.Errorf("%v doesn't say %q", err, want)
		}
		if _, err := s.Writer(t.Context(), sink.Task{}); err == nil {
			t.Errorf("a writer is made all the same: %s", want)
		}
	}
}

func TestPromise(t *testing.T) {
	for _, c := range []struct {
		s    opensearch.Sink[doc]
		want string
		says string
	}{
		{opensearch.Sink[doc]{}, sink.AtLeastOnce, "set ID"},
		{opensearch.Sink[doc]{ID: key}, sink.Repeatable, "document with its ID"},
	} {
		promise, why, fix := c.s.Promise()
		if promise != c.want || !strings.Contains(why+fix, c.says) || c.s.Idempotent() != (promise == sink.Repeatable) {
			t.Errorf("%q, %q, %q; idempotent %v; want %s", promise, why, fix, c.s.Idempotent(), c.want)
		}
	}
}
