package cli

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
)

// web is the HTTP server of a running job.
type web struct {
	srv  *http.Server
	done chan struct{}
}

// serve starts HTTP.
func (c *command) serve(p *engine.Pipeline, pl engine.Plan) (*web, error) {
	ln, err := listen(c.opts.addr)
	if err != nil {
		return nil, err
	}
	c.log.Info("http", "addr", ln.Addr().String())
	if ap, err := netip.ParseAddrPort(ln.Addr().String()); err == nil && !ap.Addr().IsLoopback() {
		c.log.Warn("http has no authentication and can be reached from other machines", "addr", ln.Addr().String())
	}
	w := &web{done: make(chan struct{}), srv: &http.Server{
		Handler: guarded(c.mux(p, pl)), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(c.log.Handler(), slog.LevelWarn),
	}}
	go func() {
		defer close(w.done)
		if err := w.srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			c.log.Warn("http ended; the job goes on", "error", err)
		}
	}()
	return w, nil
}

// close lets requests that are being answered end, for a second.
func (w *web) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if w.srv.Shutdown(ctx) != nil {
		w.srv.Close() //nolint:errcheck // connections that didn't end in time
	}
	<-w.done
}

// listen opens the address of -addr. One without a host is this machine only.
func listen(addr string) (net.Listener, error) {
	full := addr
	if !strings.Contains(addr, ":") {
		full = ":" + addr
	}
	if strings.HasPrefix(full, ":") {
		full = "127.0.0.1" + full
	}
	ln, err := net.Listen("tcp", full)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fault.Wrap(fault.PortTaken, err, "flag -addr=%s", addr)
	case err != nil:
		return nil, fault.Wrap(fault.Usage, err, "flag -addr=%s", addr).WithFix("give -addr as host:port, :port or port")
	}
	return ln, nil
}

// heldInstead looks whether the address is taken because another copy runs, which is the better thing to say.
func (c *command) heldInstead(err error) error {
	dir := c.env.Config.Dir
	if fault.CodeOf(err) != fault.PortTaken.ID || dir == "" {
		return err
	}
	if _, missing := os.Stat(filepath.Join(dir, "claim")); missing != nil {
		return err
	}
	d, held := store.Open(dir, store.Options{Job: c.env.Config.Name})
	if held == nil {
		return errors.Join(err, d.Close())
	}
	if fault.CodeOf(held) == fault.ClaimHeld.ID {
		return held
	}
	return err
}

func (c *command) mux(p *engine.Pipeline, pl engine.Plan) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", healthz)
	mux.HandleFunc("GET /readyz", c.readyz(p))
	mux.HandleFunc("GET /status", c.status(p, pl))
	mux.HandleFunc("GET /status.json", c.statusJSON(p))
	if c.opts.pprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", http.NotFound) // the command line is nobody's business
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	if c.app.Handlers != nil {
		c.app.Handlers(mux, p)
	}
	return mux
}

// guarded refuses names that only a page of somebody else could have sent a browser to this machine under, and keeps
// browsers from guessing types.
func guarded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && isLoopback(local) && !isLocalName(r.Host) {
			http.Error(w, "unknown host; use 127.0.0.1 or localhost", http.StatusMisdirectedRequest)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func isLoopback(a net.Addr) bool {
	ap, err := netip.ParseAddrPort(a.String())
	return err == nil && ap.Addr().Unmap().IsLoopback()
}

// isLocalName says whether a Host header is an address or localhost, and not a name that anybody may point here.
func isLocalName(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil || host == "localhost" || host == ""
}
