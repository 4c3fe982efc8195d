package httpsink

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"strings"

	"github.com/weirline/weirline/internal/rest"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// The defaults of Sink.
const (
	defaultSingles   = 32 // requests on their way, of one record each
	heldSingles      = 2000
	defaultIDHeader  = "Idempotency-Key"
	defaultMaxAnswer = 1 << 20
	keptOfAnswer     = 4 << 10 // bytes of an answer that only an error shows
)

// Form says how many records a request carries, and how.
type Form int

// The forms.
const (
	Single    Form = iota // one record each
	JSONArray             // [a,b,c]
	JSONLines             // each record on a line of its own
)

// Request is what a batch is sent by.
type Request struct {
	Method string      // unset: the sink's
	URL    string      // unset: the sink's
	Header http.Header // on top of, or instead of, the sink's
	Body   []byte      // belongs to the sink from then on
}

// Response is what the service answered.
type Response struct {
	Status int
	Header http.Header
	Body   []byte // up to MaxAnswer bytes
}

// Outcome is what becomes of the records of a request.
type Outcome int

// The outcomes.
const (
	Done   Outcome = iota + 1 // delivered
	Again                     // sent again, not before Retry-After
	Reject                    // rejected; of a request with several records those that are to blame
	Fail                      // the task fails
)

// Sink sends records by HTTP. One of URL, To and Encode is needed. It implements [sink.Sink], [sink.Idempotent],
// [sink.Preflight], and says by Promise what holds and why.
type Sink[T any] struct {
	Method string      // unset: POST
	URL    string      // where all requests go
	Header http.Header // of each request

	// To is where a record goes, instead of URL. With a Form of many records, records of one URL go together. An error rejects the
	// record.
	To func(v T) (string, error)

	Form Form // how many records a request carries. Unset: one

	// Body is a record's part of a request's body: all of it, an element of the array, or a line. Unset: JSON. An error rejects
	// the record.
	Body func(v T) ([]byte, error)

	// Encode makes a request of a whole batch, instead of To, Form and Body; Batching.MaxBatch is how many records it gets at most.
	// An error rejects records: the batch is halved until those are found that can't be encoded.
	Encode func(batch []T) (Request, error)

	// ID is a record's own key, the same whenever it is sent, by which the service tells a repetition. Requests of one record only.
	// Unset: none; see Repeatable.
	ID       func(v T) string
	IDHeader string // carries ID. Unset: Idempotency-Key

	// Repeatable says that the service tells a repetition by what URL or body hold, so that sending a request again changes nothing.
	Repeatable bool

	Rules map[int]Outcome // what a status means. Unset: as the package comment says

	// Answer judges a response whose status means Done, of a request with n records: nil, or an error as of async.Sink.Send, with
	// indices among those n (*async.Partial for results of single records). Unset: they are delivered.
	Answer    func(r Response, n int) error
	MaxAnswer int // bytes of a response that Answer gets; a longer one fails the task. Unset: 1 MiB

	Username string       // with Password: basic authentication. Unset: none
	Password string       // see Username
	Token    string       // bearer token. Unset: none
	TLS      *tls.Config  // unset: the system's authorities
	Client   *http.Client // makes the requests, and stays the caller's. Unset: one for each task
	Gzip     bool         // compress bodies

	Check Check // what is asked at start

	// Batching holds limits, Key, Shard, Retry and the codec; see package async. Its Send and Repeatable belong to this sink. Unset:
	// async's defaults, but for requests of one record MaxInFlight 32 and MaxBuffered 2,000; with To a shard for each host, or for each
	// URL if requests carry many records.
	Batching async.Sink[T]
}

var (
	_ sink.Sink[string] = Sink[string]{}
	_ sink.Idempotent   = Sink[string]{}
	_ sink.Preflight    = Sink[string]{}
	_ sink.Qualified    = Sink[string]{}
)

// Idempotent implements sink.Idempotent.
func (s Sink[T]) Idempotent() bool { return s.ID != nil || s.Repeatable }

// Promise implements sink.Qualified.
func (s Sink[T]) Promise() (promise, why, fix string) {
	switch {
	case s.ID != nil:
		return sink.Repeatable, "the service tells a repeated request by its " + s.idHeader(), ""
	case s.Repeatable:
		return sink.Repeatable, "the service tells a repeated request by what it holds (Repeatable)", ""
	}
	return sink.AtLeastOnce, "a request that was cut off is sent again, and the service can't tell", "set ID if the service knows " +
		defaultIDHeader + ", or Repeatable if it tells records by ids of their own"
}

// Writer makes the writer of one task. It connects with the first batch.
func (s Sink[T]) Writer(ctx context.Context, t sink.Task) (sink.Writer[T], error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	client := s.client()
	w, err := s.batching(&sender[T]{s, client, counter(t)}).Writer(ctx, t)
	if err != nil {
		return nil, err
	}
	return &writer[T]{Writer: w, client: client}, nil
}

// batching is the async sink that sends by snd.
func (s Sink[T]) batching(snd *sender[T]) async.Sink[T] {
	b := s.Batching
	if s.single() {
		b.MaxBatch = 1
		b.MaxInFlight = cmp.Or(b.MaxInFlight, defaultSingles)
		b.MaxBuffered = cmp.Or(b.MaxBuffered, heldSingles)
	}
	if b.Shard == nil {
		b.Shard = s.shard()
	}
	b.Repeatable = s.Idempotent()
	b.Send = snd.send
	return b
}

// shard is where a record goes if there are several places: its host, or with many records in a request its URL.
func (s Sink[T]) shard() func(T) string {
	if s.To == nil || s.Encode != nil {
		return nil
	}
	whole := s.Form != Single
	return func(v T) string {
		to, _ := s.To(v) // send rejects the record
		if whole {
			return to
		}
		_, host, _ := strings.Cut(to, "://")
		if end := strings.IndexAny(host, "/?#"); end >= 0 {
			host = host[:end]
		}
		return host
	}
}

func (s Sink[T]) single() bool { return s.Encode == nil && s.Form == Single }

func (s Sink[T]) idHeader() string {
	if s.IDHeader == "" {
		return defaultIDHeader
	}
	return s.IDHeader
}

func (s Sink[T]) client() *rest.Client {
	conns := s.Batching.MaxInFlight
	if s.single() {
		conns = max(conns, defaultSingles)
	}
	return rest.New(rest.Options{
		Client: s.Client, TLS: s.TLS, Conns: conns, Username: s.Username, Password: s.Password, Token: s.Token,
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

// counter is a task's metrics, or nothing.
func counter(t sink.Task) func(string, int64) {
	if t.Metrics == nil {
		return func(string, int64) {}
	}
	return t.Metrics.Count
}

// errNoShard splits a batch whose records have different URLs, as those of one Key may.
var errNoShard = errors.New("records with different URLs are in one batch")
