package kafka

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// health tells once when a broker can't be reached, and once when it can again. The client library calls it from its own
// goroutines.
type health struct {
	log   *slog.Logger
	count func(name string, n int64)
	again func() int64 // records a restart would read again; nil if not known

	mu   sync.Mutex
	down map[string]bool // by address: its last connection attempt failed
}

// OnBrokerConnect is called by the client library after each attempt to connect, authentication included.
func (h *health) OnBrokerConnect(meta kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) {
		return
	}
	addr := net.JoinHostPort(meta.Host, strconv.Itoa(int(meta.Port)))
	h.mu.Lock()
	was := h.down[addr]
	if h.down == nil {
		h.down = make(map[string]bool)
	}
	h.down[addr] = err != nil
	h.mu.Unlock()
	switch {
	case err != nil && !was:
		h.count("connection_failures", 1)
		args := []any{"broker", addr, "error", err}
		if h.again != nil {
			args = append(args, "a_restart_would_replay_records", h.again())
		}
		h.log.Warn("kafka broker unreachable, retrying", args...)
	case err != nil:
		h.count("connection_failures", 1)
	case was:
		h.log.Info("kafka broker reachable again", "broker", addr)
	}
}
