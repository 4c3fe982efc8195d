package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/weirline/weirline/connector/opensearch"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// The storms of OpenSearch.
var (
	slowToIndex    = indexHarm{func(_ context.Context, n *node) error { return n.proxy.Slow(100 * time.Millisecond) }, healIndex}
	cutFromIndex   = indexHarm{func(_ context.Context, n *node) error { n.proxy.Cut(); return nil }, healIndex}
	silentToIndex  = indexHarm{func(_ context.Context, n *node) error { return n.proxy.Silence() }, healIndex}
	closedForWrite = indexHarm{blockWrites(true), blockWrites(false)}
)

// indexHarm is what is done to a node of OpenSearch or the network before it.
type indexHarm struct {
	begin, end func(ctx context.Context, n *node) error
}

func healIndex(ctx context.Context, n *node) error { return n.proxy.Heal(ctx) }

// blockWrites makes the index read-only, or undoes that.
func blockWrites(on bool) func(context.Context, *node) error {
	return func(ctx context.Context, n *node) error {
		block := map[string]any{"index.blocks.write": nil}
		if on {
			block["index.blocks.write"] = true
		}
		return n.server.Ask(ctx, http.MethodPut, "/arrived/_settings", block, nil)
	}
}

// node is a real OpenSearch behind a bad network, with a document for each record.
type node struct {
	server *testsvc.OpenSearchServer
	proxy  *testsvc.Proxy
	harm   indexHarm
}

// index is an OpenSearch to which harm is done.
func index(h indexHarm) func(t *trial) (destination, error) {
	return func(t *trial) (destination, error) {
		ctx := context.Background()
		s, err := testsvc.StartOpenSearch(ctx, filepath.Join(t.dir, strings.ReplaceAll(t.storm.name, "/", "-")+"-data"), testsvc.OpenSearchOptions{})
		if err != nil {
			return nil, err
		}
		n := &node{server: s, harm: h}
		made := map[string]any{
			"settings": map[string]any{"index.refresh_interval": "-1"},
			"mappings": map[string]any{"properties": map[string]any{"ID": map[string]any{"type": "long"}, "Shard": map[string]any{"type": "integer"}}},
		}
		if n.proxy, err = testsvc.StartProxy("127.0.0.1:0", hostPort.FindString(s.URL)); err == nil {
			err = s.Ask(ctx, http.MethodPut, "/arrived", made, nil)
		}
		if err != nil {
			n.close()
			return nil, err
		}
		return n, nil
	}
}

func (n *node) close() {
	if n.proxy != nil {
		n.proxy.Cut()
	}
	n.server.Kill()
}

func (n *node) storm(ctx context.Context) error { return n.harm.begin(ctx, n) }
func (n *node) heal(ctx context.Context) error  { return n.harm.end(ctx, n) }

// sink has one shard: the server.
func (n *node) sink(a async.Sink[record]) sink.Sink[record] {
	a.Shard = nil
	a.MaxBatch, a.MaxInFlight = 4*shards*maxBatch, 8
	return opensearch.Sink[record]{
		URLs: []string{"http://" + n.proxy.Addr}, Index: "arrived", Batching: a,
		ID: func(v record) string { return strconv.FormatInt(v.ID, 10) },
	}
}

// count makes visible what has come.
func (n *node) count(ctx context.Context) (t tally, err error) {
	var got struct {
		Aggregations struct {
			Of struct {
				Buckets []struct {
					Key   int   `json:"key"`
					Count int64 `json:"doc_count"`
				}
			}
		}
	}
	ask := map[string]any{"size": 0, "aggs": map[string]any{"of": map[string]any{"terms": map[string]any{"field": "Shard"}}}}
	err = errors.Join(n.server.Ask(ctx, http.MethodPost, "/arrived/_refresh", nil, nil), n.server.Ask(ctx, http.MethodPost, "/arrived/_search", ask, &got))
	for _, b := range got.Aggregations.Of.Buckets {
		if b.Key < 0 || b.Key >= shards {
			return t, fmt.Errorf("opensearch has shard %d", b.Key)
		}
		t.records[b.Key] = b.Count
	}
	return t, err
}

// times can't tell how often a document was written.
func (n *node) times(ctx context.Context) ([]uint32, error) {
	if err := n.server.Ask(ctx, http.MethodPost, "/arrived/_refresh", nil, nil); err != nil {
		return nil, err
	}
	all := make([]uint32, mostRecords)
	for after := []int64{-1}; ; {
		var got struct {
			Hits struct{ Hits []struct{ Sort []int64 } }
		}
		ask := map[string]any{"size": 10_000, "_source": false, "sort": []string{"ID"}, "search_after": after}
		if err := n.server.Ask(ctx, http.MethodPost, "/arrived/_search", ask, &got); err != nil || len(got.Hits.Hits) == 0 {
			return all, err
		}
		for _, h := range got.Hits.Hits {
			after = h.Sort
			if len(after) != 1 || after[0] < 0 || after[0] >= mostRecords {
				return nil, fmt.Errorf("opensearch has %v", after)
			}
			all[after[0]]++
		}
	}
}
