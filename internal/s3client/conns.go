package s3client

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// conns are the connections of a client, so that Close ends all of them: one that was being made for a request that was then
// cancelled comes up later, and would be kept for nobody.
type conns struct {
	mu   sync.Mutex
	over bool
	all  map[*conn]bool
}

type conn struct {
	net.Conn
	of *conns
}

// Close ends the connection.
func (c *conn) Close() error {
	c.of.mu.Lock()
	delete(c.of.all, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// watch has a transport's connections noted.
func (cs *conns) watch(t *http.Transport) {
	dial := t.DialContext
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		raw, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c := &conn{raw, cs}
		cs.mu.Lock()
		over := cs.over
		cs.all[c] = true
		cs.mu.Unlock()
		if over {
			_ = c.Close() // nothing was sent
			return nil, net.ErrClosed
		}
		return c, nil
	}
}

func (cs *conns) close() {
	cs.mu.Lock()
	cs.over = true
	all := make([]*conn, 0, len(cs.all))
	for c := range cs.all {
		all = append(all, c)
	}
	cs.mu.Unlock()
	for _, c := range all {
		_ = c.Close() // no request is on it any more
	}
}
