package httpsink_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	httpsink "github.com/weirline/weirline/connector/http"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// record is a client that keeps what it is asked to send, one line for each request.
func record(headers ...string) (*http.Client, func() []string) {
	var mu sync.Mutex
	var lines []string
	c := transport(func(r *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(r.Body)
		line := fmt.Sprintf("%s %s %s", r.Method, r.URL, body)
		for _, h := range headers {
			line += " " + h + "=" + strings.Join(r.Header[h], ",")
		}
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, strings.ReplaceAll(line, "\n", "|"))
		if err != nil {
			return nil, err
		}
		return respond(http.StatusOK, "")
	}).client()
	return c, func() []string {
		mu.Lock()
		defer mu.Unlock()
		slices.Sort(lines)
		return lines
	}
}

func TestRequests(t *testing.T) {
	odd := func(e event) ([]byte, error) {
		if e.N%2 == 0 {
			return nil, errors.New("even")
		}
		return fmt.Appendf(nil, "<%d>", e.N), nil
	}
	for name, c := range map[string]struct {
		s        httpsink.Sink[event]
		want     []string
		rejected int
	}{
		"one record": {
			httpsink.Sink[event]{URL: "http://h/x"},
			[]string{
				`POST http://h/x {"N":1} Content-Type=application/json Idempotency-Key=`,
				`POST http://h/x {"N":2} Content-Type=application/json Idempotency-Key=`,
				`POST http://h/x {"N":3} Content-Type=application/json Idempotency-Key=`,
			},
			0,
		},
		"url, id and body of the record": {
			httpsink.Sink[event]{
				Method: "PUT", To: func(e event) (string, error) { return fmt.Sprintf("http://h/%d", e.N), nil }, ID: id, Body: odd,
				Header: http.Header{"Content-Type": {"text/xml"}},
			},
			[]string{
				`PUT http://h/1 <1> Content-Type=text/xml Idempotency-Key=1`,
				`PUT http://h/3 <3> Content-Type=text/xml Idempotency-Key=3`,
			},
			1,
		},
		"array": {
			httpsink.Sink[event]{URL: "http://h/", Form: httpsink.JSONArray},
			[]string{`POST http://h/ [{"N":1},{"N":2},{"N":3}] Content-Type=application/json Idempotency-Key=`},
			0,
		},
		"lines without those that can't be encoded": {
			httpsink.Sink[event]{URL: "http://h/", Form: httpsink.JSONLines, Body: odd},
			[]string{`POST http://h/ <1>|<3>| Content-Type=application/x-ndjson Idempotency-Key=`},
			1,
		},
		"whole request": {
			httpsink.Sink[event]{
				URL: "http://h/", Header: http.Header{"Idempotency-Key": {"all"}},
				Encode: func(batch []event) (httpsink.Request, error) {
					return httpsink.Request{Method: "PATCH", Header: http.Header{"Content-Type": {"n"}}, Body: fmt.Append(nil, len(batch))}, nil
				},
			},
			[]string{`PATCH http://h/ 3 Content-Type=n Idempotency-Key=all`},
			0,
		},
		"urls that can't be used": {
			httpsink.Sink[event]{To: func(e event) (string, error) {
				return []string{"", "mailto:x", "http://h/ok"}[e.N-1], []error{errors.New("no url"), nil, nil}[e.N-1]
			}},
			[]string{`POST http://h/ok {"N":3} Content-Type=application/json Idempotency-Key=`},
			2,
		},
		"records without id": {
			httpsink.Sink[event]{URL: "http://h/", ID: func(e event) string { return strings.Repeat("i", e.N-1) }, IDHeader: "Idempotency-key"},
			[]string{
				`POST http://h/ {"N":2} Content-Type=application/json Idempotency-Key=i`,
				`POST http://h/ {"N":3} Content-Type=application/json Idempotency-Key=ii`,
			},
			1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			client, lines := record("Content-Type", "Idempotency-Key")
			c.s.Client = client
			rejects, err := send(t, open(t, c.s), event{1}, event{2}, event{3})
			if err != nil || len(rejects) != c.rejected {
				t.Errorf("got %v and %v, want %d rejected records", err, rejects, c.rejected)
			}
			if got := lines(); !slices.Equal(got, c.want) {
				t.Errorf("requests:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// TestItems: results of single records find their places, also beside records that weren't sent.
func TestItems(t *testing.T) {
	first := true
	s := httpsink.Sink[event]{
		URL: "http://h/", Form: httpsink.JSONArray, Batching: async.Sink[event]{MaxInFlight: 1},
		Body: func(e event) ([]byte, error) {
			if e.N == 1 {
				return nil, errors.New("not this one")
			}
			return fmt.Append(nil, e.N), nil
		},
		Answer: func(r httpsink.Response, n int) error {
			if string(r.Body) != "the answer" || r.Status != http.StatusOK || r.Header.Get("X-Is") != "there" {
				t.Errorf("got %+v", r)
			}
			if !first {
				return nil
			}
			first = false
			if n != 4 {
				t.Errorf("%d records, want 4", n)
			}
			return &async.Partial{Errs: map[int]error{1: async.Refuse(errors.New("bad")), 2: errors.New("later")}}
		},
	}
	var bodies []string
	s.Client = transport(func(r *http.Request) (*http.Response, error) {
		b, err := io.ReadAll(r.Body)
		bodies = append(bodies, string(b))
		if err != nil {
			return nil, err
		}
		return respond(http.StatusOK, "the answer", "X-Is", "there")
	}).client()
	rejects, err := send(t, open(t, s), event{0}, event{1}, event{2}, event{3}, event{4})
	if err != nil || len(rejects) != 2 || rejects[0].Value != (event{1}) || rejects[1].Value != (event{2}) {
		t.Errorf("got %v, %v", rejects, err)
	}
	if want := []string{"[0,2,3,4]", "[3]"}; !slices.Equal(bodies, want) {
		t.Errorf("bodies %q, want %q", bodies, want)
	}
}

// TestItemsRejected: the same, if Answer says it as a writer does.
func TestItemsRejected(t *testing.T) {
	s := httpsink.Sink[event]{
		URL: "http://h/", Form: httpsink.JSONArray,
		Body: func(e event) ([]byte, error) {
			if e.N == 1 {
				return nil, errors.New("not this one")
			}
			return fmt.Append(nil, e.N), nil
		},
		Answer: func(httpsink.Response, int) error {
			return &sink.Rejected{Errs: map[int]error{1: errors.New("nor the second of the request")}}
		},
		Client: transport(func(*http.Request) (*http.Response, error) { return respond(http.StatusOK, "") }).client(),
	}
	rejects, err := send(t, open(t, s), event{0}, event{1}, event{2}, event{3})
	if err != nil || len(rejects) != 2 || rejects[0].Value != (event{1}) || rejects[1].Value != (event{2}) {
		t.Errorf("got %v, %v", rejects, err)
	}
}
