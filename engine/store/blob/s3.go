package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/weirline/weirline/internal/s3client"
)

// partSize is how many bytes of a large object are sent, and kept in memory, at a time. S3 takes up to 10,000 parts, so a
// blob may have 80 GB.
const partSize = 8 << 20

// S3Options say where a bucket is and how to get in.
type S3Options struct {
	// Bucket is the bucket's name; it must exist. Required.
	Bucket string

	// Prefix comes before all keys, with one slash in between. Unset = none.
	Prefix string

	// Endpoint is the server's URL. Unset = that of Amazon, or AWS_ENDPOINT_URL.
	Endpoint string

	// Region is the bucket's. Unset = AWS_REGION, the profile's, or with an Endpoint us-east-1.
	Region string

	// VirtualHost puts the bucket's name into the host's even with an Endpoint. Unset = into the path there.
	VirtualHost bool

	// AccessKey and SecretKey identify the user. Unset = the usual chain: environment, profile, web identity, instance role.
	AccessKey, SecretKey string

	// Timeout is for one request with its repetitions. Unset = 30 s.
	Timeout time.Duration
}

// S3 is a Bucket on a server that speaks the protocol of S3 with conditional writes. Make it with NewS3.
type S3 struct {
	o S3Options
	c *s3client.Client
}

// NewS3 makes a client. It makes no request but those that find credentials.
func NewS3(ctx context.Context, o S3Options) (*S3, error) {
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	o.Prefix = strings.Trim(o.Prefix, "/")
	if o.Prefix != "" {
		o.Prefix += "/"
	}
	c, err := s3client.New(ctx, s3client.Options{
		Endpoint: o.Endpoint, Region: o.Region, VirtualHost: o.VirtualHost, AccessKey: o.AccessKey, SecretKey: o.SecretKey,
	})
	if err != nil {
		return nil, err
	}
	return &S3{o: o, c: c}, nil
}

func (b *S3) String() string {
	return strings.TrimSuffix("s3://"+b.o.Bucket+"/"+b.o.Prefix, "/")
}

func (b *S3) key(key string) *string { return aws.String(b.o.Prefix + key) }
func (b *S3) bucket() *string        { return aws.String(b.o.Bucket) }

func (b *S3) timeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, b.o.Timeout)
}

// Create implements Bucket.
func (b *S3) Create(ctx context.Context, key string, data []byte) error {
	ctx, cancel := b.timeout(ctx)
	defer cancel()
	_, err := b.c.PutObject(ctx, &s3.PutObjectInput{
		Bucket: b.bucket(), Key: b.key(key), Body: bytes.NewReader(data), IfNoneMatch: aws.String("*"),
	})
	return b.explain("s3:PutObject", err)
}

// Get implements Bucket.
func (b *S3) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	ctx, cancel := b.timeout(ctx)
	defer cancel()
	in := &s3.GetObjectInput{Bucket: b.bucket(), Key: b.key(key)}
	if n > 0 {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", off, off+n-1))
	}
	out, err := b.c.GetObject(ctx, in)
	if err != nil {
		return nil, b.explain("s3:GetObject", err)
	}
	defer out.Body.Close()
	data, err := io.ReadAll(out.Body)
	return data, b.explain("s3:GetObject", err)
}

// Size implements Bucket.
func (b *S3) Size(ctx context.Context, key string) (int64, error) {
	ctx, cancel := b.timeout(ctx)
	defer cancel()
	out, err := b.c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b.bucket(), Key: b.key(key)})
	if err != nil {
		return 0, b.explain("s3:GetObject", err)
	}
	return aws.ToInt64(out.ContentLength), nil
}

// List implements Bucket.
func (b *S3) List(ctx context.Context, prefix, after string, limit int) ([]Object, error) {
	in := &s3.ListObjectsV2Input{Bucket: b.bucket(), Prefix: b.key(prefix)}
	if after != "" {
		in.StartAfter = b.key(after)
	}
	if limit > 0 {
		in.MaxKeys = aws.Int32(int32(min(limit, 1000))) //nolint:gosec // at most 1000
	}
	var out []Object
	for {
		page, err := b.page(ctx, in)
		if err != nil {
			return nil, b.explain("s3:ListBucket", err)
		}
		for _, o := range page.Contents {
			out = append(out, Object{Key: strings.TrimPrefix(aws.ToString(o.Key), b.o.Prefix), Size: aws.ToInt64(o.Size)})
		}
		if !aws.ToBool(page.IsTruncated) || limit > 0 && len(out) >= limit {
			return out, nil
		}
		in.ContinuationToken = page.NextContinuationToken
	}
}

