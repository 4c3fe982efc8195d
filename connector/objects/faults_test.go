package objects

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/weirline/weirline/internal/testsvc"
)

// The requests, as between can tell them apart.
const (
	reqHead     = "head"
	reqCreate   = "create"
	reqPart     = "part"
	reqComplete = "complete"
	reqAbort    = "abort"
	reqUploads  = "uploads"
	reqParts    = "parts"
	reqRules    = "rules"
)

func kindOf(r *http.Request) string {
	q := r.URL.Query()
	switch {
	case r.Method == http.MethodHead:
		return reqHead
	case r.Method == http.MethodPut && q.Has("partNumber"):
		return reqPart
	case r.Method == http.MethodPost && q.Has("uploadId"):
		return reqComplete
	case r.Method == http.MethodPost && q.Has("uploads"):
		return reqCreate
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		return reqAbort
	case r.Method == http.MethodGet && q.Has("uploads"):
		return reqUploads
	case r.Method == http.MethodGet && q.Has("uploadId"):
		return reqParts
	case q.Has("lifecycle"):
		return reqRules
	}
	return r.Method
}

// between stands before the real server. It asks instead about each request, which answers it, or calls pass to let it through.
type between struct {
	addr    string
	mu      sync.Mutex
	seen    map[string]int // requests, by kind
	instead func(kind string, n int, w http.ResponseWriter, pass func())
}

// before starts one that passes everything on until told otherwise, and ends with the test.
func before(t *testing.T, srv *testsvc.S3Server) *between {
	t.Helper()
	to := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: srv.Addr})
		r.Out.Host = r.In.Host // it is signed
	}}
	b := &between{seen: map[string]int{}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind := kindOf(r)
		b.mu.Lock()
		b.seen[kind]++
		n, instead := b.seen[kind], b.instead
		b.mu.Unlock()
		// As a server does, it goes on with a request whose client has gone.
		pass := func() {
			ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
			defer cancel()
			to.ServeHTTP(w, r.WithContext(ctx))
		}
		if instead == nil {
			pass()
			return
		}
		instead(kind, n, w, pass)
	}))
	t.Cleanup(s.Close)
	b.addr = strings.TrimPrefix(s.URL, "http://")
	return b
}

// on sets what is done about the requests of a kind; n counts them from now on. Others pass.
func (b *between) on(kind string, do func(n int, w http.ResponseWriter, pass func())) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = map[string]int{}
	b.instead = func(k string, n int, w http.ResponseWriter, pass func()) {
		if k != kind {
			pass()
			return
		}
		do(n, w, pass)
	}
}

// answers makes every request of a kind fail.
func (b *between) answers(kind string, status int, code string) {
	b.on(kind, func(_ int, w http.ResponseWriter, _ func()) { refuse(w, status, code) })
}

func (b *between) count(kind string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen[kind]
}

// refuse answers as a server does.
func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	if code != "" {
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>as the test wants it</Message></Error>", code)
	}
}
