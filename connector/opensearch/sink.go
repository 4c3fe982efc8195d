package opensearch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/rest"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

const defaultURL = "http://localhost:9200"

// Sink writes records into OpenSearch or Elasticsearch. Index or Do is needed. It implements [sink.Sink], [sink.Idempotent],
// [sink.Preflight], and says by Promise what holds and why.
type Sink[T any] struct {
	URLs []string // of some nodes of the cluster, asked in turn. Unset: http://localhost:9200

	Index string // an index, alias or data stream: where records go whose Action has no other

	// ID is the id of a record's document, the same whenever it is written. Unset: the server makes one, and the sink is at
	// least once.
	ID func(v T) string

	// Do says how a record is written. An error rejects the record. Unset: its JSON is indexed.
	Do func(v T) (Action, error)

	Pipeline   string // the ingest pipeline that documents go through. Unset: the index's own, if it has one
	AutoCreate bool   // let the server make Index with the first record, if nothing says how. Unset: a start without Index or a template for it is refused

	Username string       // with Password: basic authentication. Unset: none
	Password string       // see Username
	Header   http.Header  // of each request; an API key, say. Unset: none
	TLS      *tls.Config  // unset: the system's authorities
	Client   *http.Client // makes the requests, and stays the caller's. Unset: one for each task
	Gzip     bool         // compress requests

	// Batching holds limits, Key, Shard, Retry and the codec; see package async. Its Send and Repeatable belong to this sink. Unset:
	// async's defaults, with ID as Key.
	Batching async.Sink[T]
}

var (
	_ sink.Sink[string] = Sink[string]{}
	_ sink.Idempotent   = Sink[string]{}
	_ sink.Preflight    = Sink[string]{}
	_ sink.Qualified    = Sink[string]{}
)

// Idempotent implements sink.Idempotent.
func (s Sink[T]) Idempotent() bool { return s.ID != nil }

// Promise implements sink.Qualified.
func (s Sink[T]) Promise() (promise, why, fix string) {
	if s.ID != nil {
		return sink.Repeatable, "a repeated record sets the document with its ID again", ""
	}
	return sink.AtLeastOnce, "the server makes an id for each document, so a repeated record makes another one",
		"set ID to the function that gives a record's document its id"
}

// Validate says everything that is wrong with the settings. Writer calls it too.
func (s Sink[T]) Validate() error {
	var errs []error
	bad := func(wrong bool, what, fix string) {
		if wrong {
			errs = append(errs, fault.New(fault.BadPipeline, "opensearch sink: %s", what).WithFix("%s", fix))
		}
	}
	for _, raw := range s.URLs {
		u, err := url.Parse(raw)
		if err == nil {
			err = rest.CheckURL(u)
		}
		bad(err != nil || u.RawQuery != "", fmt.Sprintf("%q in URLs can't be used", raw), "set URLs to addresses such as https://host:9200")
	}
	bad(s.Index == "" && s.Do == nil, "Index is missing", "set Index to where records go, or Do to the function that says so for each")
	bad(strings.ContainsAny(s.Index, `/\*?"<>|, #`) || s.Index != strings.ToLower(s.Index), fmt.Sprintf("Index %q can't be a name", s.Index),
		"set Index to the name of one index, alias or data stream, in lower case")
	bad(s.Client != nil && s.TLS != nil, "both Client and TLS are set", "set TLS in the Client's transport")
	bad(s.Batching.Repeatable, "Batching.Repeatable is set", "set ID")
	bad(s.Batching.Send != nil, "Batching.Send is set", "leave Batching.Send out; Do says what is sent")
	return errors.Join(append(errs, s.batching(&sender[T]{}).Validate())...)
}

// Writer makes the writer of one task. It connects with the first batch.
func (s Sink[T]) Writer(ctx context.Context, t sink.Task) (sink.Writer[T], error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	snd := &sender[T]{Sink: s, rest: s.client(), hosts: newHosts(s.urls()), count: func(string, int64) {}}
	if t.Metrics != nil {
		snd.count = t.Metrics.Count
	}
	w, err := s.batching(snd).Writer(ctx, t)
	if err != nil {
		return nil, err
	}
	return &writer[T]{Writer: w, client: snd.rest}, nil
}

// batching is the async sink that sends by snd.
func (s Sink[T]) batching(snd *sender[T]) async.Sink[T] {
	b := s.Batching
	if b.Key == nil {
		b.Key = s.ID
	}
	b.Repeatable = s.Idempotent()
	b.Send = snd.send
	return b
}

func (s Sink[T]) urls() []string {
	if len(s.URLs) == 0 {
		return []string{defaultURL}
	}
	return s.URLs
}

func (s Sink[T]) client() *rest.Client {
	return rest.New(rest.Options{
		Client: s.Client, TLS: s.TLS, Conns: s.Batching.MaxInFlight, Username: s.Username, Password: s.Password,
		Header: s.Header, Gzip: s.Gzip,
	})
}

// writer is async's, with connections of its own.
type writer[T any] struct {
	sink.Writer[T]
	client *rest.Client
}

// Unwrap shows async's companions to sink.As.
func (w *writer[T]) Unwrap() any { return w.Writer }

// Close may be called again.
func (w *writer[T]) Close() error {
	err := w.Writer.Close()
	w.client.CloseIdle()
	return err
}