func (b *S3) page(ctx context.Context, in *s3.ListObjectsV2Input) (*s3.ListObjectsV2Output, error) {
	ctx, cancel := b.timeout(ctx)
	defer cancel()
	return b.c.ListObjectsV2(ctx, in)
}

// Delete implements Bucket.
func (b *S3) Delete(ctx context.Context, keys []string) error {
	for len(keys) > 0 {
		n := min(len(keys), 1000)
		var ids []types.ObjectIdentifier
		for _, k := range keys[:n] {
			ids = append(ids, types.ObjectIdentifier{Key: b.key(k)})
		}
		keys = keys[n:]
		if err := b.deleteSome(ctx, ids); err != nil {
			return b.explain("s3:DeleteObject", err)
		}
	}
	return nil
}

func (b *S3) deleteSome(ctx context.Context, ids []types.ObjectIdentifier) error {
	ctx, cancel := b.timeout(ctx)
	defer cancel()
	out, err := b.c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: b.bucket(), Delete: &types.Delete{Objects: ids, Quiet: aws.Bool(true)}})
	if err != nil {
		return err
	}
	for _, e := range out.Errors {
		if code := aws.ToString(e.Code); code != "NoSuchKey" {
			return &deniedError{code: code, err: errors.New(aws.ToString(e.Message))}
		}
	}
	return nil
}

// Put implements Bucket.
func (b *S3) Put(ctx context.Context, key string) (Upload, error) {
	return &s3Upload{b: b, ctx: ctx, key: key}, nil
}

// s3Upload sends a small object in one request and a large one in parts.
type s3Upload struct {
	b     *S3
	ctx   context.Context //nolint:containedctx // of the one upload
	key   string
	buf   []byte
	id    *string // of the multipart upload; nil = none yet
	parts []types.CompletedPart
	size  int64
	ended bool
}

// Write implements io.Writer.
func (u *s3Upload) Write(p []byte) (n int, err error) {
	u.size += int64(len(p))
	for len(p) > 0 {
		if len(u.buf) == partSize {
			if err := u.send(); err != nil {
				return n, err
			}
		}
		m := min(len(p), partSize-len(u.buf))
		u.buf = append(u.buf, p[:m]...)
		n, p = n+m, p[m:]
	}
	return n, nil
}

// send uploads the buffer as a part.
func (u *s3Upload) send() error {
	ctx, cancel := u.b.timeout(u.ctx)
	defer cancel()
	if u.id == nil {
		out, err := u.b.c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: u.b.bucket(), Key: u.b.key(u.key)})
		if err != nil {
			return u.b.explain("s3:PutObject", err)
		}
		u.id = out.UploadId
	}
	number := aws.Int32(int32(len(u.parts) + 1)) //nolint:gosec // at most 10,000
	out, err := u.b.c.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: u.b.bucket(), Key: u.b.key(u.key), UploadId: u.id, PartNumber: number, Body: bytes.NewReader(u.buf),
	})
	if err != nil {
		return u.b.explain("s3:PutObject", err)
	}
	u.parts = append(u.parts, types.CompletedPart{ETag: out.ETag, PartNumber: number})
	u.buf = u.buf[:0]
	return nil
}

// Finish implements Upload.
func (u *s3Upload) Finish() error {
	if u.id != nil {
		if err := u.send(); err != nil {
			return err
		}
	}
	ctx, cancel := u.b.timeout(u.ctx)
	defer cancel()
	var err error
	if u.id == nil {
		_, err = u.b.c.PutObject(ctx, &s3.PutObjectInput{Bucket: u.b.bucket(), Key: u.b.key(u.key), Body: bytes.NewReader(u.buf)})
	} else {
		_, err = u.b.c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: u.b.bucket(), Key: u.b.key(u.key), UploadId: u.id, MultipartUpload: &types.CompletedMultipartUpload{Parts: u.parts},
		})
	}
	err = u.b.explain("s3:PutObject", err)
	if errors.Is(err, fs.ErrNotExist) && u.id != nil {
		// No such upload: the request came through earlier and only its answer was lost, if the object is there.
		if n, sizeErr := u.b.Size(u.ctx, u.key); sizeErr == nil && n == u.size {
			err = nil
		}
	}
	u.ended = err == nil
	return err
}

// Abort implements Upload.
func (u *s3Upload) Abort() {
	if u.ended || u.id == nil {
		return
	}
	u.ended = true
	ctx, cancel := u.b.timeout(u.ctx)
	defer cancel()
	// An upload that stays costs what its parts cost: docs/object-stores.md has the rule that ends it.
	_, _ = u.b.c.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: u.b.bucket(), Key: u.b.key(u.key), UploadId: u.id})
}

var (
	_ Bucket = (*S3)(nil)
	_ error  = (*deniedError)(nil)
)
