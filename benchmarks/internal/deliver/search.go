package deliver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/weirline/weirline/connector/opensearch"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// Search is an index of OpenSearch that rows are written into, by jobs and by bare requests.
type Search struct {
	Server  *testsvc.OpenSearchServer
	Records int64
}

func (r Row) docID() string { return strconv.FormatInt(r.ID, 10) }

// Sink is the sink to write with.
func (s *Search) Sink() sink.Sink[Row] {
	return opensearch.Sink[Row]{URLs: []string{s.Server.URL}, Index: rows, ID: Row.docID, Batching: async.Sink[Row]{MaxBatch: asyncBatch}}
}

// Job writes by a job.
func (s *Search) Job(ctx context.Context, cfg engine.Config) (Outcome, error) {
	if err := s.emptied(ctx); err != nil {
		return Outcome{}, err
	}
	o, err := rowsInto(ctx, cfg, s.Records, s.Sink())
	if err != nil {
		return o, err
	}
	return o, s.right(ctx)
}

// Bare is what the same documents take by net/http in loops, each of which builds a request for _bulk, posts it and looks whether
// there were errors.
func (s *Search) Bare(ctx context.Context, cfg engine.Config) (time.Duration, error) {
	if err := s.emptied(ctx); err != nil {
		return 0, err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: cfg.Parallelism * asyncRequests}}
	defer client.CloseIdleConnections()
	took, err := bareLoops(ctx, cfg, s.Records, func(ctx context.Context, batch []Row) error {
		var body bytes.Buffer
		for _, r := range batch {
			doc, err := json.Marshal(r)
			if err != nil {
				return err
			}
			fmt.Fprintf(&body, "{\"index\":{\"_id\":\"%d\"}}\n%s\n", r.ID, doc)
		}
		answer, err := post(ctx, client, s.Server.URL+"/"+rows+"/_bulk?filter_path=errors", body.Bytes())
		if err == nil && string(answer) != `{"errors":false}` {
			err = fmt.Errorf("bulk: %.200s", answer)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("bare client: %w", err)
	}
	return took, s.right(ctx)
}

// emptied makes the index anew.
func (s *Search) emptied(ctx context.Context) error {
	if err := s.Server.Ask(ctx, http.MethodDelete, "/"+rows+"?ignore_unavailable=true", nil, nil); err != nil {
		return err
	}
	return s.Server.Ask(ctx, http.MethodPut, "/"+rows, `{"settings": {"number_of_replicas": 0},
		"mappings": {"properties": {"ID": {"type": "long"}, "Key": {"type": "long"}, "Value": {"type": "long"}}}}`, nil)
}

// right compares the index with what it should have.
func (s *Search) right(ctx context.Context) error {
	if err := s.Server.Ask(ctx, http.MethodPost, "/"+rows+"/_refresh", nil, nil); err != nil {
		return err
	}
	type total struct{ Value float64 }
	var found struct {
		Hits         struct{ Total total }
		Aggregations struct{ IDs, Keys, Values total }
	}
	err := s.Server.Ask(ctx, http.MethodGet, "/"+rows+"/_search", `{"size": 0, "track_total_hits": true, "aggs": {
		"IDs": {"sum": {"field": "ID"}}, "Keys": {"sum": {"field": "Key"}}, "Values": {"sum": {"field": "Value"}}}}`, &found)
	want, sum := sums(s.Records, lineKeys), found.Aggregations
	got := [4]int64{int64(found.Hits.Total.Value), int64(sum.IDs.Value), int64(sum.Keys.Value), int64(sum.Values.Value)}
	if err == nil && got != want {
		err = fmt.Errorf("the index has %d documents with sums of %d; want %d", got[0], got[1:], want)
	}
	return err
}
