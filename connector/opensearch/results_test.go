package opensearch_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/opensearch"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// TestRejects: each record the server refuses is rejected with the server's reason, its neighbours are written.
func TestRejects(t *testing.T) {
	srv := testsvc.OpenSearch(t)
	index(t, srv, "rejects")
	acts := map[string]struct {
		opensearch.Action
		err  error
		says string
	}{
		"good":                      {Action: opensearch.Action{Doc: doc{"x", 1}}},
		"conflict":                  {Action: opensearch.Action{Doc: map[string]string{"N": "many"}}, says: "400 mapper_parsing_exception: failed to parse field [N] of type [integer]"},
		"missing":                   {Action: opensearch.Action{Op: opensearch.Update, Doc: doc{}}, says: "404 document_missing_exception"},
		"garbled":                   {Action: opensearch.Action{Doc: []byte(`{"N": 1`)}, says: "400 mapper_parsing_exception"},
		"name":                      {Action: opensearch.Action{Index: "Rejects", Doc: doc{}}, says: "invalid_index_name_exception"},
		"array":                     {Action: opensearch.Action{Doc: []int{1}}, says: "isn't a JSON object"},
		"type":                      {Action: opensearch.Action{Doc: func() {}}, says: "encode document"},
		"broken":                    {Action: opensearch.Action{Doc: []byte("{\n}}")}, says: "encode document"},
		"op":                        {Action: opensearch.Action{Op: 9, Doc: doc{}}, says: "operation"},
		"version":                   {Action: opensearch.Action{Op: opensearch.Create, Version: 1, Doc: doc{}}, says: "Version is 1"},
		"":                          {Action: opensearch.Action{Doc: doc{}}, says: "record has no id"},
		"not this":                  {err: errors.New("not this one"), says: "not this one"},
		strings.Repeat("long", 129): {Action: opensearch.Action{Doc: doc{}}, says: "id of 516 bytes is longer than 512"},
		"also good":                 {Action: opensearch.Action{Doc: doc{"y", 2}}},
	}
	m := newCounts()
	w := openTask(t, opensearch.Sink[doc]{
		URLs: []string{srv.URL}, Index: "rejects", ID: key,
		Do: func(d doc) (opensearch.Action, error) { return acts[d.K].Action, acts[d.K].err },
	}, sink.Task{Metrics: m})
	var ds []doc
	for k := range acts {
		ds = append(ds, doc{K: k})
	}
	write(t, w, ds...)
	rejects, err := flush(t, w)
	if err != nil || len(rejects) != len(acts)-2 {
		t.Fatalf("%d rejected, %v, want %d", len(rejects), err, len(acts)-2)
	}
	for _, r := range rejects {
		k := r.Value.(doc).K
		if says := acts[k].says; says == "" || !strings.Contains(r.Err.Error(), says) || r.Attempts != 1 {
			t.Errorf("%.10s: %d attempts, %v, want %q", k, r.Attempts, r.Err, says)
		}
	}
	if got, err := read(t.Context(), srv, "rejects"); err != nil || len(got) != 2 {
		t.Errorf("the index has %v, %v", got, err)
	}
	if got := m.get("items_rejected"); got != 4 {
		t.Errorf("items_rejected is %d, want 4", got)
	}
}

// waits expects records to be waited for, until heal is called.
func waits(t *testing.T, s opensearch.Sink[doc], heal func()) {
	t.Helper()
	w := open(t, s)
	write(t, w, many(0, 20)...)
	select {
	case <-flushed(t, w):
		t.Error("records were delivered or refused")
	case <-time.After(700 * time.Millisecond):
	}
	heal()
	if rejects, err := flush(t, w); err != nil || len(rejects) > 0 {
		t.Errorf("after it is well again: %v, %v", rejects, err)
	}
}

// flushed is closed when a writer has a record with a final result.
func flushed(t *testing.T, w sink.Writer[doc]) <-chan struct{} {
	t.Helper()
	done := make(chan struct{})
	g, _ := sink.As[sink.Stateful](w)
	before, err := g.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for range 12 {
			<-tick.C
			if now, err := g.Snapshot(); err != nil || len(now) < len(before) {
				close(done)
				return
			}
		}
	}()
	return done
}

// TestConditionsAreWaitedFor: what is wrong with the server or index isn't the record's fault.
func TestConditionsAreWaitedFor(t *testing.T) {
	srv := testsvc.NewOpenSearch(t, testsvc.OpenSearchOptions{})
	s := opensearch.Sink[doc]{URLs: []string{srv.URL}, ID: key, Batching: impatient}
	set := func(path, body string) func() {
		return func() { ask(t, srv, http.MethodPut, path, body, nil) }
	}
	const blocks, allocation = "/blocks/_settings", "/_cluster/settings"
	index(t, srv, "blocks")
	for name, c := range map[string]struct {
		index      string
		harm, mend func()
	}{
		"read-only":       {"blocks", set(blocks, `{"index.blocks.write": true}`), set(blocks, `{"index.blocks.write": null}`)},
		"disk full":       {"blocks", set(blocks, `{"index.blocks.read_only_allow_delete": true}`), set(blocks, `{"index.blocks.read_only_allow_delete": null}`)},
		"closed":          {"blocks", func() { ask(t, srv, http.MethodPost, "/blocks/_close", nil, nil) }, func() { ask(t, srv, http.MethodPost, "/blocks/_open", nil, nil) }},
		"too many shards": {"more", set(allocation, `{"persistent": {"cluster.max_shards_per_node": 1}}`), set(allocation, `{"persistent": {"cluster.max_shards_per_node": null}}`)},
		"red": {"red", func() {
			set(allocation, `{"persistent": {"cluster.routing.allocation.enable": "none"}}`)()
			set("/red?wait_for_active_shards=0", `{}`)()
		}, set(allocation, `{"persistent": {"cluster.routing.allocation.enable": null}}`)},
	} {
		t.Run(name, func(t *testing.T) {
			c.harm()
			s.Index = c.index
			waits(t, s, c.mend)
			if got, err := read(t.Context(), srv, c.index); err != nil || len(got) < 20 {
				t.Errorf("%d documents, %v", len(got), err)
			}
		})
	}
	t.Run("lost index", func(t *testing.T) { lostIndex(t, srv) })
}

