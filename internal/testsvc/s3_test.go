package testsvc_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/weirline/weirline/internal/testsvc"
)

// TestS3KeepsUploadsOverKill kills the server with one upload open, one completed, and two as a kill in the midst of a completion leaves
// them, before and after the object was there: each is completed once.
func TestS3KeepsUploadsOverKill(t *testing.T) {
	srv := testsvc.NewS3(t)
	c, err := srv.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	bucket := aws.String(testsvc.S3Bucket)
	completions := map[string]*s3.CompleteMultipartUploadInput{}
	for _, key := range []string{"a/open", "a/done", "a/begun", "a/linked"} {
		up, err := c.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: bucket, Key: aws.String(key)})
		if err != nil {
			t.Fatal(err)
		}
		part, err := c.UploadPart(t.Context(), &s3.UploadPartInput{
			Bucket: bucket, Key: aws.String(key), UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader(key),
		})
		if err != nil {
			t.Fatal(err)
		}
		completions[key] = &s3.CompleteMultipartUploadInput{
			Bucket: bucket, Key: aws.String(key), UploadId: up.UploadId,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{ETag: part.ETag, PartNumber: aws.Int32(1)}}},
		}
	}
	if _, err := c.CompleteMultipartUpload(t.Context(), completions["a/done"]); err != nil {
		t.Fatal(err)
	}
	addr := srv.Addr
	srv.Kill()
	srv.Kill() // a second one does nothing
	data := filepath.Join(srv.Dir, "data", testsvc.S3Bucket)
	for _, key := range []string{"a/begun", "a/linked"} {
		id := aws.ToString(completions[key].UploadId)
		dirs, err := filepath.Glob(filepath.Join(data, ".sgwtmp", "multipart", "*", id))
		if err != nil || len(dirs) != 1 {
			t.Fatal(dirs, err)
		}
		if err := os.Rename(dirs[0], dirs[0]+".0123-1.inprogress"); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(data, "a", "linked"), []byte("a/linked"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := srv.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if srv.Addr != addr {
		t.Errorf("address changed from %s to %s", addr, srv.Addr)
	}
	if left, err := srv.Uploads(t.Context(), "a/"); err != nil || fmt.Sprint(left) != "[a/begun a/open]" {
		t.Errorf("uploads after the restart: %q, %v", left, err)
	}
	for _, key := range []string{"a/open", "a/begun"} {
		if _, err := c.CompleteMultipartUpload(t.Context(), completions[key]); err != nil {
			t.Error(err)
		}
	}
	got, err := srv.Objects(t.Context(), "a/")
	if want := "map[a/begun:a/begun a/done:a/done a/linked:a/linked a/open:a/open]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("objects %v, %v, want %s", got, err, want)
	}
	if left, err := srv.Uploads(t.Context(), ""); err != nil || len(left) > 0 {
		t.Errorf("uploads at the end: %q, %v", left, err)
	}
}
