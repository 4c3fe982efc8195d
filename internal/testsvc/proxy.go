package testsvc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// Proxy is a bad network between clients and a server. It runs in this process.
type Proxy struct {
	// Addr is where clients connect, host:port. It stays the same over Cut and Heal.
	Addr string

	p *toxiproxy.Proxy
}

// StartProxy passes what arrives at listen on to upstream, both as host:port; port 0 of listen is any. Connections are made when
// clients come. The caller ends it with Cut.
func StartProxy(listen, upstream string) (*Proxy, error) {
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := toxiproxy.NewProxy(api, "proxy", listen, upstream)
	if err := p.Start(); err != nil {
		return nil, fmt.Errorf("start proxy at %s: %w", listen, err)
	}
	return &Proxy{Addr: p.Listen, p: p}, nil
}

// Cut breaks all connections and refuses new ones, until Heal.
func (p *Proxy) Cut() { p.p.Stop() }

// Silence swallows what is sent, both ways, on connections old and new, without ending them, until Heal.
func (p *Proxy) Silence() error { return p.poison("timeout", "timeout", 0) }

// Slow delays what is sent, each way by so much, until Heal.
func (p *Proxy) Slow(by time.Duration) error {
	return p.poison("latency", "latency", by.Milliseconds())
}

// poison adds one of Toxiproxy's toxics in both directions.
func (p *Proxy) poison(kind, attribute string, value int64) error {
	for _, way := range []string{"upstream", "downstream"} {
		toxic := fmt.Sprintf(`{"type": %q, "stream": %q, "toxicity": 1, "attributes": {%q: %d}}`, kind, way, attribute, value)
		if _, err := p.p.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
			return fmt.Errorf("proxy at %s: add %s: %w", p.Addr, kind, err)
		}
	}
	return nil
}

// Heal makes the network good again. Connections that were silenced are broken: what they lost is lost.
func (p *Proxy) Heal(ctx context.Context) error {
	p.p.Toxics.ResetToxics(ctx)
	if err := p.p.Start(); err != nil && !errors.Is(err, toxiproxy.ErrProxyAlreadyStarted) {
		return fmt.Errorf("start proxy at %s again: %w", p.Addr, err)
	}
	return nil
}
