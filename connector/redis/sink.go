package redis

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

const (
	defaultAddr    = "localhost:6379"
	dialTimeout    = 5 * time.Second
	preflightLimit = 10 * time.Second
)

// Sink writes records to Redis. Do is needed. It implements [sink.Sink], [sink.Idempotent] and [sink.Preflight].
type Sink[T any] struct {
	Addr     string      // host:port. Unset: localhost:6379, or Addrs
	Addrs    []string    // of a cluster: host:port of some of its nodes, from which the others are learned. Unset: one server, Addr
	Username string      // unset: the server's default user
	Password string      // unset: none
	TLS      *tls.Config // unset: no TLS
	DB       int         // number of the database; a cluster has only 0. Unset: 0

	Prefix string // put before every key. Unset: none

	// Do says by which commands a record is written. An error makes the record a rejected one; none of its commands is
	// sent then. Called by several goroutines at once, and again when the record is sent again.
	Do func(v T, c *Cmds) error

	// Batching holds limits, Key, Retry and the codec; see package async. Its Send belongs to this sink. Without Key all
	// records are in one order, one batch on its way at a time; in a cluster those for one node are. Without Shard, in a
	// cluster a record's first key says to which node it goes, and each node has its own window. Unset: async's defaults.
	Batching async.Sink[T]
}

var (
	_ sink.Sink[string] = Sink[string]{}
	_ sink.Idempotent   = Sink[string]{}
	_ sink.Preflight    = Sink[string]{}
)

// Idempotent implements sink.Idempotent.
func (s Sink[T]) Idempotent() bool { return true }

// Validate says everything that is wrong with the settings. Writer calls it too.
func (s Sink[T]) Validate() error {
	var errs []error
	if s.Do == nil {
		errs = append(errs, fault.New(fault.BadPipeline, "redis sink: Do is missing").
			WithFix("set Do to the function that says by which commands a record is written"))
	}
	if s.Batching.Send != nil {
		errs = append(errs, fault.New(fault.BadPipeline, "redis sink: Batching.Send is set").
			WithFix("leave Batching.Send out; Do says what is sent"))
	}
	if s.DB < 0 || s.DB > 0 && s.clustered() {
		errs = append(errs, fault.New(fault.BadPipeline, "redis sink: DB is %d", s.DB).WithFix("set DB to 0 or more, and to 0 in a cluster"))
	}
	if s.clustered() && s.Addr != "" {
		errs = append(errs, fault.New(fault.BadPipeline, "redis sink: Addr and Addrs are set").
			WithFix("set Addrs for a cluster, Addr for one server"))
	}
	return errors.Join(append(errs, s.batching(nil, nil).Validate())...)
}

// Writer makes the writer of one task. It connects with the first batch; in a cluster without Batching.Shard it asks before
// which node has what, for a second at most for each of Addrs that doesn't answer.
func (s Sink[T]) Writer(ctx context.Context, t sink.Task) (sink.Writer[T], error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	client := s.client()
	w, err := s.batching(client, s.layout(ctx)).Writer(ctx, t)
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return &writer[T]{Writer: w, client: client}, nil
}

// batching is the async sink that sends through client, to a cluster of this layout.
func (s Sink[T]) batching(client goredis.UniversalClient, l *layout) async.Sink[T] {
	b := s.Batching
	if b.Shard == nil && l != nil {
		b.Shard = func(v T) string { return l.nodeOf(s.firstKey(v)) }
	}
	if b.Key == nil {
		b.Key = func(T) string { return "" }
		if b.Shard != nil {
			b.Key = b.Shard
		}
	}
	b.Send = func(ctx context.Context, batch []T) error { return s.send(ctx, client, batch) }
	return b
}

// addr is for messages too.
func (s Sink[T]) addr() string {
	switch {
	case s.clustered():
		return strings.Join(s.Addrs, ", ")
	case s.Addr == "":
		return defaultAddr
	}
	return s.Addr
}

// client leaves repetition and time limits to package async.
func (s Sink[T]) client() goredis.UniversalClient {
	if s.clustered() {
		return s.clusterClient()
	}
	return goredis.NewClient(&goredis.Options{
		Addr: s.addr(), Username: s.Username, Password: s.Password, TLSConfig: s.TLS, DB: s.DB,
		MaxRetries: -1, DialerRetries: 1, DialTimeout: dialTimeout,
		ReadTimeout: -1, WriteTimeout: -1, ContextTimeoutEnabled: true,
		PoolSize: cmp.Or(s.Batching.MaxInFlight, 16), DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// writer is async's, with connections of its own.
type writer[T any] struct {
	sink.Writer[T]
	client goredis.UniversalClient
}

// Unwrap shows async's companions to sink.As.
func (w *writer[T]) Unwrap() any { return w.Writer }

// Close may be called again.
func (w *writer[T]) Close() error {
	err := w.Writer.Close()
	if cerr := w.client.Close(); !errors.Is(cerr, goredis.ErrClosed) {
		err = errors.Join(err, cerr)
	}
	return err
}

// Preflight connects, logs in and looks whether the server takes writes.
func (s Sink[T]) Preflight(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, preflightLimit)
	defer cancel()
	if s.clustered() {
		return s.clusterPreflight(ctx)
	}
	client := s.client()
	defer client.Close()
	defer closeOnCancel(ctx, client)()
	if err := client.Ping(ctx).Err(); err != nil && !passing(err) {
		return s.refused(err)
	}
	info, err := client.Info(ctx, "replication").Result()
	if err != nil {
		return nil //nolint:nilerr // a user that may not ask, or a server still loading: the sink waits and reports by itself
	}
	if strings.Contains(info, "role:slave") && !strings.Contains(info, "slave_read_only:0") {
		return fault.New(fault.Preflight, "redis server %s is a read-only replica", s.addr()).
			WithFix("set Addr to the master's address")
	}
	return nil
}

// refused explains why the first command failed.
func (s Sink[T]) refused(err error) error {
	if denied(err) {
		return s.authFailed(err)
	}
	if _, answered := errors.AsType[goredis.Error](err); answered {
		return fault.Wrap(fault.Preflight, err, "redis server %s refused to start a session", s.addr()).
			WithFix("check Addr, DB and TLS")
	}
	return fault.Wrap(fault.Unreachable, err, "reach redis server %s", s.addr()).
		WithFix("check Addr and TLS, and that the server is up")
}

func (s Sink[T]) authFailed(err error) error {
	who := "without user name"
	if s.Username != "" {
		who = fmt.Sprintf("as user %q", s.Username)
	}
	return fault.Wrap(fault.AuthFailed, err, "log in to redis server %s %s", s.addr(), who).
		WithFix("check Username and Password, and what the user may do")
}

// closeOnCancel makes a cancelled ctx interrupt calls that wait for the server: the client minds deadlines only. The
// function it returns takes that back.
func closeOnCancel(ctx context.Context, client io.Closer) func() bool {
	return context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.Canceled) {
			_ = client.Close() // whoever waits gets the error
		}
	})
}
