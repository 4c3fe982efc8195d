package httpsink_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	httpsink "github.com/weirline/weirline/connector/http"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink/async"
)

func host(event) (string, error) { return "http://h/", nil }

// TestStatuses answers the first request with a status, and all others with 200.
func TestStatuses(t *testing.T) {
	plain := httpsink.Sink[event]{URL: "http://h/"}
	byID := httpsink.Sink[event]{URL: "http://h/", ID: id}
	to := httpsink.Sink[event]{To: host}
	ruled := httpsink.Sink[event]{URL: "http://h/", Rules: map[int]httpsink.Outcome{
		200: httpsink.Done, 404: httpsink.Reject, 400: httpsink.Again, 409: httpsink.Done, 503: httpsink.Fail,
	}}
	const done, again, reject = "done", "again", "reject"
	for _, c := range []struct {
		s        httpsink.Sink[event]
		want     string // or the code of the task's error
		statuses []int
	}{
		{plain, done, []int{200, 201, 202, 204, 207}},
		{plain, again, []int{408, 425, 429, 500, 502, 503, 504, 507, 599}},
		{plain, reject, []int{400, 409, 413, 414, 422, 431}},
		{plain, fault.AuthFailed.ID, []int{401, 403, 407}},
		{plain, fault.SinkFailed.ID, []int{300, 301, 302, 303, 304, 307, 308, 402, 404, 405, 406, 410, 411, 415, 418, 451}},
		{to, reject, []int{400, 404, 410, 422}},
		{byID, again, []int{409, 500}},
		{ruled, done, []int{200, 409}},
		{ruled, again, []int{400}},
		{ruled, reject, []int{404}},
		{ruled, fault.SinkFailed.ID, []int{503}},
	} {
		for _, status := range c.statuses {
			bubble.Test(t, func(t *testing.T) {
				requests := 0
				c.s.Client = transport(func(*http.Request) (*http.Response, error) {
					if requests++; requests > 1 {
						return respond(200, "")
					}
					return respond(status, "the server's words", "Location", "http://elsewhere/")
				}).client()
				rejects, err := send(t, open(t, c.s), event{1})
				got := fault.CodeOf(err)
				switch {
				case err == nil && len(rejects) > 0:
					got = reject
				case err == nil && requests == 2:
					got = again
				case err == nil:
					got = done
				}
				if got != c.want {
					t.Errorf("status %d: %s (%v), want %s", status, got, err, c.want)
				}
				if len(rejects) > 0 {
					err = rejects[0].Err
				}
				if err != nil && (!strings.Contains(err.Error(), "the server's words") || !strings.Contains(err.Error(), "http://h/")) {
					t.Errorf("status %d: %v doesn't say who answered what", status, err)
				}
				if err != nil && status/100 == 3 && !strings.Contains(err.Error(), "http://elsewhere/") {
					t.Errorf("status %d: %v doesn't say where it leads", status, err)
				}
			})
		}
	}
}

// TestRetryAfterIsKept: not before the moment the server names, and soon after it.
func TestRetryAfterIsKept(t *testing.T) {
	for _, status := range []int{429, 503, 500} {
		for _, date := range []bool{false, true} {
			bubble.Test(t, func(t *testing.T) {
				begun := time.Now()
				value := "40"
				if date {
					value = begun.Add(40 * time.Second).UTC().Format(http.TimeFormat)
				}
				var at []time.Duration
				s := httpsink.Sink[event]{URL: "http://h/", Client: transport(func(*http.Request) (*http.Response, error) {
					if at = append(at, time.Since(begun)); len(at) != 2 {
						return respond(200, "")
					}
					return respond(status, "", "Retry-After", value)
				}).client()}
				w := open(t, s)
				for n := range 2 {
					if err := errors.Join(w.Write(t.Context(), []event{{n}}), w.Flush(t.Context())); err != nil {
						t.Fatal(err)
					}
				}
				if len(at) != 3 || at[2] < 40*time.Second || at[2] > 45*time.Second {
					t.Errorf("%d, Retry-After %s: requests at %v", status, value, at)
				}
			})
		}
	}
}

