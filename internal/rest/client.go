package rest

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// What a client of our own has.
const (
	dialTimeout = 5 * time.Second
	idleTimeout = 90 * time.Second
	pingAfter   = 15 * time.Second // of silence on a connection with HTTP/2 requests on their way
	pingTimeout = 5 * time.Second
	askTimeout  = 2 * time.Second // for the answer to the question whether a large body is welcome; it is sent then all the same
	large       = 64 << 10
	drained     = 256 << 10 // how much of an answer is read so that its connection can be kept
)

// Options are how to connect and who asks.
type Options struct {
	Client   *http.Client // unset: one of our own, by the two settings that follow
	TLS      *tls.Config  // unset: the system's authorities
	Conns    int          // kept open to each host while they are idle. Unset: 32
	Username string       // with Password: basic authentication
	Password string
	Token    string      // bearer token
	Header   http.Header // of each request
	Gzip     bool        // compress bodies
}

// Client makes requests.
type Client struct {
	o    Options
	http *http.Client
	own  bool
	zips sync.Pool // *gzip.Writer

	// wary has the server asked first whether it takes a large body. One that answers early, by 413 say, and closes the connection
	// while it is still being written to may never be heard otherwise.
	wary atomic.Bool
}

// New makes a client. It connects with the first request.
func New(o Options) *Client {
	c := &Client{o: o, own: o.Client == nil}
	var hc http.Client
	if c.own {
		hc.Transport = transport(o)
	} else {
		hc = *o.Client
	}
	if hc.CheckRedirect == nil {
		hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	c.http = &hc
	return c
}

func transport(o Options) *http.Transport {
	conns := o.Conns
	if conns <= 0 {
		conns = 32
	}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:       o.TLS.Clone(),
		TLSHandshakeTimeout:   dialTimeout,
		MaxIdleConnsPerHost:   conns,
		IdleConnTimeout:       idleTimeout,
		ExpectContinueTimeout: askTimeout,
		ForceAttemptHTTP2:     true,
		HTTP2:                 &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
}

// CloseIdle closes the connections of a client of our own. Those in use are closed when their request ends.
func (c *Client) CloseIdle() {
	if c.own {
		c.http.CloseIdleConnections()
	}
}

// Request is what to send.
type Request struct {
	Method string
	URL    string
	Header http.Header // on top of, or instead of, the client's
	Body   []byte      // must not change any more, also after Do: a connection may still be writing it
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte // its beginning, as far as was asked for
	Cut    bool   // there was more
}

// Do makes one request and keeps so many bytes of the answer's body. An error means that no whole answer came: whether the server
// did what it was asked to is unknown. An error of type *[BadRequest] means that nothing was sent.
func (c *Client) Do(ctx context.Context, r Request, keep int) (Answer, error) {
	req, err := c.request(ctx, r)
	if err != nil {
		return Answer{}, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if len(r.Body) > large && ctx.Err() == nil {
			c.wary.Store(true)
		}
		return Answer{}, err
	}
	if len(r.Body) > large && resp.StatusCode/100 == 2 {
		c.wary.Store(false)
	}
	a := Answer{Status: resp.StatusCode, Header: resp.Header}
	a.Body, a.Cut, err = read(resp.Body, keep)
	if cerr := resp.Body.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return Answer{}, fmt.Errorf("read answer with status %d from %s: %w", a.Status, req.URL.Redacted(), err)
	}
	return a, nil
}

// BadRequest is the error of a request that can't be made.
type BadRequest struct{ Err error }

func (b *BadRequest) Error() string { return "make request: " + b.Err.Error() }

// Unwrap returns the cause.
func (b *BadRequest) Unwrap() error { return b.Err }

func (c *Client) request(ctx context.Context, r Request) (*http.Request, error) {
	body, zipped, err := c.body(r.Body)
	if err != nil {
		return nil, &BadRequest{err}
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, r.URL, body)
	if err == nil {
		err = CheckURL(req.URL)
	}
	if err != nil {
		return nil, &BadRequest{err}
	}
	req.Header.Set("User-Agent", "weirline")
	if c.o.Username != "" || c.o.Password != "" {
		req.SetBasicAuth(c.o.Username, c.o.Password)
	}
	if c.o.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.o.Token)
	}
	for _, h := range []http.Header{c.o.Header, r.Header} {
		for k, vs := range h {
			req.Header[http.CanonicalHeaderKey(k)] = vs
		}
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	for k, vs := range req.Header {
		for _, v := range vs {
			if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				return nil, &BadRequest{fmt.Errorf("header %s has the value %q", k, v)}
			}
		}
	}
	if c.wary.Load() && len(r.Body) > large {
		req.Header.Set("Expect", "100-continue")
	}
	if zipped {
		req.Header.Set("Content-Encoding", "gzip")
	}
	return req, nil
}

// body is what goes over the wire; without one it is a nil interface.
func (c *Client) body(b []byte) (body io.Reader, zipped bool, err error) {
	if len(b) == 0 {
		return nil, false, nil
	}
	if !c.o.Gzip {
		return bytes.NewReader(b), false, nil
	}
	z, _ := c.zips.Get().(*gzip.Writer)
	if z == nil {
		z = gzip.NewWriter(io.Discard)
	}
	defer c.zips.Put(z)
	out := bytes.NewBuffer(make([]byte, 0, len(b)/4+64))
	z.Reset(out)
	if _, err := z.Write(b); err != nil {
		return nil, false, err
	}
	if err := z.Close(); err != nil {
		return nil, false, err
	}
	return bytes.NewReader(out.Bytes()), true, nil
}

// read keeps the beginning of an answer and reads on for a bit, so that its connection can be used again.
func read(r io.Reader, keep int) (body []byte, cut bool, err error) {
	body, err = io.ReadAll(io.LimitReader(r, int64(keep)))
	if err != nil || len(body) < keep {
		return body, false, err
	}
	n, err := io.CopyN(io.Discard, r, drained)
	if err == io.EOF {
		err = nil
	}
	return body, n > 0, err
}

// CheckURL says what is wrong with an address to send to.
func CheckURL(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("url %q doesn't begin with http:// or https://", u.Redacted())
	case u.Host == "":
		return fmt.Errorf("url %q has no host", u.Redacted())
	}
	return nil
}
