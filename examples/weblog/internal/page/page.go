// Package page serves weblog's page: two charts, the busiest pages, and how the job does.
//
//	mux.Handle("/", page.Handler(page.Config{DB: db, Status: pipeline.Status, Speed: 1, Log: log}))
//
// The page asks for api/state each second; that is answered from results.DB and the job's status, computed at most once in
// half a second however many look. Nothing is loaded from elsewhere, and the page's policy forbids it. Page names come from
// the log, so from anybody: they travel as JSON and are shown as text.
package page

import (
	"embed"
	"encoding/json"
	"io/fs"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/examples/weblog/internal/results"
)

// Config is what the page shows. All fields are needed.
type Config struct {
	DB     *results.DB
	Status func() engine.Status
	Speed  float64 // of the log's time, 1 = as fast as the clock
	Log    *slog.Logger
}

//go:embed static
var static embed.FS

const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Handler serves the page.
func Handler(c Config) http.Handler {
	root, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // the name is in this file
	}
	h := &handler{Config: c}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(root))
	mux.HandleFunc("GET /api/state", h.state)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("Cache-Control", "no-store")
		mux.ServeHTTP(w, r)
	})
}

// fresh is how long an answer serves everybody.
const fresh = 500 * time.Millisecond

type handler struct {
	Config

	mu    sync.Mutex // held while an answer is made: others wait for it instead of making their own
	until time.Time
	last  []byte

	samples []sample // oldest first
	down    bool     // Redis didn't answer, and the log says so
}

func (h *handler) state(w http.ResponseWriter, r *http.Request) {
	body, err := h.answer(r)
	if err != nil {
		http.Error(w, "the results can't be read now", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(body) //nolint:errcheck // the reader has gone
}

func (h *handler) answer(r *http.Request) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Now().Before(h.until) {
		return h.last, nil
	}
	s, err := h.collect(r.Context())
	if err != nil {
		if !h.down && r.Context().Err() == nil {
			h.down = true
			h.Log.Warn("the page can't read the results; it goes on trying", "error", err)
		}
		return nil, err
	}
	h.down = false
	if h.last, err = json.Marshal(s); err != nil {
		return nil, err
	}
	h.until = time.Now().Add(fresh)
	return h.last, nil
}
