package sqlsinktest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirline/weirline/internal/sqlsink"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// Server is one that runs.
type Server interface {
	Exec(ctx context.Context, sql string) error
	Query(ctx context.Context, sql string) ([]string, error)
	Kill()
	Restart(ctx context.Context) error
}

// Sink is what a connector's sink is.
type Sink interface {
	sink.Sink[Point]
	sink.Idempotent
	sink.Qualified
	sink.Preflight
	Validate() error
}

// Settings are a sink's.
type Settings struct {
	sqlsink.Sink[Point]
	URL string
}

// Kit is what the tests know of a kind of server.
type Kit struct {
	Start func(t *testing.T) Server             // a server of the test's own
	Share func(t *testing.T) Server             // one that other tests use too, and nobody harms
	URL   func(s Server, user string) string    // of a server, for its administrator if the user is ""
	Sink  func(o Settings) Sink                 // the connector's
	Hold  func(t *testing.T, s Server) *Session // begins a transaction; no deadlock makes it the victim

	Lock     string            // a table, %s, against writes
	Waiting  string            // selects the sessions in which a sink's statement waits for a lock, or at least hasn't ended
	ReadOnly map[bool]string   // makes the server so, and ends that
	Says     map[string]string // what the server says of a row that breaks a "check", is "unique" no more, or exceeds a "length"
	BadURL   [2]string         // one that is refused, and what is said then
	Nowhere  string            // one that is fine
}

// Session is a client's.
type Session struct {
	Exec    func(sql string)
	Release func() // ends it; may be called again
}

// hold has a session that has run a statement.
func (k Kit) hold(t *testing.T, s Server, sql string) *Session {
	t.Helper()
	h := k.Hold(t, s)
	h.Exec(sql)
	return h
}

// upserts are settings for points; those with the name "gone" are removed.
func (k Kit) upserts(url, table string) Settings {
	return Settings{URL: url, Sink: sqlsink.Sink[Point]{
		Target: sqlsink.Target{Table: table, Columns: []string{"id", "name"}, Keys: []string{"id"}},
		Row:    Point.Row,
		Delete: func(p Point) bool { return p.Name == "gone" },
		Batching: async.Sink[Point]{
			MaxBuffered: 500, Retry: async.Retry{Base: 5 * time.Millisecond, Max: 50 * time.Millisecond}, // repetitions come soon
		},
	}}
}

func (k Kit) appends(url, table string) Settings {
	o := k.upserts(url, table)
	o.Keys, o.Delete = nil, nil
	return o
}

// fresh are settings for a new table.
func (k Kit) fresh(t *testing.T, s Server) Settings {
	return k.upserts(k.URL(s, ""), NewTable(t, s, ""))
}

func (k Kit) open(t *testing.T, o Settings) (sink.Writer[Point], *Counts) {
	t.Helper()
	return Open(t, k.Sink(o))
}

// Open makes a writer that ends with the test.
func Open[T any](t *testing.T, s sink.Sink[T]) (sink.Writer[T], *Counts) {
	t.Helper()
	c := &Counts{m: map[string]int64{}}
	w, err := s.Writer(t.Context(), task(c))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w, c
}

// Write writes records.
func Write[T any](t *testing.T, w sink.Writer[T], batch ...T) {
	t.Helper()
	if err := w.Write(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
}

// Flush waits until all is written or refused, and returns what is refused.
func Flush[T any](t *testing.T, w sink.Writer[T]) []sink.RejectedRecord {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := w.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	r, ok := sink.As[sink.Rejecter](w)
	if !ok {
		t.Fatal("the writer has no Rejects")
	}
	return r.Rejects()
}

// Counts are a task's metrics, for writers that work in the background.
type Counts struct {
	mu sync.Mutex
	m  map[string]int64
}

// Count adds.
func (c *Counts) Count(name string, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.m[name] += n
}

// Gauge does nothing.
func (*Counts) Gauge(string, float64) {}

// Observe does nothing.
func (*Counts) Observe(string, float64) {}

// String shows all of them.
func (c *Counts) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprint(c.m)
}

// Of is one of them.
func (c *Counts) Of(name string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.m[name]
}

// Retries is how many records were sent again, for whichever cause.
func (c *Counts) Retries() (n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, of := range c.m {
		if strings.HasPrefix(name, "retries") {
			n += of
		}
	}
	return n
}
