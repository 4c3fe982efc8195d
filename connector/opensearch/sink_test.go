package opensearch_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/opensearch"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
	"github.com/weirline/weirline/sink/sinktest"
)

func TestMain(m *testing.M) { os.Exit(testsvc.Main(m)) }

// doc is the record of these tests: a number under a key.
type doc struct {
	K string
	N int
}

func key(d doc) string { return d.K }

// impatient gives up on an answer soon, and tries again soon.
var impatient = async.Sink[doc]{Timeout: 2 * time.Second, Retry: async.Retry{Base: 10 * time.Millisecond, Max: 100 * time.Millisecond}}

// index makes an index in which K is a word and N a number.
func index(t *testing.T, srv *testsvc.OpenSearchServer, name string) {
	t.Helper()
	ask(t, srv, http.MethodPut, "/"+name, `{"settings": {"number_of_replicas": 0, "refresh_interval": "-1"},
		"mappings": {"properties": {"K": {"type": "keyword"}, "N": {"type": "integer"}}}}`, nil)
}

func ask(t *testing.T, srv *testsvc.OpenSearchServer, method, path string, body, answer any) {
	t.Helper()
	if err := srv.Ask(t.Context(), method, path, body, answer); err != nil {
		t.Fatal(err)
	}
}

// read returns all documents of an index.
func read(ctx context.Context, srv *testsvc.OpenSearchServer, name string) ([]doc, error) {
	for _, do := range [][]string{
		{http.MethodPut, "/_settings", `{"index.max_result_window": 1000000}`}, {http.MethodPost, "/_refresh", ""},
	} {
		if err := srv.Ask(ctx, do[0], "/"+name+do[1], do[2], nil); err != nil {
			return nil, err
		}
	}
	var found struct {
		Hits struct {
			Hits []struct {
				Source doc `json:"_source"`
			}
		}
	}
	err := srv.Ask(ctx, http.MethodGet, "/"+name+"/_search?size=100000", nil, &found)
	var ds []doc
	for _, h := range found.Hits.Hits {
		ds = append(ds, h.Source)
	}
	return ds, err
}

// source is the document with an id, empty if there is none.
func source(t *testing.T, srv *testsvc.OpenSearchServer, name, id string) string {
	t.Helper()
	var found struct {
		Source json.RawMessage `json:"_source"`
	}
	if err := srv.Ask(t.Context(), http.MethodGet, "/"+name+"/_doc/"+id, nil, &found); err != nil {
		return ""
	}
	return string(found.Source)
}

func open(t *testing.T, s opensearch.Sink[doc]) sink.Writer[doc] {
	t.Helper()
	return openTask(t, s, sink.Task{})
}

