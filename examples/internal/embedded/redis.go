package embedded

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// clockStep is how far the clock that keys expire by jumps at least. One jump looks at every key, so the steps grow
// with their cost, to keep it below a twentieth of the time.
const clockStep = 10 * time.Millisecond

// RedisOptions are the settings of a server. The zero value logs nothing.
type RedisOptions struct {
	// Logger is told what was found in the log at the start. Unset = nobody.
	Logger *slog.Logger
}

// Redis is a server in this process. Its methods may be called from any goroutine.
type Redis struct {
	front *server.Server       // speaks to the clients
	mini  *miniredis.Miniredis // holds the data; it has no listener of its own
	inner *server.Server       // mini's command table
	log   *slog.Logger

	mu       sync.Mutex // held over each command and its log entry, so that the log has the order of execution
	file     *os.File
	seq      uint64
	clock    time.Time // logical time: what mini takes for now
	step     time.Duration
	sessions map[*server.Peer]*session
	broken   error // why the log can't be written any more; ends all service
}

// session is what the log has to know about a connection.
type session struct {
	db    int
	multi bool
	queue [][]string // commands accepted since MULTI
}

// StartRedis starts a server on a free port of 127.0.0.1, with its data in dir, which is created if absent. What an
// earlier server acknowledged in dir is there again; its log is replaced by a shorter one with the same content.
func StartRedis(dir string, o RedisOptions) (*Redis, error) {
	r := &Redis{mini: miniredis.NewMiniRedis(), log: o.Logger, step: clockStep, sessions: map[*server.Peer]*session{}}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	conn, err := r.mini.Dial() // starts it without a listener
	if err == nil {
		err = conn.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("start embedded redis: %w", err)
	}
	r.inner = r.mini.Server()
	if err := r.open(dir); err != nil {
		r.mini.Close()
		return nil, fmt.Errorf("start embedded redis in %s: %w", dir, err)
	}
	if r.front, err = server.NewServer("127.0.0.1:0"); err != nil {
		r.mini.Close()
		_ = r.file.Close()
		return nil, fmt.Errorf("start embedded redis: %w", err)
	}
	r.front.SetPreHook(func(c *server.Peer, cmd string, args ...string) bool {
		r.serve(c, append([]string{cmd}, args...))
		return true
	})
	return r, nil
}

// Addr is the server's address, host:port.
func (r *Redis) Addr() string { return r.front.Addr().String() }

// Close stops the server, cuts its connections and closes the log. It is called once.
func (r *Redis) Close() error {
	r.mini.CtxCancel() // wakes up reads that wait
	r.front.Close()
	r.mini.Close()
	if err := r.file.Close(); err != nil {
		return fmt.Errorf("close embedded redis: %w", err)
	}
	return nil
}

// open loads the log, shortens it and opens it for appending.
func (r *Redis) open(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	path := filepath.Join(dir, "redis.aof")
	entries := 0
	torn, err := readLog(path, func(e entry) error {
		entries++
		return r.replay(e)
	})
	if err != nil {
		return err
	}
	if torn > 0 {
		r.log.Warn("embedded redis: dropped an incomplete entry at the end of the log", "file", path, "bytes", torn)
	}
	r.log.Info("embedded redis: log read", "file", path, "entries", entries)
	r.advance(time.Now())
	if err := r.compact(path, torn); err != nil {
		return err
	}
	r.file, err = os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	return err
}

// advance moves the clock, unless it is too early for the next step, and expires what is due.
func (r *Redis) advance(now time.Time) {
	d := now.Sub(r.clock)
	if d < r.step {
		return
	}
	begin := time.Now()
	r.setClock(now.Truncate(time.Microsecond))
	r.step = max(clockStep, 20*time.Since(begin))
}

func (r *Redis) setClock(now time.Time) {
	d := now.Sub(r.clock)
	r.mini.SetTime(now)
	if !r.clock.IsZero() {
		r.mini.FastForward(d)
	}
	r.clock = now
}
