package objects

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/weirline/weirline/internal/s3client"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/parts"
	"github.com/weirline/weirline/txn"
)

const (
	defaultPart    = 8 << 20
	smallestPart   = 5 << 20
	largestPart    = 1 << 30
	defaultUploads = 3
	defaultOpen    = 16
	defaultTimeout = time.Minute
	preflightLimit = 30 * time.Second
)

// TxSink writes records into objects that appear whole, each exactly once, when their epoch is complete. Only Bucket is needed. It
// implements [sink.TwoPhase] and [sink.Preflight].
type TxSink[T any] struct {
	Bucket string // its name; it must exist. Needed
	Prefix string // comes before all keys, with one slash in between. Unset: none
	Suffix string // ends them; no slash. Unset: as Format says, such as ".csv"

	// Format says how records become an object. Unset: [parts.Text], text and bytes as they are, a line each.
	Format parts.Format[T]

	// Folder says where under Prefix a record belongs, such as dt=2024-05-01/hour=07; see [parts.ByTime]. Unset: all in one place.
	Folder parts.Bucket[T]

	// Rolling says when an object ends, and another begins, before the epoch does. The zero value has limits too.
	Rolling parts.Rolling

	PartSize int // bytes sent, and held in memory, at a time, 5 MiB to 1 GiB. Unset: 8 MiB
	Uploads  int // parts that one task has on their way at most. Unset: 3
	MaxOpen  int // objects that one task has open at once; one more ends the one that was used least recently. Unset: 16; negative: no limit

	Endpoint    string // the server's URL. Unset: that of Amazon, or AWS_ENDPOINT_URL
	Region      string // the bucket's. Unset: AWS_REGION, the profile's, or with an Endpoint us-east-1
	VirtualHost bool   // the bucket's name is in the host's even with an Endpoint. Unset: in the path there

	// AccessKey and SecretKey identify the user. Unset: the usual chain: environment, profile, web identity, instance role.
	AccessKey, SecretKey string

	// Timeout is for one request with its repetitions; a part has to get through in it. Unset: one minute.
	Timeout time.Duration

	// Lost says what to do about objects that were prepared and can't be completed any more. Unset: [txn.FailOnLoss].
	Lost txn.Loss
}

var (
	_ sink.TwoPhase[string] = TxSink[string]{}
	_ sink.Preflight        = TxSink[string]{}
)

// settings are what of TxSink doesn't depend on the type.
type settings struct {
	bucket, prefix, suffix string
	partSize               int
	uploads                int
	timeout                time.Duration
	client                 s3client.Options
	plain                  bool // of Sink
}

func (s TxSink[T]) settings() settings {
	o := settings{
		bucket: s.Bucket, prefix: underPrefix(s.Prefix), suffix: s.suffix(), partSize: s.PartSize, uploads: s.Uploads, timeout: s.Timeout,
		client: s.client(),
	}
	if o.partSize == 0 {
		o.partSize = defaultPart
	}
	if o.uploads == 0 {
		o.uploads = defaultUploads
	}
	if o.timeout == 0 {
		o.timeout = defaultTimeout
	}
	return o
}

func (s TxSink[T]) client() s3client.Options {
	return s3client.Options{
		Endpoint: s.Endpoint, Region: s.Region, VirtualHost: s.VirtualHost, AccessKey: s.AccessKey, SecretKey: s.SecretKey, Attempts: attempts, MaxPause: maxPause,
	}
}

// Validate says everything that is wrong with the settings. The constructors call it too.
func (s TxSink[T]) Validate() error {
	errs := checkPlace(s.Bucket, s.Prefix, s.client())
	bad := func(fix, what string, args ...any) { errs = append(errs, wrong(fix, what, args...)) }
	if suffix := s.suffix(); len(suffix) > maxSuffix || strings.ContainsAny(suffix, "/\x00") || suffix != "" && suffix[0] != '.' {
		bad("begin with a dot and leave out slashes", "Suffix is %.100q", suffix)
	}
	if s.PartSize != 0 && (s.PartSize < smallestPart || s.PartSize > largestPart) {
		bad("give bytes from 5 MiB to 1 GiB, or 0 for 8 MiB", "PartSize is %d", s.PartSize)
	}
	if s.Uploads < 0 || s.Timeout < 0 {
		bad("give positive numbers, or 0 for the default", "Uploads is %d, Timeout %v", s.Uploads, s.Timeout)
	}
	return errors.Join(append(errs, s.Lost.Check())...)
}

// TxWriter makes the writer of one task. It makes no request.
func (s TxSink[T]) TxWriter(ctx context.Context, t sink.Task) (sink.TxWriter[T], error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	x, err := openTx(ctx, s.settings(), t)
	if err != nil {
		return nil, err
	}
	w, err := newWriter(parts.Options[T]{
		Format: s.format(), Bucket: s.Folder, Rolling: s.Rolling, MaxOpen: cmp.Or(s.MaxOpen, defaultOpen),
	}, x)
	if err != nil {
		return nil, errors.Join(err, x.Close())
	}
	return w, nil
}

func (s TxSink[T]) format() parts.Format[T] {
	if s.Format == nil {
		return parts.Text[T]{}
	}
	return s.Format
}

func (s TxSink[T]) suffix() string { return cmp.Or(s.Suffix, s.format().Ext()) }

// Committer makes the committer of the operator. It makes no request.
func (s TxSink[T]) Committer(ctx context.Context, t sink.Task) (sink.Committer, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	st, err := s.settings().open(ctx)
	if err != nil {
		return nil, err
	}
	return txn.NewCommitter(&resource{s: st, t: t, missed: map[string]time.Time{}}, t, s.Lost), nil
}

// Preflight tries what the sink needs in the bucket, and leaves nothing behind. It takes 30 s at most.
func (s TxSink[T]) Preflight(ctx context.Context) error {
	if err := s.Validate(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, preflightLimit)
	defer cancel()
	return s.settings().preflight(ctx)
}
