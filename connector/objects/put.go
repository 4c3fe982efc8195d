package objects

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/s3client"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// kind is what is said of an object beside its bytes; "" is left out.
type kind struct{ contentType, encoding string }

func (s Sink[T]) kind() kind {
	k := kind{contentType: s.ContentType}
	if s.Gzip {
		k.encoding = "gzip"
	}
	return k
}

// whole writes an object in one request.
func (s *store) whole(ctx context.Context, key string, body []byte, k kind) error {
	in := &s3.PutObjectInput{Bucket: aws.String(s.o.bucket), Key: aws.String(key), Body: bytes.NewReader(body)}
	if k.contentType != "" {
		in.ContentType = aws.String(k.contentType)
	}
	if k.encoding != "" {
		in.ContentEncoding = aws.String(k.encoding)
	}
	_, err := s.c.PutObject(ctx, in)
	return err
}

// remove deletes an object. One that isn't there is no error.
func (s *store) remove(ctx context.Context, key string) error {
	_, err := s.c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String(s.o.bucket), Key: aws.String(key)})
	if _, code := s3client.Answer(err); code == "NoSuchKey" {
		return nil
	}
	return err
}

// send writes or removes one record's object.
func (s Sink[T]) send(ctx context.Context, st *store, v T) error {
	key := st.o.prefix + s.Key(v)
	if err := checkKey(key, st.o.prefix); err != nil {
		return refusal(err)
	}
	if s.Delete != nil && s.Delete(v) {
		return st.verdict(st.remove(ctx, key), "remove", key)
	}
	body, err := s.Body(nil, v)
	if err == nil && s.Gzip {
		body, err = compress(body)
	}
	if err != nil {
		return refusal(err)
	}
	return st.verdict(st.whole(ctx, key, body, s.kind()), "write", key)
}

// refusal makes a record a rejected one: in a batch of one there is nothing to halve.
func refusal(err error) error {
	return &async.Partial{Errs: map[int]error{0: async.Refuse(fault.Wrap(fault.SinkRejected, err, "objects"))}}
}

// checkKey refuses what no server takes, or what servers and proxies would take for another key.
func checkKey(key, prefix string) error {
	switch {
	case len(key) == len(prefix):
		return errors.New("key is empty")
	case len(key) > maxKey:
		return fmt.Errorf("key has %d bytes, more than %d", len(key), maxKey)
	case !utf8.ValidString(key) || strings.ContainsRune(key, 0):
		return fmt.Errorf("key %q isn't text", key)
	}
	for name := range strings.SplitSeq(key, "/") {
		if name == "." || name == ".." {
			return fmt.Errorf("key %q has %s as a part of its path", key, name)
		}
	}
	return nil
}

var compressors = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

func compress(body []byte) ([]byte, error) {
	z := compressors.Get().(*gzip.Writer)
	defer compressors.Put(z)
	var out bytes.Buffer
	z.Reset(&out)
	_, err := z.Write(body)
	err = errors.Join(err, z.Close())
	return out.Bytes(), err
}

// ofRecord are the codes that are about one object only.
var ofRecord = []string{"KeyTooLongError", "EntityTooLarge", "MaxMessageLength", "InvalidObjectState"}

// verdict says what an answer of the server means for a record.
func (s *store) verdict(err error, what, key string) error {
	if err == nil {
		return nil
	}
	status, code := s3client.Answer(err)
	r, listed := codes[code]
	if !listed {
		_, listed = statuses[status]
		r = ruleOf(err)
	}
	if slices.Contains(ofRecord, code) || r.never && !listed && status >= http.StatusBadRequest {
		return refusal(fmt.Errorf("%s object %s: %w", what, key, err))
	}
	f := s.fault(fault.SinkFailed, r, r.never, err, fmt.Sprintf("%s object %s", what, key))
	if r.fix == fixBusy {
		return sink.RetryAfter(f, pauseOf(err))
	}
	return f
}

// longestPause is the longest pause an answer can ask for, in seconds.
const longestPause = 3600

// pauseOf is how long the server asks to be left alone, 0 if it doesn't say.
func pauseOf(err error) time.Duration {
	re, ok := errors.AsType[*awshttp.ResponseError](err)
	if !ok || re.Response == nil {
		return 0
	}
	seconds, err := strconv.Atoi(re.Response.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(min(seconds, longestPause)) * time.Second
}
