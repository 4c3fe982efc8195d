package opensearch

import (
	"sync"
	"time"
)

// How long a host that failed is left out: twice as long each time, until it answers again.
const (
	leftOutFirst = time.Second
	leftOutMost  = 30 * time.Second
)

// hosts are the addresses of a cluster's nodes, asked in turn. Those that failed are left out for a while, unless all have.
type hosts struct {
	mu   sync.Mutex
	all  []host
	next int
}

type host struct {
	url    string
	fails  int       // in a row
	asleep time.Time // left out until then
}

func newHosts(urls []string) *hosts {
	h := &hosts{}
	for _, u := range urls {
		h.all = append(h.all, host{url: u})
	}
	return h
}

// pick is the host to ask: the next one that isn't left out, or the one that has been for longest.
func (h *hosts) pick(now time.Time) (i int, url string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	best := h.next
	for n := range h.all {
		i := (h.next + n) % len(h.all)
		if !now.Before(h.all[i].asleep) {
			best = i
			break
		}
		if h.all[i].asleep.Before(h.all[best].asleep) {
			best = i
		}
	}
	h.next = (best + 1) % len(h.all)
	return best, h.all[best].url
}

// note tells how a host did. It says whether the host is left out from now on.
func (h *hosts) note(i int, ok bool, now time.Time) (out bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := &h.all[i]
	if ok {
		*t = host{url: t.url}
		return false
	}
	out = !now.Before(t.asleep) // if not, several requests failed together
	if out {
		t.fails++
	}
	t.asleep = now.Add(min(leftOutFirst<<min(t.fails-1, 10), leftOutMost))
	return out
}
