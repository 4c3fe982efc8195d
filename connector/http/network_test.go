package httpsink_test

import (
	"bufio"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	httpsink "github.com/weirline/weirline/connector/http"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink/async"
)

// impatient gives up on an answer soon, and tries again soon.
var impatient = async.Sink[event]{Timeout: 200 * time.Millisecond, Retry: async.Retry{Base: time.Millisecond, Max: 10 * time.Millisecond}}

// hijacked takes the connection of a request over, after its body has been read.
func hijacked(t *testing.T, w http.ResponseWriter, r *http.Request) (raw *bufio.ReadWriter, end func()) {
	t.Helper()
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		t.Error(err)
	}
	conn, raw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return raw, func() {}
	}
	return raw, func() {
		_ = raw.Flush()
		_ = conn.Close()
	}
}

// TestNoWholeAnswer: the first two requests get none, the third one does.
func TestNoWholeAnswer(t *testing.T) {
	for name, spoil := range map[string]http.HandlerFunc{
		"no answer": func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // else the end of the connection isn't seen
			<-r.Context().Done()
		},
		"connection closed": func(w http.ResponseWriter, r *http.Request) {
			_, end := hijacked(t, w, r)
			end()
		},
		"reset within the body": func(w http.ResponseWriter, r *http.Request) {
			raw, end := hijacked(t, w, r)
			fmt.Fprint(raw, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
			end()
		},
		"reset within a chunk": func(w http.ResponseWriter, r *http.Request) {
			raw, end := hijacked(t, w, r)
			fmt.Fprint(raw, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhalf")
			end()
		},
		"body that doesn't end": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
		"nonsense": func(w http.ResponseWriter, r *http.Request) {
			raw, end := hijacked(t, w, r)
			fmt.Fprint(raw, "220 mail.example ESMTP\r\n")
			end()
		},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int64
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if requests.Add(1) <= 2 {
					spoil(w, r)
				}
			}))
			defer srv.Close()
			rejects, err := send(t, open(t, httpsink.Sink[event]{URL: srv.URL, Batching: impatient}), event{1})
			if err != nil || len(rejects) > 0 || requests.Load() != 3 {
				t.Errorf("got %v, %v after %d requests, want 3", rejects, err, requests.Load())
			}
		})
	}
}

// TestHugeAnswers: of an answer without end only the beginning is read, and shown.
func TestHugeAnswers(t *testing.T) {
	for status, want := range map[int]int{http.StatusOK: 0, http.StatusBadRequest: 1} {
		var wrote atomic.Int64
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			line := []byte(strings.Repeat("no room for this one ", 1000))
			for wrote.Load() < 1<<30 {
				n, err := w.Write(line)
				wrote.Add(int64(n))
				if err != nil {
					return
				}
			}
		}))
		rejects, err := send(t, open(t, httpsink.Sink[event]{URL: srv.URL}), event{1})
		if err != nil || len(rejects) != want {
			t.Errorf("status %d: %v, %v, want %d rejected", status, rejects, err, want)
		}
		if want > 0 {
			text := rejects[0].Err.Error()
			if len(text) > 700 || !strings.Contains(text, "400 Bad Request: no room for this one") {
				t.Errorf("the cause has %d bytes: %.200s", len(text), text)
			}
		}
		srv.Close() // waits until the server knows that nobody reads on
		if wrote.Load() >= 1<<30 {
			t.Errorf("status %d: all of the answer was read", status)
		}
	}
}

// TestRedirectsAreNotFollowed: neither by a client of our own nor by one that is given.
func TestRedirectsAreNotFollowed(t *testing.T) {
	elsewhere := newService(t)
	srv := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusFound))
	defer srv.Close()
	for _, c := range []*http.Client{nil, srv.Client()} {
		_, err := send(t, open(t, httpsink.Sink[event]{URL: srv.URL, Client: c}), event{1})
		if fault.CodeOf(err) != fault.SinkFailed.ID || !strings.Contains(err.Error(), elsewhere.URL) {
			t.Errorf("got %v", err)
		}
	}
	if got, _ := elsewhere.read(); len(got) > 0 {
		t.Errorf("%v arrived at the other address", got)
	}
}

func TestTLS(t *testing.T) {
	var secure atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && r.ProtoMajor == 2 {
			secure.Add(1)
		}
	}))
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = quiet()
	srv.StartTLS()
	defer srv.Close()
	known := x509.NewCertPool()
	known.AddCert(srv.Certificate())
	right := httpsink.Sink[event]{URL: srv.URL, TLS: &tls.Config{RootCAs: known}}
	if err := right.Preflight(t.Context()); err != nil {
		t.Error(err)
	}
	if rejects, err := send(t, open(t, right), event{1}); err != nil || len(rejects) > 0 || secure.Load() != 2 {
		t.Errorf("got %v, %v; %d of 2 requests came by TLS and HTTP/2", rejects, err, secure.Load())
	}
	err := httpsink.Sink[event]{URL: srv.URL}.Preflight(t.Context())
	if fault.CodeOf(err) != fault.Unreachable.ID || !strings.Contains(err.Error(), "certificate") || !strings.Contains(err.Error(), "check URL and TLS") {
		t.Errorf("an unknown authority: %v", err)
	}
}

// TestCompression: the body arrives compressed, and whole.
func TestCompression(t *testing.T) {
	var got []event
	var size int64
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		size = r.ContentLength
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		if err := json.NewDecoder(z).Decode(&got); err != nil {
			t.Error(err)
		}
	}))
	defer srv.Close()
	var es []event
	for n := range 1000 {
		es = append(es, event{n})
	}
	s := httpsink.Sink[event]{URL: srv.URL, Form: httpsink.JSONArray, Gzip: true, Batching: async.Sink[event]{MaxBatch: 1000}}
	if rejects, err := send(t, open(t, s), es...); err != nil || len(rejects) > 0 {
		t.Fatal(rejects, err)
	}
	if len(got) != 1000 || got[999].N != 999 || size > 5000 {
		t.Errorf("%d records in %d bytes", len(got), size)
	}
}

// TestServerAway: what the service can't take waits, and arrives when it is back.
func TestServerAway(t *testing.T) {
	srv := newService(t)
	var down atomic.Bool
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			_, end := hijacked(t, w, r)
			end()
			return
		}
		srv.ServeHTTP(w, r)
	}))
	defer front.Close()
	w := open(t, httpsink.Sink[event]{URL: front.URL, ID: id, Batching: impatient})
	down.Store(true)
	var es []event
	for n := range 50 {
		es = append(es, event{n})
	}
	if err := w.Write(t.Context(), es); err != nil {
		t.Fatal(err)
	}
	down.Store(false)
	if rejects, err := send(t, w); err != nil || len(rejects) > 0 {
		t.Fatal(rejects, err)
	}
	if got, _ := srv.read(); len(got) != 50 {
		t.Errorf("%d records arrived, want 50", len(got))
	}
}
