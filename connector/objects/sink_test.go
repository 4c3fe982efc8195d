package objects

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
	"github.com/weirline/weirline/sink/sinktest"
)

// doc is the record of these tests.
type doc struct{ Key, Text string }

// docs is a plain sink under a prefix of its own; a doc without text is removed.
func docs(addr string) Sink[doc] {
	p := place(addr)
	return Sink[doc]{
		Bucket: p.Bucket, Prefix: p.Prefix, Endpoint: p.Endpoint, AccessKey: p.AccessKey, SecretKey: p.SecretKey,
		Key:      func(d doc) string { return d.Key },
		Body:     func(dst []byte, d doc) ([]byte, error) { return append(dst, d.Text...), nil },
		Delete:   func(d doc) bool { return d.Text == "" },
		Batching: async.Sink[doc]{MaxBuffered: 500, Retry: async.Retry{Base: 5 * time.Millisecond, Max: 50 * time.Millisecond}},
	}
}

func openPlain(t *testing.T, s Sink[doc]) sink.Writer[doc] {
	t.Helper()
	w, err := s.Writer(t.Context(), sink.Task{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func put(t *testing.T, w sink.Writer[doc], batch ...doc) {
	t.Helper()
	if err := w.Write(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
}

// flushed waits until all is written or refused, and returns what is refused.
func flushed(t *testing.T, w sink.Writer[doc]) []sink.RejectedRecord {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := w.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	r, _ := sink.As[sink.Rejecter](w)
	return r.Rejects()
}

func wantObjects(t *testing.T, srv *testsvc.S3Server, s Sink[doc], want map[string]string) {
	t.Helper()
	got, err := srv.Objects(t.Context(), s.Prefix+"/")
	if err != nil || len(got) != len(want) {
		t.Errorf("%d objects, %v, want %d", len(got), err, len(want))
	}
	for key, text := range want {
		if got[s.Prefix+"/"+key] != text {
			t.Errorf("object %s is %q, want %q", key, got[s.Prefix+"/"+key], text)
		}
	}
}

func TestSinkContract(t *testing.T) {
	srv := testsvc.NewS3(t) // to be stopped
	s := docs(srv.Addr)
	sinktest.Run(t, sinktest.Case[doc]{
		Sink: s, Records: 30,
		Make: func(i int) doc { return doc{fmt.Sprint("number/", i), fmt.Sprint("text ", i)} },
		Read: func() (all []doc, _ error) {
			got, err := srv.Objects(context.Background(), s.Prefix+"/")
			for key, text := range got {
				all = append(all, doc{strings.TrimPrefix(key, s.Prefix+"/"), text})
			}
			return all, err
		},
		Block: func() func() { return testsvc.Frozen(t, srv) },
	})
}

// The last record of a key is the one that stays, with many objects on their way.
func TestSinkKeepsOrder(t *testing.T) {
	srv := testsvc.S3(t)
	s := docs(srv.Addr)
	w := openPlain(t, s)
	want := map[string]string{}
	for i := range 200 {
		d := doc{fmt.Sprint(i % 9), fmt.Sprint("text ", i)}
		if i%9 == 4 && i > 180 {
			d.Text = ""
		}
		put(t, w, d)
		if want[d.Key] = d.Text; d.Text == "" {
			delete(want, d.Key)
		}
	}
	put(t, w, doc{"never there", ""})
	if bad := flushed(t, w); len(bad) > 0 {
		t.Errorf("refused: %v", bad[0].Err)
	}
	wantObjects(t, srv, s, want)
}

func TestSinkRefuses(t *testing.T) {
	srv := testsvc.S3(t)
	b := before(t, srv)
	s := docs(b.addr)
	s.Body = func(dst []byte, d doc) ([]byte, error) {
		if d.Text == "no" {
			return nil, errors.New("refused by Body")
		}
		return append(dst, d.Text...), nil
	}
	w := openPlain(t, s)
	put(t, w, doc{"", "x"}, doc{"a/../b", "x"}, doc{strings.Repeat("k", 1025), "x"}, doc{"bad\xff", "x"}, doc{"own", "no"}, doc{"fine", "x"})
	says := map[string]string{"": "empty", "a/../b": "part of its path", "bad\xff": "isn't text", "own": "refused by Body", strings.Repeat("k", 1025): "more than 1024"}
	for _, r := range flushed(t, w) {
		key := r.Value.(doc).Key
		if !strings.Contains(r.Err.Error(), says[key]) || fault.CodeOf(r.Err) != fault.SinkRejected.ID {
			t.Errorf("%.20q: got %v, want %q", key, r.Err, says[key])
		}
		delete(says, key)
	}
	if len(says) > 0 {
		t.Errorf("not refused: %v", says)
	}
	wantObjects(t, srv, s, map[string]string{"fine": "x"})
	b.answers(http.MethodPut, http.StatusBadRequest, "EntityTooLarge")
	put(t, w, doc{"large", "x"})
	if bad := flushed(t, w); len(bad) != 1 || !strings.Contains(bad[0].Err.Error(), "EntityTooLarge") {
		t.Errorf("refused %v", bad)
	}
}

// A server that is busy is left alone for as long as it says, and the record is written afterwards.
func TestSinkSlowsDown(t *testing.T) {
	srv := testsvc.S3(t)
	b := before(t, srv)
	s := docs(b.addr)
	begun := time.Now()
	b.on(http.MethodPut, func(n int, w http.ResponseWriter, pass func()) {
		if n > 1 {
			pass()
			return
		}
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, "SlowDown")
	})
	w := openPlain(t, s)
	put(t, w, doc{"a", "x"})
	flushed(t, w)
	if took := time.Since(begun); took < time.Second || b.count(http.MethodPut) != 2 {
		t.Errorf("%d requests in %v, want another one after a second", b.count(http.MethodPut), took)
	}
	wantObjects(t, srv, s, map[string]string{"a": "x"})
}

func TestSinkStops(t *testing.T) {
	b := before(t, testsvc.S3(t))
	for code, says := range map[string]string{"AccessDenied": "allow s3:PutObject on", "NoSuchBucket": "create the bucket", "InvalidAccessKeyId": "AccessKey"} {
		b.answers(http.MethodPut, http.StatusForbidden, code)
		w := openPlain(t, docs(b.addr))
		put(t, w, doc{"a", "x"})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err := w.Flush(ctx)
		cancel()
		if !sink.IsPermanent(err) || fault.CodeOf(err) != fault.SinkFailed.ID || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want %q", code, err, says)
		}
	}
}

// TestSinkServerDies kills the server under a writer.
func TestSinkServerDies(t *testing.T) {
	srv := testsvc.NewS3(t)
	s := docs(srv.Addr)
	w := openPlain(t, s)
	want := map[string]string{}
	var back sync.WaitGroup
	for i := range 300 {
		d := doc{fmt.Sprint(i % 40), fmt.Sprint("text ", i)}
		want[d.Key] = d.Text
		put(t, w, d)
		if i == 150 {
			srv.Kill()
			back.Go(func() {
				if err := srv.Restart(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	back.Wait()
	if bad := flushed(t, w); len(bad) > 0 {
		t.Errorf("refused: %v", bad[0].Err)
	}
	wantObjects(t, srv, s, want)
}

func TestSinkGzip(t *testing.T) {
	srv := testsvc.S3(t)
	s := docs(srv.Addr)
	s.Gzip, s.ContentType = true, "text/plain"
	w := openPlain(t, s)
	put(t, w, doc{"a", strings.Repeat("weir ", 1000)}, doc{"b", "line"})
	flushed(t, w)
	c, err := srv.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(s.Bucket), Key: aws.String(s.Prefix + "/a")})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	body, err := io.ReadAll(out.Body)
	if err != nil || aws.ToString(out.ContentType) != "text/plain" || aws.ToString(out.ContentEncoding) != "gzip" {
		t.Fatalf("type %q, encoding %q, %v", aws.ToString(out.ContentType), aws.ToString(out.ContentEncoding), err)
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(z); err != nil || string(text) != strings.Repeat("weir ", 1000) || len(body) > 1000 {
		t.Errorf("%d bytes hold %d, %v", len(body), len(text), err)
	}
}

func TestSinkSettings(t *testing.T) {
	b := before(t, testsvc.S3(t))
	for says, change := range map[string]func(s *Sink[doc]){
		"Key is missing":         func(s *Sink[doc]) { s.Key = nil },
		"Body is missing":        func(s *Sink[doc]) { s.Body = nil },
		"Batching.Send":          func(s *Sink[doc]) { s.Batching.Send = func(context.Context, []doc) error { return nil } },
		"Batching.MaxBatch is 2": func(s *Sink[doc]) { s.Batching.MaxBatch = 2 },
		`Bucket is "a/b"`:        func(s *Sink[doc]) { s.Bucket = "a/b" },
		"Endpoint isn't":         func(s *Sink[doc]) { s.Endpoint = "host" },
		"is missing":             func(s *Sink[doc]) { s.SecretKey = "" },
	} {
		s := docs(b.addr)
		change(&s)
		_, werr := s.Writer(t.Context(), sink.Task{})
		for _, err := range []error{s.Validate(), werr, s.Preflight(t.Context())} {
			if fault.CodeOf(err) != fault.BadPipeline.ID || !strings.Contains(fmt.Sprint(err), says) {
				t.Errorf("got %v, want %q", err, says)
			}
		}
	}
	s := docs(b.addr)
	if err := s.Preflight(t.Context()); err != nil || !s.Idempotent() {
		t.Error(err)
	}
	b.answers(http.MethodPut, http.StatusForbidden, "AccessDenied")
	if err := s.Preflight(t.Context()); fault.CodeOf(err) != fault.Preflight.ID || !strings.Contains(err.Error(), "allow s3:PutObject on") {
		t.Errorf("may not write: %v", err)
	}
	b.answers(http.MethodDelete, http.StatusForbidden, "AccessDenied")
	if err := s.Preflight(t.Context()); !strings.Contains(fmt.Sprint(err), "s3:DeleteObject") {
		t.Errorf("may not remove: %v", err)
	}
	if s.Delete = nil; s.Preflight(t.Context()) != nil {
		t.Error("a user who needn't remove anything is refused")
	}
	if s.Bucket = "nowhere"; !strings.Contains(fmt.Sprint(s.Preflight(t.Context())), "create the bucket") {
		t.Errorf("no bucket: %v", s.Preflight(t.Context()))
	}
}
