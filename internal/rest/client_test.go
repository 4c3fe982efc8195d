package rest_test

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weirline/weirline/internal/rest"
)

func client(t *testing.T, o rest.Options) *rest.Client {
	t.Helper()
	c := rest.New(o)
	t.Cleanup(c.CloseIdle)
	return c
}

func TestDo(t *testing.T) {
	var got *http.Request
	var body []byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, body = r, nil
		var in io.Reader = r.Body
		if r.Header.Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Error(err)
				return
			}
			in = z
		}
		body, _ = io.ReadAll(in)
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, "0123456789")
	}))
	defer srv.Close()
	text := strings.Repeat("hello ", 1000)
	for _, o := range []rest.Options{
		{Username: "ann", Password: "pw"},
		{Token: "tok", Gzip: true},
		{Client: srv.Client(), Header: http.Header{"authorization": {"ApiKey x"}, "x-other": {"1", "2"}, "Host": {"virtual"}}},
	} {
		a, err := client(t, o).Do(t.Context(), rest.Request{Method: "PUT", URL: srv.URL + "/x?y=z", Body: []byte(text)}, 4)
		if err != nil || a.Status != 202 || string(a.Body) != "0123" || !a.Cut {
			t.Errorf("got %+v, %v", a, err)
		}
		if got.Method != "PUT" || got.URL.String() != "/x?y=z" || string(body) != text {
			t.Errorf("server got %s %s with %d bytes", got.Method, got.URL, len(body))
		}
		user, pass, _ := got.BasicAuth()
		auth := got.Header.Get("Authorization")
		switch {
		case o.Username != "" && (user != "ann" || pass != "pw"),
			o.Token != "" && auth != "Bearer tok",
			o.Client != nil && (auth != "ApiKey x" || len(got.Header["X-Other"]) != 2 || got.Host != "virtual"):
			t.Errorf("with %+v the server got headers %v of host %s", o, got.Header, got.Host)
		}
	}
	a, err := client(t, rest.Options{}).Do(t.Context(), rest.Request{Method: "GET", URL: srv.URL}, 10)
	if err != nil || string(a.Body) != "0123456789" || a.Cut {
		t.Errorf("got %+v, %v: the body has just the length that was asked for", a, err)
	}
}

func TestBadRequest(t *testing.T) {
	c := client(t, rest.Options{})
	for _, r := range []rest.Request{
		{Method: "GET", URL: "ftp://host/x"},
		{Method: "GET", URL: "http:///x"},
		{Method: "GET", URL: "http://host:port:port/"},
		{Method: "NO METHOD", URL: "http://host/"},
		{Method: "GET", URL: "http://host/", Header: http.Header{"Key": {"two\nlines"}}},
	} {
		_, err := c.Do(t.Context(), r, 1)
		if _, ok := errors.AsType[*rest.BadRequest](err); !ok {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
	}
}

// TestConnectionsAreKept: an answer that is read only in part leaves its connection usable, unless very much is left.
func TestConnectionsAreKept(t *testing.T) {
	var conns atomic.Int64
	size := 100 << 10
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, size))
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	c := client(t, rest.Options{})
	for range 5 {
		if a, err := c.Do(t.Context(), rest.Request{Method: "GET", URL: srv.URL}, 10); err != nil || !a.Cut {
			t.Fatal(a, err)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections for 5 requests", n)
	}
}

// TestEarlyAnswer: a server that refuses a large body before it has read it, and closes the connection, is heard all the same.
func TestEarlyAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReaderSize(conn, 512))
			_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			_ = conn.(*net.TCPConn).SetLinger(0) // what is unread makes the end a reset
			_ = conn.Close()
		}
	}()
	req := rest.Request{Method: "POST", URL: "http://" + l.Addr().String(), Body: make([]byte, 16<<20)}
	for range 20 {
		c := client(t, rest.Options{})
		var a rest.Answer
		for try := 0; try < 4 && a.Status == 0; try++ { // the network may still be faster than the answer, but seldom
			a, err = c.Do(t.Context(), req, 10)
		}
		if a.Status != http.StatusRequestEntityTooLarge {
			t.Fatalf("the answer wasn't heard: %v", err)
		}
	}
}
