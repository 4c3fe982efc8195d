package objects

import (
	"bytes"
	"context"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/s3client"
)

// attempts of one request, with pauses that grow, 20 s in all as a rule. Timeout ends them sooner.
const (
	attempts = 10
	maxPause = 5 * time.Second
)

// Metadata of each object: who made it. The token is the evidence.
const (
	metaToken = "weirline-token"
	metaSlot  = "weirline-slot"
)

// store is a server as one writer or committer speaks to it. Its methods wait for it, Timeout at most, and may be called from any
// goroutine. Their errors are the client's.
type store struct {
	o settings
	c *s3client.Client
}

func (o settings) open(ctx context.Context) (*store, error) {
	c, err := s3client.New(ctx, o.client)
	if err != nil {
		return nil, fault.Wrap(fault.BadPipeline, err, "objects: settings of the client").
			WithFix("mend the profile or the environment (AWS_PROFILE, AWS_REGION and the like)")
	}
	return &store{o: o, c: c}, nil
}

func (s *store) close() { s.c.Close() }

func (s *store) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.o.timeout)
}

// create begins an upload. If the request was repeated, the first may have come through too: the upload it made is aborted.
func (s *store) create(ctx context.Context, key, slot, token string) (id string, err error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	out, err := s.c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: aws.String(s.o.bucket), Key: aws.String(key), Metadata: map[string]string{metaToken: token, metaSlot: slot},
	})
	if err != nil {
		return "", err
	}
	id = aws.ToString(out.UploadId)
	if r, ok := retry.GetAttemptResults(out.ResultMetadata); ok && len(r.Results) == 1 {
		return id, nil
	}
	found, err := s.uploads(ctx, key)
	if err != nil {
		return "", err
	}
	for _, u := range found {
		if u.key == key && u.id != id {
			if err := s.abort(ctx, u); err != nil && !gone(err) {
				return "", err
			}
		}
	}
	return id, nil
}

// put sends a part.
func (s *store) put(ctx context.Context, key, id string, number int, data []byte) (etag string, err error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	out, err := s.c.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: aws.String(s.o.bucket), Key: aws.String(key), UploadId: aws.String(id), PartNumber: aws.Int32(int32(number)), //nolint:gosec // at most 10,000
		Body: bytes.NewReader(data),
	})
	if err != nil {
		return "", err
	}
	return aws.ToString(out.ETag), nil
}

// complete makes an object of an upload.
func (s *store) complete(ctx context.Context, bucket string, o object) error {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	parts := make([]types.CompletedPart, len(o.Parts))
	for i, etag := range o.Parts {
		parts[i] = types.CompletedPart{ETag: aws.String(etag), PartNumber: aws.Int32(int32(i + 1))} //nolint:gosec // at most 10,000
	}
	_, err := s.c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: aws.String(bucket), Key: aws.String(o.Key), UploadId: aws.String(o.Upload), MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	return err
}

// look returns an object's size and the token in its metadata; there is false if there is no such object. A bucket that isn't
// there looks the same.
func (s *store) look(ctx context.Context, bucket, key string) (size int64, token string, there bool, err error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	out, err := s.c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)})
	if status, _ := s3client.Answer(err); status == http.StatusNotFound {
		return 0, "", false, nil
	}
	if err != nil {
		return 0, "", false, err
	}
	return aws.ToInt64(out.ContentLength), out.Metadata[metaToken], true, nil
}

// upload is one that is neither completed nor aborted.
type upload struct {
	key, id string
	begun   time.Time
}

// abort gives an upload up.
func (s *store) abort(ctx context.Context, u upload) error {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	_, err := s.c.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
		Bucket: aws.String(s.o.bucket), Key: aws.String(u.key), UploadId: aws.String(u.id),
	})
	return err
}

// uploads are those whose keys begin with prefix.
func (s *store) uploads(ctx context.Context, prefix string) (all []upload, err error) {
	in := &s3.ListMultipartUploadsInput{Bucket: aws.String(s.o.bucket), Prefix: aws.String(prefix)}
	for {
		page, err := s.uploadPage(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, u := range page.Uploads {
			all = append(all, upload{aws.ToString(u.Key), aws.ToString(u.UploadId), aws.ToTime(u.Initiated)})
		}
		if !aws.ToBool(page.IsTruncated) {
			return all, nil
		}
		in.KeyMarker, in.UploadIdMarker = page.NextKeyMarker, page.NextUploadIdMarker
	}
}

func (s *store) uploadPage(ctx context.Context, in *s3.ListMultipartUploadsInput) (*s3.ListMultipartUploadsOutput, error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	return s.c.ListMultipartUploads(ctx, in)
}

// mine are the uploads under the sink's prefix that wanted says yes to.
func (s *store) mine(ctx context.Context, wanted func(slot, token string) bool) ([]upload, error) {
	all, err := s.uploads(ctx, s.o.prefix)
	if err != nil {
		return nil, err
	}
	var found []upload
	for _, u := range all {
		if slot, token, _, ok := partsOf(u.key); ok && wanted(slot, token) {
			found = append(found, u)
		}
	}
	return found, nil
}

// parts are what of an upload the server has. ok is false if there is a gap.
func (s *store) parts(ctx context.Context, bucket string, u upload) (o object, ok bool, err error) {
	o = object{Key: u.key, Upload: u.id}
	in := &s3.ListPartsInput{Bucket: aws.String(bucket), Key: aws.String(u.key), UploadId: aws.String(u.id)}
	for {
		page, err := s.partPage(ctx, in)
		if err != nil {
			return o, false, err
		}
		for _, p := range page.Parts {
			o.Parts = append(o.Parts, aws.ToString(p.ETag))
			o.Size += aws.ToInt64(p.Size)
			if int(aws.ToInt32(p.PartNumber)) != len(o.Parts) {
				return o, false, nil
			}
		}
		if !aws.ToBool(page.IsTruncated) {
			return o, len(o.Parts) > 0, nil
		}
		in.PartNumberMarker = page.NextPartNumberMarker
	}
}

func (s *store) partPage(ctx context.Context, in *s3.ListPartsInput) (*s3.ListPartsOutput, error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	return s.c.ListParts(ctx, in)
}
