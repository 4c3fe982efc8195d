package testsvc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisStartTimeout bounds one start.
const redisStartTimeout = 30 * time.Second

// RedisOptions are the settings of one server. The zero value is a server without a password.
type RedisOptions struct {
	// Password is what clients must present. Unset = none.
	Password string
	// Args are further command line arguments of redis-server, such as "--maxmemory", "10mb".
	Args []string
}

// RedisServer is a Redis of its own. It appends every write to its log before it answers, so a Kill loses nothing
// that was acknowledged.
type RedisServer struct {
	// Addr is host:port. It stays the same over Kill and Restart.
	Addr string
	// Dir holds the data and redis.log.
	Dir string

	o    RedisOptions
	proc *proc
}

// StartRedis starts a server with its data under dir, which is created if absent and isn't removed by Stop. Data of an
// earlier server in dir is loaded. It blocks until the server answers, ctx ends or 30 s have passed. ctx doesn't end
// the server: call Stop.
func StartRedis(ctx context.Context, dir string, o RedisOptions) (*RedisServer, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("start redis: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("start redis: create directory: %w", err)
	}
	for {
		port, err := freePort()
		if err != nil {
			return nil, fmt.Errorf("start redis: %w", err)
		}
		r := &RedisServer{Addr: hostPort(port), Dir: dir, o: o}
		if err = r.Restart(ctx); err == nil {
			return r, nil
		}
		r.Kill()
		if !errors.Is(err, errAddrInUse) {
			return nil, fmt.Errorf("start redis in %s: %w", dir, err)
		}
	}
}

// Client connects a go-redis client to the server. The caller closes it.
func (r *RedisServer) Client() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: r.Addr, Password: r.o.Password})
}

// Kill ends the server as a crash would, with SIGKILL, and returns when it is gone. Nothing happens if it has ended.
func (r *RedisServer) Kill() {
	if r.proc != nil {
		r.proc.kill()
	}
}

// Stop ends the server in an orderly way, also when it is paused.
func (r *RedisServer) Stop() {
	if r.proc != nil {
		r.proc.stop()
	}
}

// Pause freezes the server with SIGSTOP: connections stay open and get no answer. Elsewhere than on Linux it returns
// an error that is [errors.ErrUnsupported].
func (r *RedisServer) Pause() error { return r.proc.signal(sigStop) }

// Resume lets a paused server go on.
func (r *RedisServer) Resume() error { return r.proc.signal(sigCont) }

// Restart starts the server again after Kill or Stop, with the same data and at the same address. It blocks until the
// server answers, ctx ends or 30 s have passed.
func (r *RedisServer) Restart(ctx context.Context) error {
	_, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		return fmt.Errorf("restart redis: %w", err)
	}
	args := []string{
		"--bind", "127.0.0.1", "--port", port, "--dir", r.Dir, "--daemonize", "no",
		"--save", "", "--appendonly", "yes", "--appendfsync", "no",
	}
	if r.o.Password != "" {
		args = append(args, "--requirepass", r.o.Password)
	}
	log := filepath.Join(r.Dir, "redis.log")
	if err := os.Remove(log); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("restart redis: %w", err)
	}
	p, err := startProc(log, "redis-server", append(args, r.o.Args...)...)
	if err != nil {
		return err
	}
	r.proc = p
	ctx, cancel := context.WithTimeout(ctx, redisStartTimeout)
	defer cancel()
	return p.ready(ctx, r.ping)
}

// ping makes sure that it is this server that answers, not another one that was quicker to take the port, and that it has loaded its data.
func (r *RedisServer) ping(ctx context.Context) error {
	cl := redis.NewClient(&redis.Options{
		Addr: r.Addr, Password: r.o.Password, MaxRetries: -1, DialerRetries: 1, DialTimeout: time.Second, ReadTimeout: 2 * time.Second,
	})
	defer cl.Close()
	info, err := cl.Info(ctx, "server").Result()
	if err != nil {
		return err
	}
	if want := fmt.Sprintf("process_id:%d\r\n", r.proc.cmd.Process.Pid); !strings.Contains(info, want) {
		return fmt.Errorf("another redis answers at %s", r.Addr)
	}
	return cl.Ping(ctx).Err()
}