// TestRefusedBatch: of a batch that is refused whole those that are to blame are found, whatever refuses it.
func TestRefusedBatch(t *testing.T) {
	for name, status := range map[string]int{"invalid": 400, "unprocessable": 422, "too large": 413} {
		t.Run(name, func(t *testing.T) {
			srv := newService(t)
			s := httpsink.Sink[event]{URL: srv.URL, Form: httpsink.JSONLines, Batching: async.Sink[event]{MaxInFlight: 1}}
			s.Client = transport(func(r *http.Request) (*http.Response, error) {
				body, err := io.ReadAll(r.Body)
				lines := strings.Split(strings.TrimSpace(string(body)), "\n")
				if err == nil && (slices.Contains(lines, `{"N":13}`) || status == 413 && len(lines) > 7) {
					return respond(status, "one of these is bad")
				}
				r.Body = io.NopCloser(strings.NewReader(string(body)))
				return http.DefaultTransport.RoundTrip(r)
			}).client()
			var es []event
			for n := range 40 {
				es = append(es, event{n})
			}
			rejects, err := send(t, open(t, s), es...)
			if err != nil || len(rejects) != 1 || rejects[0].Value != (event{13}) || !strings.Contains(rejects[0].Err.Error(), "one of these is bad") {
				t.Errorf("got %v, %v", rejects, err)
			}
			got, _ := srv.read()
			if len(got) != 39 || slices.Contains(got, event{13}) {
				t.Errorf("%d records arrived, want 39: %v", len(got), got)
			}
		})
	}
}

// TestLongAnswer: an answer that Answer could see only in part isn't judged.
func TestLongAnswer(t *testing.T) {
	s := httpsink.Sink[event]{URL: "http://h/", Client: transport(func(*http.Request) (*http.Response, error) {
		return respond(200, strings.Repeat("x", 5001))
	}).client(), Answer: func(r httpsink.Response, _ int) error {
		if len(r.Body) != 5001 {
			t.Errorf("%d bytes", len(r.Body))
		}
		return nil
	}}
	for most, code := range map[int]string{5000: fault.SinkFailed.ID, 5001: ""} {
		s.MaxAnswer = most
		if _, err := send(t, open(t, s), event{1}); fault.CodeOf(err) != code {
			t.Errorf("MaxAnswer %d: %v", most, err)
		}
	}
}

// TestHosts: a host that is down holds up nothing that goes elsewhere, and requests with many records have one URL.
func TestHosts(t *testing.T) {
	for _, form := range []httpsink.Form{httpsink.Single, httpsink.JSONArray} {
		bubble.Test(t, func(t *testing.T) {
			down := true
			var mu sync.Mutex
			got := map[string]int{}
			s := httpsink.Sink[event]{
				Form: form,
				To: func(e event) (string, error) {
					return fmt.Sprintf("http://h%d/path?at=http://elsewhere/", e.N%4), nil
				},
				Client: transport(func(r *http.Request) (*http.Response, error) {
					body, err := io.ReadAll(r.Body)
					mu.Lock()
					defer mu.Unlock()
					if err != nil || down && r.URL.Host == "h0" {
						return respond(500, "down")
					}
					got[r.URL.Host] += strings.Count(string(body), `"N"`)
					return respond(200, "")
				}).client(),
			}
			w := open(t, s)
			var es []event
			for n := range 400 {
				es = append(es, event{n})
			}
			if err := w.Write(t.Context(), es); err != nil {
				t.Fatal(err)
			}
			<-time.After(2 * time.Second)
			mu.Lock()
			if want := map[string]int{"h1": 100, "h2": 100, "h3": 100}; !maps.Equal(got, want) {
				t.Errorf("form %d: while h0 is down %v arrived, want %v", form, got, want)
			}
			down = false
			mu.Unlock()
			if rejects, err := send(t, w); err != nil || len(rejects) > 0 || got["h0"] != 100 {
				t.Errorf("form %d: %v, %v, %v arrived", form, rejects, err, got)
			}
		})
	}
}
