// Package links keeps the connections of a sink that sends several batches at once: one for each batch on its way, kept for the
// next, and whatever broke ended in the server before anything is sent again.
//
//	p := &links.Pool[*link]{Open: func(ctx context.Context) (*link, error) { return dial(ctx) }}
//	l, err := p.Take(ctx)
//	...
//	p.Give(l, err == nil)
//
// Take and Give may be called by several goroutines at once, Close when no link is out any more. Open, [Link.Fence] and
// [Link.Close] wait for the server.
package links

import (
	"context"
	"slices"
	"sync"
)

// Link is a connection that one batch at a time uses.
type Link interface {
	// Name is what another link's Fence finds the session by; "" if it can't.
	Name() string

	// Broken says whether the connection has ended, or nobody knows.
	Broken() bool

	// Fence ends the sessions of those names in the server and returns when they are gone.
	Fence(ctx context.Context, names []string) error

	// Close ends the connection.
	Close()
}

// Pool holds the links that nobody uses at the moment. Open is needed.
type Pool[L Link] struct {
	Open func(ctx context.Context) (L, error)

	mu    sync.Mutex
	free  []L
	doubt []string // names of sessions that broke: their last statement may still run
}

// Take returns a link that nobody else uses, a new one if there is none. What broke before has ended in the server by then: a
// statement that still waited there would otherwise take effect later than its repetition, and than what follows that.
func (p *Pool[L]) Take(ctx context.Context) (L, error) {
	l, ok, doubt := p.kept()
	if !ok {
		var err error
		if l, err = p.Open(ctx); err != nil {
			return l, err
		}
	}
	if len(doubt) == 0 || l.Name() == "" {
		return l, nil
	}
	if err := l.Fence(ctx, doubt); err != nil {
		p.Give(l, false)
		var none L
		return none, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doubt = slices.DeleteFunc(p.doubt, func(name string) bool { return slices.Contains(doubt, name) })
	return l, nil
}

func (p *Pool[L]) kept() (l L, ok bool, doubt []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := len(p.free) - 1; last >= 0 {
		l, ok, p.free = p.free[last], true, p.free[:last]
	}
	return l, ok, slices.Clone(p.doubt)
}

// Give takes a link back after its batch. One that isn't kept, or is broken, is closed.
func (p *Pool[L]) Give(l L, keep bool) {
	if !p.keeps(l, keep) {
		l.Close()
	}
}

func (p *Pool[L]) keeps(l L, keep bool) bool {
	broken, name := l.Broken(), l.Name()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case broken && name != "":
		p.doubt = append(p.doubt, name)
	case keep && !broken:
		p.free = append(p.free, l)
		return true
	}
	return false
}

// Close ends all connections and returns when they have.
func (p *Pool[L]) Close() {
	p.mu.Lock()
	free := p.free
	p.free = nil
	p.mu.Unlock()
	for _, l := range free {
		l.Close()
	}
}