// lostIndex: nobody has these records refused one by one.
func lostIndex(t *testing.T, srv *testsvc.OpenSearchServer) {
	t.Helper()
	index(t, srv, "there")
	ask(t, srv, http.MethodPut, "/_cluster/settings", `{"persistent": {"action.auto_create_index": "false"}}`, nil)
	for name, s := range map[string]opensearch.Sink[doc]{
		`index "gone" is gone`:             {Index: "gone"},
		`ingest pipeline "absent" is gone`: {Index: "there", Pipeline: "absent"},
	} {
		s.URLs = []string{srv.URL}
		w := open(t, s)
		write(t, w, many(0, 10)...)
		if rejects, err := flush(t, w); fault.CodeOf(err) != fault.SinkFailed.ID || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, %v", name, rejects, err)
		}
	}
	w := open(t, opensearch.Sink[doc]{URLs: []string{srv.URL}, Index: "there", Do: func(d doc) (opensearch.Action, error) {
		return opensearch.Action{Index: []string{"", "record-s-own"}[d.N], Doc: d}, nil
	}})
	write(t, w, doc{"a", 0}, doc{"b", 1})
	if rejects, err := flush(t, w); err != nil || len(rejects) != 1 || !strings.Contains(rejects[0].Err.Error(), "no such index [record-s-own]") {
		t.Errorf("got %v, %v", rejects, err)
	}
}

// TestTightLimits has a server that takes little at once.
func TestTightLimits(t *testing.T) {
	srv := testsvc.NewOpenSearch(t, testsvc.OpenSearchOptions{Settings: map[string]string{
		"http.max_content_length": "20kb", "indexing_pressure.memory.limit": "40kb",
	}})
	t.Run("too large", func(t *testing.T) { tooLarge(t, srv) })
	t.Run("overload", func(t *testing.T) { overload(t, srv) })
}

// tooLarge: a request beyond the server's limit is cut until it fits; a record that is too large alone is rejected.
func tooLarge(t *testing.T, srv *testsvc.OpenSearchServer) {
	t.Helper()
	index(t, srv, "large")
	w := open(t, opensearch.Sink[doc]{
		URLs: []string{srv.URL}, Index: "large", ID: key, Batching: async.Sink[doc]{MaxBatch: 100, MaxInFlight: 1},
		Do: func(d doc) (opensearch.Action, error) {
			text := strings.Repeat("x", 1000)
			if d.N == 33 {
				text = strings.Repeat(text, 30)
			}
			return opensearch.Action{Doc: map[string]any{"K": d.K, "N": d.N, "text": text}}, nil
		},
	})
	write(t, w, many(0, 100)...)
	rejects, err := flush(t, w)
	if err != nil || len(rejects) != 1 || rejects[0].Value != (doc{"k33", 33}) || !strings.Contains(rejects[0].Err.Error(), "413") {
		t.Fatalf("got %v, %v", rejects, err)
	}
	got, err := read(t.Context(), srv, "large")
	if err != nil || len(got) != 99 || slices.Contains(got, doc{"k33", 33}) {
		t.Errorf("%d documents, %v, want 99", len(got), err)
	}
}

// overload: a server that says it has too much to do gets all in the end.
func overload(t *testing.T, srv *testsvc.OpenSearchServer) {
	t.Helper()
	index(t, srv, "busy")
	m := newCounts()
	w := openTask(t, opensearch.Sink[doc]{
		URLs: []string{srv.URL}, Index: "busy", ID: key,
		Batching: async.Sink[doc]{MaxBatch: 20, MaxInFlight: 8, Linger: -1, Retry: async.Retry{Base: 5 * time.Millisecond}},
		Do: func(d doc) (opensearch.Action, error) {
			return opensearch.Action{Doc: map[string]any{"K": d.K, "N": d.N, "text": strings.Repeat("x", 300)}}, nil
		},
	}, sink.Task{Metrics: m})
	const all = 2000
	write(t, w, many(0, all)...)
	if rejects, err := flush(t, w); err != nil || len(rejects) > 0 {
		t.Fatal(rejects, err)
	}
	got, err := read(t.Context(), srv, "busy")
	if err != nil || len(got) != all {
		t.Errorf("%d documents, %v, want %d", len(got), err, all)
	}
	again := m.get("retries_throttled") + m.get("retries_partial")
	if again == 0 {
		t.Error("the server was never busy: the test shows nothing")
	}
	t.Logf("%d requests, %d repeated records", m.get("attempts"), again)
}
