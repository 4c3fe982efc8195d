package objects

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/weirline/weirline/internal/s3client"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
	"github.com/weirline/weirline/txn"
)

const (
	defaultInFlight = 16
	defaultPutLimit = 30 * time.Second
)

// Sink writes each record into an object of its own, as records come, without waiting for a checkpoint. A record written again
// replaces its object with the same one. Bucket, Key and Body are needed. It implements [sink.Sink], [sink.Idempotent] and
// [sink.Preflight].
type Sink[T any] struct {
	Bucket string // its name; it must exist. Needed
	Prefix string // comes before all keys, with one slash in between. Unset: none

	// Key names a record's object, below Prefix. Records of one key are written in their order. Called by the task's goroutine
	// and by several others at once.
	Key func(v T) string

	// Body appends a record's object to dst. An error rejects the record. It is called by several goroutines at once, and again
	// when the record is sent again.
	Body func(dst []byte, v T) ([]byte, error)

	// Delete says that a record removes its object. Unset: none does.
	Delete func(v T) bool

	ContentType string // of all objects. Unset: application/octet-stream
	Gzip        bool   // objects are compressed, and say so as their Content-Encoding

	Endpoint    string // the server's URL. Unset: that of Amazon, or AWS_ENDPOINT_URL
	Region      string // the bucket's. Unset: AWS_REGION, the profile's, or with an Endpoint us-east-1
	VirtualHost bool   // the bucket's name is in the host's even with an Endpoint. Unset: in the path there

	// AccessKey and SecretKey identify the user. Unset: the usual chain: environment, profile, web identity, instance role.
	AccessKey, SecretKey string

	// Batching holds limits, Retry and the codec; see package async. Its Send and Key belong to this sink, and a batch has one record.
	// MaxInFlight, unset: 16 objects of a task on their way at once.
	Batching async.Sink[T]
}

var (
	_ sink.Sink[string] = Sink[string]{}
	_ sink.Idempotent   = Sink[string]{}
	_ sink.Preflight    = Sink[string]{}
)

// Idempotent implements sink.Idempotent.
func (s Sink[T]) Idempotent() bool { return true }

func (s Sink[T]) settings() settings {
	return settings{bucket: s.Bucket, prefix: underPrefix(s.Prefix), timeout: cmp.Or(max(0, s.Batching.Timeout), defaultPutLimit), client: s.client(), plain: true}
}

// client leaves repetitions to package async.
func (s Sink[T]) client() s3client.Options {
	return s3client.Options{
		Endpoint: s.Endpoint, Region: s.Region, VirtualHost: s.VirtualHost, AccessKey: s.AccessKey, SecretKey: s.SecretKey, Attempts: 1,
	}
}

// Validate says everything that is wrong with the settings. Writer and Preflight call it too.
func (s Sink[T]) Validate() error {
	errs := checkPlace(s.Bucket, s.Prefix, s.client())
	bad := func(fix, what string, args ...any) { errs = append(errs, wrong(fix, what, args...)) }
	if s.Key == nil {
		bad("set Key to the function that names a record's object", "Key is missing")
	}
	if s.Body == nil {
		bad("set Body to the function that makes a record's object", "Body is missing")
	}
	if s.Batching.Send != nil || s.Batching.Key != nil {
		bad("leave them out; Body says what is sent, and the sink's own Key what has an order", "Batching.Send or Batching.Key is set")
	}
	if s.Batching.MaxBatch > 1 {
		bad("leave it out; an object has one record", "Batching.MaxBatch is %d", s.Batching.MaxBatch)
	}
	return errors.Join(append(errs, s.batching(nil).Validate())...)
}

func (s Sink[T]) batching(st *store) async.Sink[T] {
	b := s.Batching
	b.Timeout, b.MaxInFlight = cmp.Or(b.Timeout, defaultPutLimit), cmp.Or(b.MaxInFlight, defaultInFlight)
	b.MaxBatch, b.Linger, b.Key = 1, -1, s.Key
	b.Send = func(ctx context.Context, batch []T) error { return s.send(ctx, st, batch[0]) }
	return b
}

// Writer makes the writer of one task. It makes no request.
func (s Sink[T]) Writer(ctx context.Context, t sink.Task) (sink.Writer[T], error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	st, err := s.settings().open(ctx)
	if err != nil {
		return nil, err
	}
	w, err := s.batching(st).Writer(ctx, t)
	if err != nil {
		return nil, err
	}
	return &writer[T]{Writer: w, s: st}, nil
}

// writer is async's, with connections of its own.
type writer[T any] struct {
	sink.Writer[T]
	s *store
}

// Unwrap shows async's companions to sink.As.
func (w *writer[T]) Unwrap() any { return w.Writer }

// Close ends the sending first and then the connections. It may be called again.
func (w *writer[T]) Close() error {
	err := w.Writer.Close()
	w.s.close()
	return err
}

// Preflight writes an empty object weirline-preflight-... below Prefix and removes it. A user who may not remove objects leaves
// it behind, unless Delete is set: then that is an error. It takes 30 s at most.
func (s Sink[T]) Preflight(ctx context.Context) error {
	if err := s.Validate(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, preflightLimit)
	defer cancel()
	st, err := s.settings().open(ctx)
	if err != nil {
		return err
	}
	defer st.close()
	key := st.o.prefix + "weirline-preflight-" + txn.NewToken()
	if err := st.whole(ctx, key, nil, s.kind()); err != nil {
		return st.unfit(err, "write an object to bucket %s", s.Bucket)
	}
	if err := st.remove(ctx, key); err != nil && (s.Delete != nil || !ruleOf(err).never) {
		return st.unfit(err, "remove an object from bucket %s", s.Bucket)
	}
	return nil
}