func openTask(t *testing.T, s opensearch.Sink[doc], task sink.Task) sink.Writer[doc] {
	t.Helper()
	w, err := s.Writer(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func write(t *testing.T, w sink.Writer[doc], ds ...doc) {
	t.Helper()
	if err := w.Write(t.Context(), ds); err != nil {
		t.Fatal(err)
	}
}

// flush waits until each record has its result.
func flush(t *testing.T, w sink.Writer[doc]) ([]sink.RejectedRecord, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	err := w.Flush(ctx)
	r, ok := sink.As[sink.Rejecter](w)
	if !ok {
		t.Fatal("writer has no Rejects")
	}
	return r.Rejects(), err
}

func TestConformance(t *testing.T) {
	srv := testsvc.NewOpenSearch(t, testsvc.OpenSearchOptions{})
	for name, id := range map[string]func(doc) string{"ids": key, "no-ids": nil} {
		t.Run(name, func(t *testing.T) {
			index(t, srv, name)
			sinktest.Run(t, sinktest.Case[doc]{
				Sink: opensearch.Sink[doc]{
					URLs: []string{srv.URL}, Index: name, ID: id,
					Batching: async.Sink[doc]{MaxBuffered: 500, MaxBatch: 50, Retry: async.Retry{Base: 10 * time.Millisecond}},
				},
				Make:  func(i int) doc { return doc{strconv.Itoa(i), i} },
				Read:  func() ([]doc, error) { return read(t.Context(), srv, name) },
				Block: func() func() { return testsvc.Frozen(t, srv) },
			})
		})
	}
}

// TestOps writes each kind of action and looks at the documents.
func TestOps(t *testing.T) {
	srv := testsvc.OpenSearch(t)
	index(t, srv, "ops")
	index(t, srv, "ops-2")
	ask(t, srv, http.MethodPut, "/ops/_doc/updated", `{"K":"old","N":1}`, nil)
	ask(t, srv, http.MethodPut, "/ops/_doc/deleted", `{}`, nil)
	acts := map[string]opensearch.Action{
		"indexed":     {Doc: doc{"a", 1}},
		"created":     {Op: opensearch.Create, Doc: json.RawMessage("{\n\t\"N\": 2\n}\n")},
		"updated":     {Op: opensearch.Update, Doc: map[string]int{"N": 3}},
		"upserted":    {Op: opensearch.Upsert, Doc: []byte(`{"N":4}`)},
		"deleted":     {Op: opensearch.Delete},
		"elsewhere":   {Index: "ops-2", Doc: doc{"b", 5}, Routing: "r"},
		`odd "<\id é`: {Doc: doc{"c", 6}, Version: 17},
	}
	w := open(t, opensearch.Sink[doc]{
		URLs: []string{srv.URL + "/"}, Index: "ops", ID: key, Gzip: true,
		Do: func(d doc) (opensearch.Action, error) { return acts[d.K], nil },
	})
	for range 2 {
		for k := range acts {
			write(t, w, doc{K: k})
		}
		if rejects, err := flush(t, w); err != nil || len(rejects) > 0 {
			t.Fatal(rejects, err)
		}
	}
	for id, want := range map[string]string{
		"indexed": `{"K":"a","N":1}`, "created": `{"N":2}`, "updated": `{"K":"old","N":3}`, "upserted": `{"N":4}`, "deleted": "",
		"elsewhere": "", "odd%20%22%3C%5Cid%20%C3%A9": `{"K":"c","N":6}`,
	} {
		if got := source(t, srv, "ops", id); got != want {
			t.Errorf("document %s is %s, want %s", id, got, want)
		}
	}
	if got := source(t, srv, "ops-2", "elsewhere?routing=r"); got != `{"K":"b","N":5}` {
		t.Errorf("document elsewhere is %s", got)
	}
}

// TestVersions: an older record doesn't replace a newer one, and counts as done.
func TestVersions(t *testing.T) {
	srv := testsvc.OpenSearch(t)
	index(t, srv, "versions")
	s := opensearch.Sink[doc]{
		URLs: []string{srv.URL}, Index: "versions", ID: key,
		Do: func(d doc) (opensearch.Action, error) {
			if d.N < 0 {
				return opensearch.Action{Op: opensearch.Delete, Version: int64(-d.N)}, nil
			}
			return opensearch.Action{Doc: d, Version: int64(d.N)}, nil
		},
	}
	w := open(t, s)
	for _, ds := range [][]doc{{{"a", 5}, {"a", 3}}, {{"a", 4}, {"b", 1}}, {{"b", -3}}, {{"b", 2}}, {{"a", 7}, {"a", 7}, {"a", -6}}} {
		write(t, w, ds...)
		if rejects, err := flush(t, w); err != nil || len(rejects) > 0 {
			t.Fatal(ds, rejects, err)
		}
	}
	if a, b := source(t, srv, "versions", "a"), source(t, srv, "versions", "b"); a != `{"K":"a","N":7}` || b != "" {
		t.Errorf("a is %s, b is %s", a, b)
	}
}

// TestDataStream: documents without ids, created.
func TestDataStream(t *testing.T) {
	srv := testsvc.OpenSearch(t)
	ask(t, srv, http.MethodPut, "/_index_template/streams", `{"index_patterns": ["stream-*"], "data_stream": {}, "template": {"settings": {"number_of_replicas": 0}}}`, nil)
	s := opensearch.Sink[doc]{
		URLs: []string{srv.URL}, Index: "stream-a",
		Do: func(d doc) (opensearch.Action, error) {
			return opensearch.Action{Op: opensearch.Create, Doc: map[string]any{"@timestamp": "2026-01-01T00:00:00Z", "N": d.N}}, nil
		},
	}
	if err := s.Preflight(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := open(t, s)
	write(t, w, doc{N: 1}, doc{N: 2})
	if rejects, err := flush(t, w); err != nil || len(rejects) > 0 {
		t.Fatal(rejects, err)
	}
	if err := s.Preflight(t.Context()); err != nil {
		t.Error(err)
	}
	if got, err := read(t.Context(), srv, "stream-a"); err != nil || len(got) != 2 {
		t.Errorf("got %v, %v", got, err)
	}
}

// many are records with keys of their own.
func many(from, to int) []doc {
	var ds []doc
	for n := from; n < to; n++ {
		ds = append(ds, doc{fmt.Sprint("k", n), n})
	}
	return ds
}
