package testsvc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// s3Version is the release of versitygw that scripts/deps.sh builds.
const s3Version = "1.8.0"

// s3StartTimeout bounds one start.
const s3StartTimeout = 30 * time.Second

// S3Bucket is the bucket that every S3Server has.
const S3Bucket = "weirline"

// The keys of the server's only user.
const (
	S3AccessKey = "weirline"
	S3SecretKey = "weirline-secret"
)

// S3Server is a server of its own that speaks the protocol of S3: versitygw over a directory. An object that was
// acknowledged is in a file, so a Kill loses nothing.
type S3Server struct {
	// Addr is host:port. It stays the same over Kill and Restart.
	Addr string
	// Dir holds the buckets' objects under data, and s3.log.
	Dir string

	proc *proc
}

// StartS3 starts a server with its data under dir, which is created if absent and isn't removed by Stop. Objects of an
// earlier server in dir are there again. It blocks until the server answers, ctx ends or 30 s have passed. ctx doesn't end
// the server: call Stop.
func StartS3(ctx context.Context, dir string) (*S3Server, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("start s3: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "data", S3Bucket), 0o755); err != nil {
		return nil, fmt.Errorf("start s3: create directory: %w", err)
	}
	for {
		port, err := freePort()
		if err != nil {
			return nil, fmt.Errorf("start s3: %w", err)
		}
		s := &S3Server{Addr: hostPort(port), Dir: dir}
		if err = s.Restart(ctx); err == nil {
			return s, nil
		}
		s.Kill()
		if !errors.Is(err, errAddrInUse) {
			return nil, fmt.Errorf("start s3 in %s: %w", dir, err)
		}
	}
}

// Location is where a store may be opened: the prefix in the server's bucket. Credentials are S3AccessKey and S3SecretKey.
func (s *S3Server) Location(prefix string) string {
	return "s3://" + S3Bucket + "/" + prefix + "?endpoint=http://" + s.Addr
}

// Kill ends the server as a crash would, with SIGKILL, and returns when it is gone. Nothing happens if it has ended.
func (s *S3Server) Kill() {
	if s.proc != nil {
		s.proc.kill()
	}
}

// Stop ends the server in an orderly way, also when it is paused.
func (s *S3Server) Stop() {
	if s.proc != nil {
		s.proc.stop()
	}
}

// Pause freezes the server with SIGSTOP: connections stay open and get no answer. Elsewhere than on Linux it returns
// an error that is [errors.ErrUnsupported].
func (s *S3Server) Pause() error { return s.proc.signal(sigStop) }

// Resume lets a paused server go on.
func (s *S3Server) Resume() error { return s.proc.signal(sigCont) }

// Restart starts the server again after Kill or Stop, with the same data and at the same address. What a kill has left half completed
// is put right before. It blocks until the server answers, ctx ends or 30 s have passed.
func (s *S3Server) Restart(ctx context.Context) error {
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return fmt.Errorf("restart s3: %w", err)
	}
	log := filepath.Join(s.Dir, "s3.log")
	if err := os.Remove(log); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("restart s3: %w", err)
	}
	if err := s.mend(); err != nil {
		return fmt.Errorf("restart s3: %w", err)
	}
	cache, err := cacheDir()
	if err != nil {
		return fmt.Errorf("restart s3: %w", err)
	}
	bin := filepath.Join(cache, "versitygw-"+s3Version, "versitygw")
	p, err := startProc(log, bin, "--port", "127.0.0.1:"+port, "--access", S3AccessKey, "--secret", S3SecretKey, "--quiet",
		"--health", "/health", "posix", filepath.Join(s.Dir, "data"))
	if err != nil {
		return err
	}
	s.proc = p
	ctx, cancel := context.WithTimeout(ctx, s3StartTimeout)
	defer cancel()
	return p.ready(ctx, s.ping)
}

func (s *S3Server) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Addr+"/health", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("health: %s", resp.Status)
	}
	return nil
}
