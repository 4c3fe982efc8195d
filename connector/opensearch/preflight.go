package opensearch

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/rest"
)

// preflightLimit is how long Preflight takes at most.
const preflightLimit = 10 * time.Second

// oldestElastic is the first version of Elasticsearch whose _bulk needs no types.
const oldestElastic = 7

// Preflight finds a node that answers, looks whether it is one of OpenSearch or Elasticsearch and lets this user in, whether Index
// is there, or a template by which it will be, whether the user may write there, and whether Pipeline is there. What the user may not
// ask about isn't checked.
func (s Sink[T]) Preflight(ctx context.Context) error {
	if err := s.Validate(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, preflightLimit)
	defer cancel()
	p := probe[T]{Sink: s, client: s.client()}
	defer p.client.CloseIdle()
	for _, look := range []func(context.Context) error{p.server, p.index, p.pipeline} {
		if err := look(ctx); err != nil {
			return err
		}
	}
	return nil
}

// probe asks a node that answers.
type probe[T any] struct {
	Sink[T]
	client *rest.Client
	base   string // its address
}

func (p *probe[T]) ask(ctx context.Context, method, path, body string) (rest.Answer, error) {
	r := rest.Request{Method: method, URL: p.base + path, Body: []byte(body)}
	if body != "" {
		r.Header = ndjson
	}
	a, err := p.client.Do(ctx, r, keptOfAnswer)
	if err != nil {
		return a, fault.Wrap(fault.Unreachable, err, "reach the cluster at %s", p.base).WithFix("check URLs and TLS, and that the cluster is up")
	}
	if a.Status == http.StatusUnauthorized {
		return a, p.denied(a.Failure())
	}
	return a, nil
}

// server finds a node that answers and looks what it is.
func (p *probe[T]) server(ctx context.Context) error {
	var errs []error
	for _, u := range p.urls() {
		p.base = strings.TrimSuffix(u, "/")
		a, err := p.ask(ctx, http.MethodGet, "/", "")
		switch {
		case fault.CodeOf(err) == fault.Unreachable.ID:
			errs = append(errs, err)
			continue
		case err != nil:
			return err
		case a.Status == http.StatusForbidden:
			return nil // it may not ask for the version
		case a.Status >= 500:
			errs = append(errs, fault.Wrap(fault.Unreachable, a.Failure(), "ask the node at %s what it is", p.base).
				WithFix("wait until the cluster is up, or look at its log"))
			continue
		}
		return p.known(a)
	}
	return errors.Join(errs...)
}

func (p *probe[T]) known(a rest.Answer) error {
	var about struct {
		Version struct{ Number, Distribution string }
	}
	err := json.Unmarshal(a.Body, &about)
	major, _, _ := strings.Cut(about.Version.Number, ".")
	n, nerr := strconv.Atoi(major)
	switch {
	case a.Status != http.StatusOK || err != nil || nerr != nil:
		return fault.New(fault.Preflight, "what answers at %s is neither OpenSearch nor Elasticsearch (it says: %s)", p.base, a.Text()).
			WithFix("set URLs to the nodes' HTTP ports (9200 as a rule)")
	case about.Version.Distribution != "opensearch" && n < oldestElastic:
		return fault.New(fault.Preflight, "elasticsearch at %s has version %s", p.base, about.Version.Number).
			WithFix("use Elasticsearch %d or newer, or OpenSearch", oldestElastic)
	}
	return nil
}

// index looks whether Index is there and may be written.
func (p *probe[T]) index(ctx context.Context) error {
	if p.Index == "" {
		return nil
	}
	a, err := p.ask(ctx, http.MethodHead, "/"+url.PathEscape(p.Index), "")
	switch {
	case err != nil:
		return err
	case a.Status == http.StatusOK:
		return p.writable(ctx)
	case a.Status != http.StatusNotFound || p.AutoCreate:
		return nil
	}
	a, err = p.ask(ctx, http.MethodPost, "/_index_template/_simulate_index/"+url.PathEscape(p.Index), "")
	if err != nil {
		return err
	}
	var made struct{ Template json.RawMessage }
	if a.Status == http.StatusForbidden || a.Status == http.StatusOK && json.Unmarshal(a.Body, &made) == nil && len(made.Template) > 0 {
		return nil
	}
	if old, err := p.oldTemplate(ctx); old || err != nil {
		return err
	}
	return fault.New(fault.Preflight, "index %q doesn't exist, and no index template says how to make it", p.Index).
		WithFix("make the index or a template for it, or set AutoCreate to let the server guess its mapping from the first record")
}

// oldTemplate says whether a template of the older kind fits Index.
func (p *probe[T]) oldTemplate(ctx context.Context) (bool, error) {
	a, err := p.ask(ctx, http.MethodGet, "/_template?filter_path=*.index_patterns", "")
	if err != nil || a.Status == http.StatusForbidden {
		return true, err
	}
	var all map[string]struct {
		Patterns []string `json:"index_patterns"`
	}
	if json.Unmarshal(a.Body, &all) != nil {
		return a.Cut, nil // more templates than are read
	}
	for _, t := range all {
		for _, pattern := range t.Patterns {
			if ok, err := path.Match(pattern, p.Index); ok && err == nil {
				return true, nil
			}
		}
	}
	return false, nil
}

// writable has an item refused for another reason than missing rights: no document has this sequence number, so nothing is written.
func (p *probe[T]) writable(ctx context.Context) error {
	const item = `{"index":{"_id":"weirline-preflight","if_seq_no":9007199254740991,"if_primary_term":1}}` + "\n{}\n"
	a, err := p.ask(ctx, http.MethodPost, "/"+url.PathEscape(p.Index)+"/_bulk?filter_path="+filter, item)
	if err != nil {
		return err
	}
	if a.Status == http.StatusForbidden {
		return p.denied(a.Failure())
	}
	var all bulkAnswer
	if a.Status != http.StatusOK || json.Unmarshal(a.Body, &all) != nil || len(all.Items) != 1 {
		return nil // not the credentials' fault; the sink waits and reports by itself
	}
	for _, it := range all.Items[0] {
		if it.Error.Type == "security_exception" {
			return p.denied(errors.New(it.Error.String()))
		}
		if p.Do == nil && it.Status == http.StatusBadRequest && strings.Contains(it.Error.Reason, "data stream") {
			return fault.New(fault.Preflight, "%q is a data stream, which documents can only be added to", p.Index).
				WithFix("set Do to a function whose Action has Op Create")
		}
	}
	return nil
}

// pipeline looks whether Pipeline is there.
func (p *probe[T]) pipeline(ctx context.Context) error {
	if p.Pipeline == "" {
		return nil
	}
	a, err := p.ask(ctx, http.MethodGet, "/_ingest/pipeline/"+url.PathEscape(p.Pipeline), "")
	if err == nil && a.Status == http.StatusNotFound {
		return fault.New(fault.Preflight, "ingest pipeline %q doesn't exist", p.Pipeline).WithFix("make the pipeline, or correct Pipeline")
	}
	return err
}
