package opensearch_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/opensearch"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// TestOutages writes while the network is cut, silent and slow, and the server is killed and restarted. Nothing may be lost, and each
// document must end with its last value, also after another kill.
func TestOutages(t *testing.T) {
	srv := testsvc.NewOpenSearch(t, testsvc.OpenSearchOptions{})
	index(t, srv, "outages")
	net, err := testsvc.StartProxy("127.0.0.1:0", strings.TrimPrefix(srv.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer net.Cut()
	const keys, rounds = 40, 200
	w := open(t, opensearch.Sink[doc]{
		URLs: []string{"http://" + net.Addr}, Index: "outages", ID: key,
		Batching: async.Sink[doc]{
			MaxBatch: 20, Timeout: 500 * time.Millisecond, Retry: async.Retry{Base: 10 * time.Millisecond, Max: 100 * time.Millisecond},
		},
	})
	heal := func() error { return net.Heal(t.Context()) }
	harm := map[int]struct{ do, mend func() error }{
		30:  {func() error { net.Cut(); return nil }, heal},
		60:  {net.Silence, heal},
		90:  {func() error { return net.Slow(50 * time.Millisecond) }, heal},
		120: {func() error { srv.Kill(); return nil }, func() error { return srv.Restart(t.Context()) }},
		160: {srv.Pause, srv.Resume},
	}
	var mending sync.WaitGroup
	for n := range rounds {
		var batch []doc
		for k := range keys {
			batch = append(batch, doc{strconv.Itoa(k), n})
		}
		write(t, w, batch...)
		if h := harm[n]; h.do != nil {
			mending.Wait()
			if err := h.do(); err != nil {
				t.Fatal(err)
			}
			mending.Go(func() {
				<-time.After(700 * time.Millisecond) // longer than Timeout
				if err := h.mend(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	mending.Wait()
	if rejects, err := flush(t, w); err != nil || len(rejects) > 0 {
		t.Fatal(rejects, err)
	}
	snapshotWhileDown(t, srv)
	got, err := read(t.Context(), srv, "outages")
	if err != nil || len(got) != keys {
		t.Errorf("%d documents, %v, want %d", len(got), err, keys)
	}
	for _, d := range got {
		if d.N != rounds-1 {
			t.Errorf("document %s ends with %d, want %d", d.K, d.N, rounds-1)
		}
	}
}

// snapshotWhileDown: what waits for a dead server is in the state and arrives from another writer.
func snapshotWhileDown(t *testing.T, srv *testsvc.OpenSearchServer) {
	t.Helper()
	index(t, srv, "snap")
	s := opensearch.Sink[doc]{URLs: []string{srv.URL}, Index: "snap", ID: key, Batching: impatient}
	srv.Kill()
	w := open(t, s)
	write(t, w, many(0, 1000)...)
	st, ok := sink.As[sink.Stateful](w)
	if !ok {
		t.Fatal("writer isn't Stateful")
	}
	state, err := st.Snapshot()
	if err := errors.Join(err, w.Close(), srv.Restart(t.Context())); err != nil {
		t.Fatal(err)
	}
	w = open(t, s)
	st, _ = sink.As[sink.Stateful](w)
	if err := st.Restore([][]byte{state}); err != nil {
		t.Fatal(err)
	}
	if rejects, err := flush(t, w); err != nil || len(rejects) > 0 {
		t.Fatal(rejects, err)
	}
	if got, err := read(t.Context(), srv, "snap"); err != nil || len(got) != 1000 {
		t.Errorf("%d documents, %v, want 1000", len(got), err)
	}
}

// node is a server that takes everything, or answers with a status, and counts its requests.
type node struct {
	*httptest.Server
	mu       sync.Mutex
	status   int // unset: takes everything
	requests int
}

func newNode(t *testing.T, status int) *node {
	t.Helper()
	n := &node{status: status}
	n.Server = httptest.NewServer(n)
	t.Cleanup(n.Close)
	return n
}

func (n *node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.requests++
	if n.status != 0 {
		w.WriteHeader(n.status)
		return
	}
	lines := 0
	buf := make([]byte, 1<<20)
	for {
		k, err := r.Body.Read(buf)
		lines += strings.Count(string(buf[:k]), "\n")
		if err != nil {
			break
		}
	}
	items := slices.Repeat([]string{`{"index":{"status":201}}`}, lines/2)
	_, _ = w.Write([]byte(`{"errors":false,"items":[` + strings.Join(items, ",") + `]}`))
}

// TestDeadHosts: requests go past a host that is gone, and past one that can't answer, and to all others alike.
func TestDeadHosts(t *testing.T) {
	gone := newNode(t, 0)
	gone.Close()
	sick, one, other := newNode(t, http.StatusBadGateway), newNode(t, 0), newNode(t, 0)
	m := newCounts()
	w := openTask(t, opensearch.Sink[doc]{
		URLs: []string{gone.URL, sick.URL, one.URL, other.URL}, Index: "x",
		Batching: async.Sink[doc]{MaxBatch: 10, MaxInFlight: 1, Linger: -1, Retry: async.Retry{Base: time.Millisecond}},
	}, sink.Task{Metrics: m})
	write(t, w, many(0, 300)...)
	if rejects, err := flush(t, w); err != nil || len(rejects) > 0 {
		t.Fatal(rejects, err)
	}
	if sick.requests == 0 || sick.requests > 3 || one.requests < 10 || other.requests < 10 {
		t.Errorf("requests: %d to the sick host, %d and %d to the others", sick.requests, one.requests, other.requests)
	}
	if out := m.get("hosts_left_out"); out < 2 || m.get("unanswered") != 0 {
		t.Errorf("hosts_left_out is %d, unanswered %d", out, m.get("unanswered"))
	}
}
