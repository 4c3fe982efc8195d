package blob_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/engine/store/blob"
	"github.com/weirline/weirline/engine/store/storetest"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
)

// child is a process that runs a job, where tests can pause and kill one.
var child func(location, out string) int

func TestMain(m *testing.M) {
	for k, v := range map[string]string{
		"AWS_ACCESS_KEY_ID": testsvc.S3AccessKey, "AWS_SECRET_ACCESS_KEY": testsvc.S3SecretKey,
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		if err := os.Setenv(k, v); err != nil {
			panic(err)
		}
	}
	if at := os.Getenv("WEIRLINE_BLOB_JOB"); at != "" {
		os.Exit(child(at, os.Getenv("WEIRLINE_BLOB_OUT")))
	}
	os.Exit(testsvc.Main(m))
}

var places struct {
	sync.Mutex
	n int
}

// prefix is one that no other test has.
func prefix() string {
	places.Lock()
	defer places.Unlock()
	places.n++
	return fmt.Sprint("place-", places.n)
}

// TestSuiteOnS3 runs what every store must do on a real server.
func TestSuiteOnS3(t *testing.T) {
	s3 := testsvc.S3(t)
	storetest.Suite(t, func(t *testing.T) storetest.Place {
		at := prefix()
		dir := filepath.Join(s3.Dir, "data", testsvc.S3Bucket, at)
		return storetest.Place{
			Open:  func(o store.Options) (store.Store, error) { return blob.Open(s3.Location(at), o) },
			Files: func() []string { return storetest.FilesIn(dir) },
			Edit:  func(name string, f func([]byte) []byte) { storetest.EditFile(filepath.Join(dir, name), f) },
		}
	})
}

// bucketOf opens the shared server's bucket.
func bucketOf(t *testing.T, s3 *testsvc.S3Server) blob.Bucket {
	t.Helper()
	b, err := blob.NewS3(t.Context(), blob.S3Options{Bucket: testsvc.S3Bucket, Prefix: prefix(), Endpoint: "http://" + s3.Addr})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestConditionalCreate proves of both kinds of buckets what everything stands on: of sixteen creates of a key at once one
// wins, and the object has its content.
func TestConditionalCreate(t *testing.T) {
	for name, b := range map[string]blob.Bucket{"directory": blob.File{Root: t.TempDir()}, "S3": bucketOf(t, testsvc.S3(t))} {
		t.Run(name, func(t *testing.T) {
			for round := range 25 {
				key := fmt.Sprintf("log/%d", round)
				var wins [16]bool
				var errs [16]error
				var wg sync.WaitGroup
				start := make(chan struct{})
				for i := range wins {
					wg.Go(func() {
						<-start
						err := b.Create(t.Context(), key, fmt.Append(nil, "from ", i))
						wins[i] = err == nil
						if err != nil && !errors.Is(err, fs.ErrExist) {
							errs[i] = err
						}
					})
				}
				close(start)
				wg.Wait()
				if err := errors.Join(errs[:]...); err != nil {
					t.Fatal(err)
				}
				winner, n := 0, 0
				for i, won := range wins {
					if won {
						winner, n = i, n+1
					}
				}
				got, err := b.Get(t.Context(), key, 0, -1)
				if err != nil || n != 1 || string(got) != fmt.Sprint("from ", winner) {
					t.Fatalf("round %d: %d creates succeeded, %d last, the object has %q (%v)", round, n, winner, got, err)
				}
			}
		})
	}
}

// TestListPages goes beyond one page of a listing, and deletes as much.
func TestListPages(t *testing.T) {
	b := bucketOf(t, testsvc.S3(t))
	var keys []string
	for i := range 1100 {
		keys = append(keys, fmt.Sprintf("log/%04d", i))
		if err := b.Create(t.Context(), keys[i], []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	list, err := b.List(t.Context(), "log/", "log/0009", 0)
	if err != nil || len(list) != 1090 || list[0].Key != "log/0010" || list[1089].Key != "log/1099" || list[0].Size != 1 {
		t.Errorf("%d objects listed (%v)", len(list), err)
	}
	if list, err = b.List(t.Context(), "log/", "log/0500", 1); err != nil || len(list) != 1 || list[0].Key != "log/0501" {
		t.Errorf("one listed: %v (%v)", list, err)
	}
	if err := b.Delete(t.Context(), append(keys, "log/absent")); err != nil {
		t.Fatal(err)
	}
	if list, err = b.List(t.Context(), "log/", "", 0); err != nil || len(list) != 0 {
		t.Errorf("%d objects left (%v)", len(list), err)
	}
}

// TestNoAccess opens places that can't be used; each error says what to do.
func TestNoAccess(t *testing.T) {
	s3 := testsvc.S3(t)
	end := "?endpoint=http://" + s3.Addr
	for name, c := range map[string]struct {
		location, key, secret, want, fix string
	}{
		"no bucket":   {location: "s3://nowhere/x" + end, want: "NoSuchBucket", fix: "create the bucket nowhere"},
		"no user":     {location: s3.Location("x"), key: "somebody", secret: "x", want: "No user exists", fix: "AWS_ACCESS_KEY_ID"},
		"no secret":   {location: s3.Location("x"), key: testsvc.S3AccessKey, secret: "x", want: "SignatureDoesNotMatch", fix: "AWS_SECRET_ACCESS_KEY"},
		"no server":   {location: "s3://b/x?endpoint=http://127.0.0.1:1", want: "refused", fix: "check that the server at http://127.0.0.1:1 is up"},
		"parameter":   {location: "s3://b/x?secret=1", want: "unknown parameter", fix: "endpoint, region"},
		"bad timeout": {location: "s3://b/x?timeout=1", want: "timeout=1", fix: "10s"},
		"password":    {location: "s3://me:pass@b/x", want: "me:xxxxx@b", fix: "AWS_ACCESS_KEY_ID"},
		"no name":     {location: "s3:///x", want: "names no bucket", fix: "s3://bucket/prefix"},
		"kind":        {location: "gs://b/x", want: `unknown kind "gs"`, fix: "s3://"},
		"no path":     {location: "file://x", want: "no absolute path", fix: "file:///path"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.key != "" {
				t.Setenv("AWS_ACCESS_KEY_ID", c.key)
				t.Setenv("AWS_SECRET_ACCESS_KEY", c.secret)
			}
			_, err := blob.Open(c.location, store.Options{Job: "j"})
			wantCode(t, err, fault.StateDir, c.want)
			e, _ := errors.AsType[*fault.Error](err)
			if !strings.Contains(e.Fix, c.fix) {
				t.Errorf("the way out is %q, want %q in it", e.Fix, c.fix)
			}
		})
	}
}

func wantCode(t *testing.T, err error, c fault.Code, parts ...string) {
	t.Helper()
	if fault.CodeOf(err) != c.ID {
		t.Fatalf("got %v, want code %s", err, c.ID)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%q isn't in %q", p, err)
		}
	}
}
