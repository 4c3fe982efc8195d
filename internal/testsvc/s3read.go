package testsvc

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/weirline/weirline/internal/s3client"
)

// Client speaks to the server as its user. The caller closes its idle connections.
func (s *S3Server) Client(ctx context.Context) (*s3client.Client, error) {
	return s3client.New(ctx, s3client.Options{Endpoint: "http://" + s.Addr, AccessKey: S3AccessKey, SecretKey: S3SecretKey})
}

// Objects returns what a reader sees: the contents of all objects whose keys begin with prefix, by key.
func (s *S3Server) Objects(ctx context.Context, prefix string) (map[string]string, error) {
	c, err := s.Client(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	all := map[string]string{}
	in := &s3.ListObjectsV2Input{Bucket: aws.String(S3Bucket), Prefix: aws.String(prefix)}
	for {
		page, err := c.ListObjectsV2(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, o := range page.Contents {
			key := aws.ToString(o.Key)
			if strings.HasSuffix(key, "/") {
				continue // a directory of the server's
			}
			out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(S3Bucket), Key: o.Key})
			if err != nil {
				return nil, err
			}
			b, err := io.ReadAll(out.Body)
			_ = out.Body.Close()
			if err != nil {
				return nil, err
			}
			all[key] = string(b)
		}
		if !aws.ToBool(page.IsTruncated) {
			return all, nil
		}
		in.ContinuationToken = page.NextContinuationToken
	}
}

// Uploads returns the keys, which begin with prefix, of the multipart uploads that are neither completed nor aborted.
func (s *S3Server) Uploads(ctx context.Context, prefix string) (keys []string, _ error) {
	c, err := s.Client(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	in := &s3.ListMultipartUploadsInput{Bucket: aws.String(S3Bucket), Prefix: aws.String(prefix)}
	for {
		page, err := c.ListMultipartUploads(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, u := range page.Uploads {
			keys = append(keys, aws.ToString(u.Key))
		}
		if !aws.ToBool(page.IsTruncated) {
			return keys, nil
		}
		in.KeyMarker, in.UploadIdMarker = page.NextKeyMarker, page.NextUploadIdMarker
	}
}

// Abort gives up the uploads of a key prefix whose keys contain a text, and fails if there are none.
func (s *S3Server) Abort(ctx context.Context, prefix, contain string) error {
	c, err := s.Client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	page, err := c.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: aws.String(S3Bucket), Prefix: aws.String(prefix)})
	if err != nil {
		return err
	}
	n := 0
	for _, u := range page.Uploads {
		if !strings.Contains(aws.ToString(u.Key), contain) {
			continue
		}
		n++
		if _, err := c.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: aws.String(S3Bucket), Key: u.Key, UploadId: u.UploadId}); err != nil {
			return err
		}
	}
	if n == 0 {
		return fmt.Errorf("no upload below %s has %s in its key", prefix, contain)
	}
	return nil
}
