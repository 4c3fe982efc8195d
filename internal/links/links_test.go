package links

import (
	"context"
	"errors"
	"slices"
	"testing"
)

// conn is a connection to a server that notes what becomes of its sessions.
type conn struct {
	*server
	name   string
	broken bool
}

type server struct {
	opened, closed []string
	fenced         [][]string
	refuses        error // it ends no session
}

func (c *conn) Name() string { return c.name }
func (c *conn) Broken() bool { return c.broken }
func (c *conn) Close()       { c.closed = append(c.closed, c.name) }

func (c *conn) Fence(_ context.Context, names []string) error {
	c.fenced = append(c.fenced, slices.Clone(names))
	return c.refuses
}

// pool opens sessions of those names, one after the other.
func pool(names ...string) (*Pool[*conn], *server) {
	s := &server{}
	return &Pool[*conn]{Open: func(context.Context) (*conn, error) {
		n := len(s.opened)
		if n == len(names) {
			return nil, errors.New("no more connections")
		}
		s.opened = append(s.opened, names[n])
		return &conn{server: s, name: names[n]}, nil
	}}, s
}

func take(t *testing.T, p *Pool[*conn], want string) *conn {
	t.Helper()
	c, err := p.Take(t.Context())
	if err != nil || c.name != want {
		t.Fatalf("took %v, %v, want %q", c, err, want)
	}
	return c
}

func wants(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s %q, want %q", what, got, want)
	}
}

func TestLinksAreKept(t *testing.T) {
	p, s := pool("a", "b", "c")
	a, b := take(t, p, "a"), take(t, p, "b")
	p.Give(a, true)
	take(t, p, "a")
	p.Give(b, false) // it works, and isn't wanted: nothing of it can take effect later
	wants(t, "closed", s.closed, "b")
	take(t, p, "c")
	if _, err := p.Take(t.Context()); err == nil {
		t.Error("a fourth link came of nothing")
	}
	if len(s.fenced) > 0 {
		t.Errorf("fenced %q, and nothing broke", s.fenced)
	}
}

func TestWhatBrokeIsFencedOnce(t *testing.T) {
	p, s := pool("a", "b", "c", "d")
	a, b, c := take(t, p, "a"), take(t, p, "b"), take(t, p, "c")
	a.broken, b.broken = true, true
	p.Give(a, true) // the statement has succeeded, but nobody knows about the session
	p.Give(b, false)
	p.Give(c, true)
	wants(t, "closed", s.closed, "a", "b")
	p.Give(take(t, p, "c"), true)
	take(t, p, "c")
	take(t, p, "d")
	if len(s.fenced) != 1 {
		t.Fatalf("fenced %q, want that once", s.fenced)
	}
	wants(t, "fenced", s.fenced[0], "a", "b")
}

func TestFenceThatFails(t *testing.T) {
	p, s := pool("a", "b", "c")
	a := take(t, p, "a")
	a.broken = true
	p.Give(a, false)
	s.refuses = errors.New("not allowed")
	if c, err := p.Take(t.Context()); !errors.Is(err, s.refuses) || c != nil {
		t.Errorf("took %v, %v, while a's statement may still run", c, err)
	}
	wants(t, "closed", s.closed, "a", "b")
	s.refuses = nil
	take(t, p, "c")
	if len(s.fenced) != 2 {
		t.Fatalf("fenced %q, want a again", s.fenced)
	}
	wants(t, "fenced", s.fenced[1], "a")
}

// Sessions behind a pooler have no names: they can't be ended and can't end others.
func TestNamelessLinks(t *testing.T) {
	p, s := pool("", "a", "", "b")
	nameless, a := take(t, p, ""), take(t, p, "a")
	nameless.broken, a.broken = true, true
	p.Give(nameless, false)
	p.Give(a, false)
	wants(t, "closed", s.closed, "", "a")
	take(t, p, "")
	if len(s.fenced) > 0 {
		t.Errorf("a link without a name fenced %q", s.fenced)
	}
	take(t, p, "b")
	if len(s.fenced) != 1 {
		t.Fatalf("fenced %q, want a only", s.fenced)
	}
	wants(t, "fenced", s.fenced[0], "a")
}

func TestClose(t *testing.T) {
	p, s := pool("a", "b", "c")
	a, b := take(t, p, "a"), take(t, p, "b")
	p.Give(a, true)
	p.Give(b, true)
	p.Close()
	wants(t, "closed", s.closed, "a", "b")
	p.Close()
	wants(t, "closed by a second Close", s.closed, "a", "b")
	take(t, p, "c")
}
