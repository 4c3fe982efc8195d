package redis

import (
	"context"
	"errors"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// send writes a batch by one pipeline.
func (s Sink[T]) send(ctx context.Context, client goredis.UniversalClient, batch []T) error {
	c := &Cmds{ctx: ctx, prefix: s.Prefix}
	ends := make([]int, len(batch)) // of each record's commands
	errs := map[int]error{}
	for i, v := range batch {
		begin := len(c.cmds)
		if err := errors.Join(s.Do(v, c), c.err); err != nil {
			errs[i] = async.Refuse(err)
			c.cmds = c.cmds[:begin]
		}
		c.err = nil
		ends[i] = len(c.cmds)
	}
	var failed error // of the pipeline as a whole
	if len(c.cmds) > 0 {
		stop := closeOnCancel(ctx, client)
		defer stop()
		pipe := client.Pipeline()
		for _, cmd := range c.cmds {
			_ = pipe.Process(ctx, cmd) // only queues it
		}
		_, failed = pipe.Exec(ctx)
		settleEntries(ctx, client, c.cmds)
		s.lookAround(client, failed)
	}
	begin := 0
	for i, end := range ends {
		for _, cmd := range c.cmds[begin:end] {
			if err := s.judge(cmd, failed); err != nil {
				errs[i] = err
				break
			}
		}
		begin = end
	}
	if len(errs) > 0 {
		return &async.Partial{Errs: errs}
	}
	return nil
}

// judge says what the answer to one command means for its record. When the server refuses to open the session, the client
// leaves the commands without error as well as without answer: failed is the error then.
func (s Sink[T]) judge(cmd *goredis.Cmd, failed error) error {
	err := cmd.Err()
	_, answered := errors.AsType[goredis.Error](err)
	if err == nil && cmd.Val() == nil {
		err = failed
		if err == nil {
			err = errNoAnswer
		}
	}
	switch {
	case err == nil:
		return nil
	case denied(err):
		return sink.Permanent(s.authFailed(err))
	case elsewhere(err) && !s.clustered():
		return sink.Permanent(s.inCluster(err))
	case alone(err) && s.clustered():
		return sink.Permanent(s.notCluster(err))
	case !answered || passing(err) || elsewhere(err):
		return err
	}
	return async.Refuse(fault.Wrap(fault.SinkRejected, err, "%s %s", cmd.Name(), keyOf(cmd)))
}

func (s Sink[T]) inCluster(err error) error {
	return fault.Wrap(fault.SinkFailed, err, "write to redis server %s, which is part of a cluster", s.addr()).
		WithFix("set Addrs instead of Addr")
}

var errNoAnswer = errors.New("redis server didn't answer the command")

func keyOf(cmd goredis.Cmder) string {
	at := 1
	if cmd.Name() == "eval" {
		at = 3
	}
	if args := cmd.Args(); len(args) > at {
		if key, ok := args[at].(string); ok {
			return key
		}
	}
	return ""
}

// denied says whether the server refused user, password or permission.
func denied(err error) bool { return goredis.IsAuthError(err) || goredis.IsPermissionError(err) }

// lookAround has a cluster's layout read anew, in the background, when a node didn't answer: another may have taken its place.
func (s Sink[T]) lookAround(client goredis.UniversalClient, failed error) {
	if cluster, ok := client.(*goredis.ClusterClient); ok && failed != nil {
		if _, answered := errors.AsType[goredis.Error](failed); !answered {
			cluster.ReloadState(context.Background())
		}
	}
}

// elsewhere says whether the key belongs to another server of a cluster.
func elsewhere(err error) bool {
	_, moved := goredis.IsMovedError(err)
	_, ask := goredis.IsAskError(err)
	return moved || ask || goredis.HasErrorPrefix(err, "CROSSSLOT")
}

// passing says whether the server's answer has to do with its present condition and not with the command.
func passing(err error) bool {
	return goredis.IsLoadingError(err) || goredis.IsReadOnlyError(err) || goredis.IsOOMError(err) ||
		goredis.IsMasterDownError(err) || goredis.IsClusterDownError(err) || goredis.IsTryAgainError(err) ||
		goredis.IsMaxClientsError(err) || goredis.IsNoReplicasError(err) ||
		goredis.HasErrorPrefix(err, "MISCONF") || goredis.HasErrorPrefix(err, "BUSY") ||
		strings.Contains(err.Error(), "UNBLOCKED")
}
